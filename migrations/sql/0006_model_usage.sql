-- What model calls used, beside the wallet's own books: reconciliation compares the two. Outlives answers and quizzes,
-- because charges do.

CREATE TABLE model_usage (
    reservation_id uuid        PRIMARY KEY,
    user_id        uuid        NOT NULL REFERENCES app_user (id),
    purpose        text        NOT NULL,
    model          text        NOT NULL DEFAULT '',
    used_tokens    bigint      CHECK (used_tokens >= 0),
    owed_tokens    bigint      NOT NULL DEFAULT 0 CHECK (owed_tokens >= 0),
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE model_usage IS 'One row for each answer or quiz that was begun, by the reservation that pays for it';
COMMENT ON COLUMN model_usage.used_tokens IS 'As the provider counts, or else we; NULL while it runs, and when its process died';
COMMENT ON COLUMN model_usage.owed_tokens IS 'What of it the student owes, never above the quote';

ALTER TABLE model_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE model_usage FORCE ROW LEVEL SECURITY;
CREATE POLICY functions ON model_usage TO bacmr_owner USING (true) WITH CHECK (true);
CREATE POLICY own ON model_usage FOR SELECT TO bacmr_app
    USING (user_id = (SELECT caller_id()) OR (SELECT caller_role()) IN ('admin', 'service'));
GRANT SELECT ON model_usage TO bacmr_app;

-- Says anew what one reservation's calls have used.
CREATE FUNCTION usage_record(
    p_reservation uuid, p_user uuid, p_purpose text, p_model text, p_used bigint, p_owed bigint
) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
BEGIN
    INSERT INTO model_usage (reservation_id, user_id, purpose, model, used_tokens, owed_tokens)
    VALUES (p_reservation, p_user, p_purpose, p_model, p_used, p_owed)
    ON CONFLICT (reservation_id) DO UPDATE
       SET model = excluded.model, used_tokens = excluded.used_tokens, owed_tokens = excluded.owed_tokens,
           recorded_at = clock_timestamp();
END
$$;
GRANT EXECUTE ON FUNCTION usage_record(uuid, uuid, text, text, bigint, bigint) TO bacmr_app;
