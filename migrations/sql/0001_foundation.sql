-- Who is calling, idempotency, and what nobody may do unless it is granted by name.

ALTER DEFAULT PRIVILEGES FOR ROLE bacmr_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- The caller of the running transaction; the server sets both at BEGIN. After a transaction that set them, a pooled
-- connection holds '' instead of NULL.
CREATE FUNCTION caller_id() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.user_id', true), '')::uuid;

CREATE FUNCTION caller_role() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(current_setting('app.role', true), '');

GRANT EXECUTE ON FUNCTION caller_id(), caller_role() TO bacmr_app;

CREATE TABLE idempotency (
    user_id      uuid        NOT NULL,
    request_id   uuid        NOT NULL,
    method       text        NOT NULL,
    payload_hash bytea       NOT NULL,
    result       jsonb,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, request_id)
);
COMMENT ON TABLE idempotency IS 'First results of requests by caller and request_id; the nil user stands for callers without an account.';
CREATE INDEX idempotency_created_at ON idempotency (created_at);

ALTER TABLE idempotency ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON idempotency TO bacmr_app
    USING (user_id = coalesce((SELECT caller_id()), '00000000-0000-0000-0000-000000000000'))
    WITH CHECK (user_id = coalesce((SELECT caller_id()), '00000000-0000-0000-0000-000000000000'));
-- The sweep below runs as the owner, whom FORCE binds as well.
CREATE POLICY sweep ON idempotency FOR ALL TO bacmr_owner USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency TO bacmr_app;

CREATE FUNCTION sweep_idempotency(hours integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    swept bigint;
BEGIN
    -- Retries must find their first result for a day, whatever the caller of this function asks.
    DELETE FROM idempotency WHERE created_at < now() - make_interval(hours => greatest(hours, 24));
    GET DIAGNOSTICS swept = ROW_COUNT;
    RETURN swept;
END
$$;
GRANT EXECUTE ON FUNCTION sweep_idempotency(integer) TO bacmr_app;
