-- Removes accounts and everything that hangs on them.
DROP FUNCTION revoke_sessions, change_access, erase_account, keep_an_administrator, set_password, own_password_hash,
    revoked_sessions, provision_external, rotate_refresh_token, begin_session, forgive_attempts, record_attempt, attempt_lock,
    account_for_sign_in, create_account, token_claims;
DROP TABLE sign_in_attempt, refresh_token, session, app_user;
