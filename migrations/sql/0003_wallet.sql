-- Wallets, reservations, vouchers, top-ups and the hash-chained ledger: tables and who may read them.
--
-- Nobody writes these tables but the SECURITY DEFINER functions of 0003_wallet_holds.sql and 0003_wallet_credits.sql:
-- the app role has SELECT, bound by row-level security, and EXECUTE. Lock order everywhere: wallet, then the rest.

CREATE TABLE wallet (
    user_id          uuid        PRIMARY KEY REFERENCES app_user (id),
    available_tokens bigint      NOT NULL DEFAULT 0 CHECK (available_tokens >= 0),
    held_tokens      bigint      NOT NULL DEFAULT 0 CHECK (held_tokens >= 0),
    sequence         bigint      NOT NULL DEFAULT 0,
    head_hash        bytea       NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    opened_at        timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE wallet IS 'Running totals of a user''s two accounts and the head of the user''s ledger chain.';

-- PostgreSQL reads the expressions of CHECKs anew for every statement; on the two tables of the hot path that doubled the
-- time of a charge. One call of a compiled function costs a twentieth of it and says the same.
CREATE FUNCTION reservation_is_sound(
    p_purpose text, p_estimate bigint, p_delivered bigint, p_status text, p_actual bigint, p_charged bigint,
    p_written_off bigint, p_balance_after bigint, p_created_at timestamptz, p_expires_at timestamptz, p_resolved_at timestamptz
) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
    IF p_purpose !~ '^[a-z][a-z0-9_]{0,31}$' OR p_estimate NOT BETWEEN 1 AND 1000000000 OR p_delivered < 0
        OR p_expires_at <= p_created_at OR p_expires_at > p_created_at + interval '1 day' THEN
        RETURN false;
    ELSIF p_status = 'held' THEN
        RETURN p_charged = 0 AND p_written_off = 0 AND num_nonnulls(p_actual, p_balance_after, p_resolved_at) = 0;
    ELSE
        RETURN p_status IN ('finalized', 'released', 'expired') AND num_nulls(p_actual, p_balance_after, p_resolved_at) = 0
            AND p_charged BETWEEN 0 AND 2 * p_estimate AND p_written_off >= 0 AND p_charged + p_written_off = p_actual
            AND p_balance_after >= 0;
    END IF;
END
$$;

CREATE TABLE reservation (
    id                   uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id              uuid        NOT NULL REFERENCES wallet (user_id),
    requested_by         uuid        NOT NULL,
    request_id           uuid        NOT NULL,
    call_id              uuid        NOT NULL,
    purpose              text        NOT NULL,
    estimate_tokens      bigint      NOT NULL,
    delivered_tokens     bigint      NOT NULL DEFAULT 0,
    status               text        NOT NULL DEFAULT 'held',
    actual_tokens        bigint,
    charged_tokens       bigint      NOT NULL DEFAULT 0,
    written_off_tokens   bigint      NOT NULL DEFAULT 0,
    balance_after_tokens bigint,
    created_at           timestamptz NOT NULL,
    expires_at           timestamptz NOT NULL,
    resolved_at          timestamptz,
    resolved_by          uuid,
    resolve_request_id   uuid,
    CONSTRAINT reservation_sound CHECK (reservation_is_sound(
        purpose, estimate_tokens, delivered_tokens, status, actual_tokens, charged_tokens,
        written_off_tokens, balance_after_tokens, created_at, expires_at, resolved_at))
) WITH (fillfactor = 70);
COMMENT ON TABLE reservation IS 'Holds. The row is also the record of the requests that made and resolved it, so a retry finds its first result.';
COMMENT ON COLUMN reservation.requested_by IS 'The caller whose request_id it is: a service, or the user whose question holds the tokens.';
COMMENT ON COLUMN reservation.call_id IS 'The x-request-id of the call that made it.';
COMMENT ON COLUMN reservation.delivered_tokens IS 'What has durably reached the user; expiry after a crash charges this and no more.';
COMMENT ON COLUMN reservation.resolve_request_id IS 'NULL when the holder itself settled it, or when it expired.';
CREATE UNIQUE INDEX reservation_request ON reservation (request_id, requested_by);
CREATE UNIQUE INDEX reservation_resolve_request ON reservation (resolve_request_id, resolved_by) WHERE resolve_request_id IS NOT NULL;
CREATE INDEX reservation_open ON reservation (user_id, expires_at) WHERE status = 'held';
CREATE INDEX reservation_newest ON reservation (user_id, created_at, id);
CREATE INDEX reservation_call ON reservation (call_id);

CREATE FUNCTION ledger_entry_is_sound(
    p_kind text, p_debit text, p_credit text, p_amount bigint, p_balance_after bigint, p_of_reservation boolean
) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
    RETURN p_amount > 0 AND p_balance_after >= 0 AND CASE p_kind
        WHEN 'hold'       THEN p_of_reservation AND p_debit = 'user:available' AND p_credit = 'user:held'
        WHEN 'overage'    THEN p_of_reservation AND p_debit = 'user:available' AND p_credit = 'user:held'
        WHEN 'charge'     THEN p_of_reservation AND p_debit = 'user:held' AND p_credit = 'platform:revenue'
        WHEN 'refund'     THEN p_of_reservation AND p_debit = 'user:held' AND p_credit = 'user:available'
        WHEN 'expiry'     THEN p_of_reservation AND p_debit = 'user:held' AND p_credit = 'user:available'
        WHEN 'write_off'  THEN p_of_reservation AND p_debit = 'platform:write_off' AND p_credit = 'platform:revenue'
        WHEN 'grant'      THEN NOT p_of_reservation AND p_debit = 'platform:grants' AND p_credit = 'user:available'
        WHEN 'voucher'    THEN NOT p_of_reservation AND p_debit = 'platform:grants' AND p_credit = 'user:available'
        WHEN 'top_up'     THEN NOT p_of_reservation AND p_debit = 'external:top_up' AND p_credit = 'user:available'
        WHEN 'adjustment' THEN NOT p_of_reservation
            AND (p_debit, p_credit) IN (('platform:grants', 'user:available'), ('user:available', 'platform:grants'))
        ELSE false
    END;
END
$$;

-- One row is one balanced transfer, so an unbalanced ledger cannot be written. No foreign keys to wallet and reservation:
-- both rows are locked by the function that posts and can never be deleted, so the keys would only cost time.
CREATE TABLE ledger_entry (
    user_id              uuid        NOT NULL,
    sequence             bigint      NOT NULL,
    kind                 text        NOT NULL,
    debit_account        text        NOT NULL,
    credit_account       text        NOT NULL,
    amount_tokens        bigint      NOT NULL,
    balance_after_tokens bigint      NOT NULL,
    reservation_id       uuid,
    request_id           uuid        NOT NULL,
    call_id              uuid        NOT NULL,
    reason               text        NOT NULL DEFAULT '',
    created_at           timestamptz NOT NULL,
    previous_hash        bytea       NOT NULL,
    hash                 bytea       NOT NULL,
    PRIMARY KEY (user_id, sequence),
    CONSTRAINT ledger_entry_sound CHECK (ledger_entry_is_sound(
        kind, debit_account, credit_account, amount_tokens, balance_after_tokens, reservation_id IS NOT NULL))
);
COMMENT ON TABLE ledger_entry IS 'Append-only; chained per wallet by SHA-256. balance_after_tokens is user:available.';
CREATE UNIQUE INDEX ledger_entry_once_per_reservation ON ledger_entry (reservation_id, kind) WHERE reservation_id IS NOT NULL;
CREATE UNIQUE INDEX ledger_entry_once_per_request ON ledger_entry (request_id, user_id, kind) WHERE reservation_id IS NULL;
CREATE INDEX ledger_entry_call ON ledger_entry (call_id) WHERE reservation_id IS NULL;

CREATE TABLE voucher_batch (
    id         uuid        PRIMARY KEY,
    issued_by  uuid        NOT NULL,
    request_id uuid        NOT NULL,
    tokens     bigint      NOT NULL CHECK (tokens BETWEEN 1 AND 1000000000),
    expires_at timestamptz,
    note       text        NOT NULL DEFAULT '' CHECK (length(note) <= 200),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (request_id, issued_by)
);
COMMENT ON TABLE voucher_batch IS 'Vouchers of one value issued together; expires_at NULL means they never run out, note says for whom.';

CREATE TABLE voucher (
    code_hash   bytea       PRIMARY KEY CHECK (length(code_hash) = 32),
    batch_id    uuid        NOT NULL REFERENCES voucher_batch (id),
    position    integer     NOT NULL CHECK (position > 0),
    redeemed_by uuid        REFERENCES wallet (user_id),
    redeemed_at timestamptz,
    request_id  uuid,
    UNIQUE (batch_id, position),
    CHECK ((redeemed_by IS NULL) = (redeemed_at IS NULL) AND (redeemed_by IS NULL) = (request_id IS NULL))
);
COMMENT ON TABLE voucher IS 'Codes are kept as hashes only. position is the place of the code in its batch.';

CREATE TABLE voucher_failure (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id   uuid        NOT NULL,
    address   text        NOT NULL,
    failed_at timestamptz NOT NULL
);
COMMENT ON TABLE voucher_failure IS 'Codes that did not exist, kept for the length of the brute-force window.';
CREATE INDEX voucher_failure_user ON voucher_failure (user_id, failed_at);
CREATE INDEX voucher_failure_address ON voucher_failure (address, failed_at);

CREATE TABLE top_up (
    provider    text        NOT NULL CHECK (provider ~ '^[a-z][a-z0-9_-]{0,31}$'),
    reference   text        NOT NULL CHECK (length(reference) BETWEEN 1 AND 200),
    user_id     uuid        NOT NULL REFERENCES wallet (user_id),
    tokens      bigint      NOT NULL CHECK (tokens BETWEEN 1 AND 1000000000),
    request_id  uuid        NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, reference)
);
COMMENT ON TABLE top_up IS 'Payments reported by providers; the key is why a repeated callback credits once.';

CREATE FUNCTION refuse_change() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: money is corrected by new entries', TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

DO $$
DECLARE
    money  CONSTANT text[] := ARRAY['wallet', 'reservation', 'ledger_entry', 'voucher_batch', 'voucher', 'top_up'];
    frozen CONSTANT text[] := ARRAY['ledger_entry', 'voucher_batch', 'top_up'];
    owned  CONSTANT text[] := ARRAY['wallet', 'reservation', 'ledger_entry', 'top_up'];
    name   text;
BEGIN
    FOREACH name IN ARRAY money || 'voucher_failure'::text LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        -- FORCE binds the owner too, and the functions run as the owner.
        EXECUTE format('CREATE POLICY functions ON %I TO bacmr_owner USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY operators ON %I FOR SELECT TO bacmr_app USING ((SELECT caller_role()) IN (''admin'', ''service''))', name);
        EXECUTE format('GRANT SELECT ON %I TO bacmr_app', name);
    END LOOP;
    FOREACH name IN ARRAY owned LOOP
        EXECUTE format('CREATE POLICY own ON %I FOR SELECT TO bacmr_app USING (user_id = (SELECT caller_id()))', name);
    END LOOP;
    FOREACH name IN ARRAY money LOOP
        EXECUTE format('CREATE TRIGGER keep_rows BEFORE DELETE OR TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
    END LOOP;
    FOREACH name IN ARRAY frozen LOOP
        EXECUTE format('CREATE TRIGGER keep_values BEFORE UPDATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
    END LOOP;
END
$$;
