-- Accounts, signed-in devices, refresh tokens and failed sign-ins, with the one rule that says what an access token claims.
--
-- The app role reads its caller's own rows and changes the profile columns. Everything that happens before there is a caller
-- (sign-up, sign-in, refresh) and everything that changes rights goes through the SECURITY DEFINER functions below; they run as
-- bacmr_owner, which the policies named `definer` let through the forced row-level security.
--
-- SQLSTATEs of our own: UA001 the account is disabled, UA002 it would leave no administrator.

CREATE TABLE app_user (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email text CHECK (length(email) <= 254),
    phone text CHECK (phone ~ '^\+[1-9][0-9]{7,14}$'),
    password_hash text,
    issuer text,
    display_name text NOT NULL DEFAULT '' CHECK (length(display_name) <= 100),
    preferred_language text CHECK (preferred_language IN ('fr', 'ar', 'mey', 'other')),
    role text NOT NULL DEFAULT 'student' CHECK (role IN ('student', 'teacher', 'admin', 'service')),
    tier text NOT NULL DEFAULT 'free' CHECK (tier IN ('free', 'standard', 'premium')),
    disabled_at timestamptz,
    erased_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT app_user_erased_is_anonymous
        CHECK (erased_at IS NULL OR (email IS NULL AND phone IS NULL AND password_hash IS NULL AND display_name = ''))
);
COMMENT ON COLUMN app_user.issuer IS 'External issuer that vouches for this person; NULL for accounts that sign in here';
CREATE UNIQUE INDEX app_user_email_key ON app_user (lower(email));
CREATE UNIQUE INDEX app_user_phone_key ON app_user (phone);
CREATE INDEX app_user_newest_first ON app_user (created_at DESC, id DESC);

CREATE TABLE session (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES app_user (id),
    device_name text NOT NULL DEFAULT '' CHECK (length(device_name) <= 100),
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    last_address text NOT NULL DEFAULT '',
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
COMMENT ON TABLE session IS 'A signed-in device: the family of refresh tokens that descend from one sign-in';
CREATE INDEX session_of_user ON session (user_id, last_used_at DESC, id DESC);
CREATE INDEX session_revoked ON session (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE refresh_token (
    token_hash bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    session_id uuid NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES app_user (id),
    generation integer NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at timestamptz,
    expires_at timestamptz NOT NULL
);
COMMENT ON COLUMN refresh_token.generation IS
    'Steps since the sign-in. Using a token ages its whole generation and all before it, so a device has one line of descent';
CREATE INDEX refresh_token_of_session ON refresh_token (session_id, generation);

CREATE TABLE sign_in_attempt (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_hash bytea NOT NULL CHECK (octet_length(account_hash) = 32),
    address text NOT NULL,
    attempted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE sign_in_attempt IS 'Moving window of attempts that did not succeed; the account is a hash, for it may not exist';
CREATE INDEX sign_in_attempt_account ON sign_in_attempt (account_hash, attempted_at DESC);
CREATE INDEX sign_in_attempt_address ON sign_in_attempt (address, attempted_at DESC);
CREATE INDEX sign_in_attempt_age ON sign_in_attempt (attempted_at);

-- Row-level security ---------------------------------------------------------------------------------------------------

ALTER TABLE app_user ENABLE ROW LEVEL SECURITY;
ALTER TABLE app_user FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON app_user TO bacmr_owner USING (true) WITH CHECK (true);
CREATE POLICY own_read ON app_user FOR SELECT TO bacmr_app USING (id = (SELECT bacmr.caller_id()));
CREATE POLICY operator_read ON app_user FOR SELECT TO bacmr_app
    USING ((SELECT bacmr.caller_role()) IN ('admin', 'service'));
CREATE POLICY own_write ON app_user FOR UPDATE TO bacmr_app
    USING (id = (SELECT bacmr.caller_id())) WITH CHECK (id = (SELECT bacmr.caller_id()));

ALTER TABLE session ENABLE ROW LEVEL SECURITY;
ALTER TABLE session FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON session TO bacmr_owner USING (true) WITH CHECK (true);
CREATE POLICY own_read ON session FOR SELECT TO bacmr_app USING (user_id = (SELECT bacmr.caller_id()));
CREATE POLICY operator_read ON session FOR SELECT TO bacmr_app
    USING ((SELECT bacmr.caller_role()) IN ('admin', 'service'));
-- The WITH CHECK makes revocation a one-way street.
CREATE POLICY own_revoke ON session FOR UPDATE TO bacmr_app
    USING (user_id = (SELECT bacmr.caller_id()))
    WITH CHECK (user_id = (SELECT bacmr.caller_id()) AND revoked_at IS NOT NULL);

ALTER TABLE refresh_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE refresh_token FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON refresh_token TO bacmr_owner USING (true) WITH CHECK (true);

ALTER TABLE sign_in_attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE sign_in_attempt FORCE ROW LEVEL SECURITY;
CREATE POLICY definer ON sign_in_attempt TO bacmr_owner USING (true) WITH CHECK (true);

-- The password hash, the refresh tokens and the attempts are reachable through functions only.
REVOKE ALL ON app_user, session, refresh_token, sign_in_attempt FROM PUBLIC, bacmr_app;
GRANT SELECT (id, email, phone, issuer, display_name, preferred_language, role, tier, disabled_at, erased_at, created_at)
    ON app_user TO bacmr_app;
GRANT UPDATE (display_name, preferred_language) ON app_user TO bacmr_app;
GRANT SELECT ON session TO bacmr_app;
GRANT UPDATE (revoked_at) ON session TO bacmr_app;

-- The claims rule ------------------------------------------------------------------------------------------------------

CREATE FUNCTION token_claims(p_user_id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
DECLARE
    v_user app_user;
BEGIN
    SELECT * INTO v_user FROM app_user WHERE id = p_user_id AND erased_at IS NULL;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF v_user.disabled_at IS NOT NULL THEN
        RAISE EXCEPTION 'account disabled' USING ERRCODE = 'UA001';
    END IF;
    RETURN jsonb_build_object(
        'sub', v_user.id,
        'app_metadata', jsonb_build_object('role', v_user.role, 'tier', v_user.tier));
END $$;
COMMENT ON FUNCTION token_claims IS
    'What an access token says about a person, and whether there is one: the only place where rights enter a token';

-- Before there is a caller ---------------------------------------------------------------------------------------------

CREATE FUNCTION create_account(
    p_id uuid, p_email text, p_phone text, p_password_hash text, p_display_name text, p_language text, p_role text
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
BEGIN
    IF p_role <> 'student' AND bacmr.caller_role() NOT IN ('admin', 'service') THEN
        RAISE EXCEPTION 'only operators make accounts with rights' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO app_user (id, email, phone, password_hash, display_name, preferred_language, role)
    VALUES (p_id, p_email, p_phone, p_password_hash, p_display_name, p_language, p_role);
END $$;

CREATE FUNCTION account_for_sign_in(p_email text, p_phone text)
RETURNS TABLE (id uuid, password_hash text, disabled boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
    SELECT u.id, u.password_hash, u.disabled_at IS NOT NULL
    FROM app_user u
    WHERE (lower(u.email) = lower(p_email) OR u.phone = p_phone) AND u.password_hash IS NOT NULL
$$;

CREATE FUNCTION attempt_lock(
    p_account_hash bytea, p_address text, p_window_seconds double precision, p_account_limit integer, p_address_limit integer
) RETURNS TABLE (scope text, wait_seconds double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
    -- A full window is free again when the oldest attempt that fills it leaves it.
    SELECT nth.scope, extract(epoch FROM nth.attempted_at - now()) + p_window_seconds FROM (
        (SELECT 'account' AS scope, attempted_at FROM sign_in_attempt WHERE account_hash = p_account_hash
         ORDER BY attempted_at DESC OFFSET p_account_limit - 1 LIMIT 1)
        UNION ALL
        (SELECT 'address', attempted_at FROM sign_in_attempt WHERE address = p_address AND p_address <> ''
         ORDER BY attempted_at DESC OFFSET p_address_limit - 1 LIMIT 1)
    ) nth
    WHERE nth.attempted_at > now() - make_interval(secs => p_window_seconds)
    ORDER BY nth.attempted_at DESC LIMIT 1
$$;
COMMENT ON FUNCTION attempt_lock IS 'What keeps this account from being tried from this address, and for how many seconds';

CREATE FUNCTION record_attempt(p_account_hash bytea, p_address text, p_window_seconds double precision) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
    DELETE FROM sign_in_attempt WHERE attempted_at <= now() - make_interval(secs => p_window_seconds);
    INSERT INTO sign_in_attempt (account_hash, address) VALUES (p_account_hash, p_address)
$$;

CREATE FUNCTION forgive_attempts(p_account_hash bytea, p_address text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
    DELETE FROM sign_in_attempt WHERE account_hash = p_account_hash AND address = p_address
$$;

CREATE FUNCTION begin_session(
    p_session_id uuid, p_user_id uuid, p_token_hash bytea, p_ttl_seconds double precision,
    p_device_name text, p_address text, p_device_limit integer
) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
DECLARE
    v_claims jsonb;
    v_expires_at timestamptz := clock_timestamp() + make_interval(secs => p_ttl_seconds);
BEGIN
    IF bacmr.caller_id() IS DISTINCT FROM p_user_id THEN
        RAISE EXCEPTION 'a session is opened for who proved to be its owner' USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Who disables the account meanwhile either comes first, and is seen here, or finds this session and ends it.
    PERFORM FROM app_user WHERE id = p_user_id FOR SHARE;
    v_claims := token_claims(p_user_id);
    IF v_claims IS NULL THEN
        RETURN NULL;
    END IF;
    DELETE FROM session
    WHERE user_id = p_user_id AND (expires_at < now() OR revoked_at < now() - interval '1 day');
    UPDATE session SET revoked_at = now() WHERE id IN (
        SELECT id FROM session WHERE user_id = p_user_id AND revoked_at IS NULL
        ORDER BY last_used_at DESC, id DESC OFFSET p_device_limit - 1);
    INSERT INTO session (id, user_id, device_name, last_address, expires_at)
    VALUES (p_session_id, p_user_id, p_device_name, p_address, v_expires_at);
    INSERT INTO refresh_token (token_hash, session_id, user_id, generation, expires_at)
    VALUES (p_token_hash, p_session_id, p_user_id, 0, v_expires_at);
    RETURN v_claims;
END $$;

CREATE FUNCTION rotate_refresh_token(
    p_old_hash bytea, p_new_hash bytea, p_ttl_seconds double precision, p_grace_seconds double precision, p_address text
) RETURNS TABLE (outcome text, session_id uuid, user_id uuid, claims jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_session session;
    v_token refresh_token;
    v_now timestamptz;
    v_claims jsonb;
    v_expires_at timestamptz;
BEGIN
    SELECT s.* INTO v_session FROM session s JOIN refresh_token t ON t.session_id = s.id
    WHERE t.token_hash = p_old_hash FOR UPDATE OF s;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'unknown', NULL::uuid, NULL::uuid, NULL::jsonb;
        RETURN;
    END IF;
    -- Read only under the session's lock: of two parallel refreshes the second must see what the first did.
    SELECT * INTO v_token FROM refresh_token t WHERE t.token_hash = p_old_hash;
    v_now := clock_timestamp();
    v_claims := token_claims(v_session.user_id);
    IF v_claims IS NULL OR v_session.revoked_at IS NOT NULL OR v_token.expires_at <= v_now THEN
        RETURN QUERY SELECT 'ended', v_session.id, v_session.user_id, NULL::jsonb;
        RETURN;
    END IF;
    IF v_token.used_at < v_now - make_interval(secs => p_grace_seconds) THEN
        UPDATE session s SET revoked_at = v_now WHERE s.id = v_session.id;
        RETURN QUERY SELECT 'reused', v_session.id, v_session.user_id, NULL::jsonb;
        RETURN;
    END IF;
    v_expires_at := v_now + make_interval(secs => p_ttl_seconds);
    UPDATE refresh_token t SET used_at = v_now
    WHERE t.session_id = v_session.id AND t.generation <= v_token.generation AND t.used_at IS NULL;
    DELETE FROM refresh_token t WHERE t.session_id = v_session.id AND t.expires_at <= v_now;
    INSERT INTO refresh_token (token_hash, session_id, user_id, generation, expires_at)
    VALUES (p_new_hash, v_session.id, v_session.user_id, v_token.generation + 1, v_expires_at);
    UPDATE session s SET last_used_at = v_now, last_address = p_address, expires_at = v_expires_at
    WHERE s.id = v_session.id;
    RETURN QUERY SELECT 'rotated', v_session.id, v_session.user_id, v_claims;
END $$;
COMMENT ON FUNCTION rotate_refresh_token IS
    'Trades a refresh token for its successor. A refusal is an outcome, not an error: the revocation it causes must commit';

CREATE FUNCTION provision_external(p_id uuid, p_issuer text, p_role text, p_tier text)
RETURNS TABLE (created boolean, tier text, refused boolean, disabled boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_created boolean;
BEGIN
    INSERT INTO app_user (id, issuer, role, tier) VALUES (p_id, p_issuer, p_role, coalesce(p_tier, 'free'))
    ON CONFLICT (id) DO NOTHING;
    v_created := FOUND;
    UPDATE app_user u SET role = p_role, tier = coalesce(p_tier, u.tier)
    WHERE u.id = p_id AND u.issuer = p_issuer AND u.erased_at IS NULL
      AND (u.role, u.tier) IS DISTINCT FROM (p_role, coalesce(p_tier, u.tier));
    -- A foreign issuer must not speak for a person of ours, nor for one of another issuer.
    RETURN QUERY SELECT v_created, u.tier, u.issuer IS DISTINCT FROM p_issuer OR u.erased_at IS NOT NULL,
                        u.disabled_at IS NOT NULL
    FROM app_user u WHERE u.id = p_id;
END $$;

CREATE FUNCTION revoked_sessions(p_since_seconds double precision) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
    SELECT id FROM session WHERE revoked_at > now() - make_interval(secs => p_since_seconds)
$$;

-- For a caller, about the caller ---------------------------------------------------------------------------------------

CREATE FUNCTION own_password_hash() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
    SELECT password_hash FROM app_user WHERE id = bacmr.caller_id()
$$;

CREATE FUNCTION set_password(p_user_id uuid, p_password_hash text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
BEGIN
    IF bacmr.caller_id() IS DISTINCT FROM p_user_id AND bacmr.caller_role() <> 'service' THEN
        RAISE EXCEPTION 'a password is changed by its owner' USING ERRCODE = 'insufficient_privilege';
    END IF;
    UPDATE app_user SET password_hash = p_password_hash
    WHERE id = p_user_id AND issuer IS NULL AND erased_at IS NULL;
END $$;

CREATE FUNCTION keep_an_administrator(p_user_id uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('administrators', 0));
    IF EXISTS (SELECT FROM app_user WHERE id = p_user_id AND role = 'admin' AND disabled_at IS NULL)
       AND NOT EXISTS (SELECT FROM app_user WHERE id <> p_user_id AND role = 'admin' AND disabled_at IS NULL) THEN
        RAISE EXCEPTION 'last administrator' USING ERRCODE = 'UA002';
    END IF;
END $$;
COMMENT ON FUNCTION keep_an_administrator IS 'Refuses (UA002) when this person is the only administrator left';

CREATE FUNCTION erase_account(p_user_id uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
BEGIN
    IF bacmr.caller_id() IS DISTINCT FROM p_user_id THEN
        RAISE EXCEPTION 'an account is erased by its owner' USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM keep_an_administrator(p_user_id);
    UPDATE app_user
    SET email = NULL, phone = NULL, password_hash = NULL, display_name = '', preferred_language = NULL, role = 'student',
        erased_at = now()
    WHERE id = p_user_id AND erased_at IS NULL;
    DELETE FROM refresh_token WHERE user_id = p_user_id;
    -- The rows stay for a while, nameless, so that every process learns that their access tokens ended.
    UPDATE session SET device_name = '', last_address = '', revoked_at = coalesce(revoked_at, now())
    WHERE user_id = p_user_id;
END $$;

-- For operators --------------------------------------------------------------------------------------------------------

CREATE FUNCTION change_access(p_user_id uuid, p_role text, p_tier text, p_disabled boolean)
RETURNS TABLE (before jsonb, after jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
DECLARE
    v_old app_user;
    v_new app_user;
BEGIN
    IF bacmr.caller_role() NOT IN ('admin', 'service') THEN
        RAISE EXCEPTION 'only operators change rights' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF p_role <> 'admin' OR p_disabled THEN
        PERFORM keep_an_administrator(p_user_id);
    END IF;
    SELECT * INTO v_old FROM app_user WHERE id = p_user_id AND erased_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE app_user SET
        role = coalesce(p_role, role),
        tier = coalesce(p_tier, tier),
        disabled_at = CASE p_disabled WHEN true THEN coalesce(disabled_at, now()) WHEN false THEN NULL ELSE disabled_at END
    WHERE id = p_user_id RETURNING * INTO v_new;
    RETURN QUERY SELECT
        jsonb_build_object('role', v_old.role, 'tier', v_old.tier, 'disabled', v_old.disabled_at IS NOT NULL),
        jsonb_build_object('role', v_new.role, 'tier', v_new.tier, 'disabled', v_new.disabled_at IS NOT NULL);
END $$;

CREATE FUNCTION revoke_sessions(p_user_id uuid, p_except uuid) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp AS $$
BEGIN
    IF bacmr.caller_id() IS DISTINCT FROM p_user_id AND bacmr.caller_role() NOT IN ('admin', 'service') THEN
        RAISE EXCEPTION 'sessions are ended by their owner' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN QUERY UPDATE session SET revoked_at = now()
        WHERE user_id = p_user_id AND revoked_at IS NULL AND id IS DISTINCT FROM p_except RETURNING id;
END $$;

REVOKE ALL ON FUNCTION
    token_claims, create_account, account_for_sign_in, attempt_lock, record_attempt, forgive_attempts, begin_session,
    rotate_refresh_token, provision_external, revoked_sessions, own_password_hash, set_password, keep_an_administrator,
    erase_account, change_access, revoke_sessions
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    token_claims, create_account, account_for_sign_in, attempt_lock, record_attempt, forgive_attempts, begin_session,
    rotate_refresh_token, provision_external, revoked_sessions, own_password_hash, set_password, erase_account,
    change_access, revoke_sessions
    TO bacmr_app;
