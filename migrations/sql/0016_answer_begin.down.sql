DROP FUNCTION answer_begin(
    uuid, uuid, uuid, text, text, uuid, bytea, text, text, uuid, bigint, uuid, float8, integer, json, integer, uuid);
DROP FUNCTION wallet_reserve(uuid, bigint, text, integer, uuid, uuid, uuid, uuid);
CREATE FUNCTION wallet_reserve(
    p_user uuid, p_estimate bigint, p_purpose text, p_ttl_seconds integer, p_request uuid, p_by uuid, p_call uuid,
    OUT outcome text, OUT replayed boolean, OUT expired bigint, OUT available bigint, OUT r reservation
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    w     wallet;
    v_now timestamptz;
BEGIN
    replayed := false;
    expired := 0;
    SELECT * INTO w FROM wallet t WHERE t.user_id = p_user FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        outcome := CASE WHEN reservation_request_used(p_request, p_by, NULL) THEN 'reused' ELSE 'no_wallet' END;
        RETURN;
    END IF;
    available := w.available_tokens;

    SELECT * INTO r FROM reservation t WHERE t.request_id = p_request AND t.requested_by = p_by;
    IF FOUND THEN
        replayed := (r.user_id, r.estimate_tokens, r.purpose) = (p_user, p_estimate, p_purpose);
        outcome := CASE WHEN replayed THEN 'reserved' ELSE 'reused' END;
        IF replayed AND r.status = 'held' AND r.expires_at <= clock_timestamp() THEN
            expired := (wallet_expire_overdue(p_user, p_call)).expired;
            SELECT * INTO r FROM reservation t WHERE t.id = r.id;
        END IF;
        RETURN;
    ELSIF EXISTS (SELECT FROM reservation t WHERE t.resolve_request_id = p_request AND t.resolved_by = p_by) THEN
        outcome := 'reused';
        RETURN;
    END IF;

    IF w.available_tokens < p_estimate THEN
        expired := (wallet_expire_overdue(p_user, p_call)).expired;
        SELECT * INTO w FROM wallet t WHERE t.user_id = p_user;
        available := w.available_tokens;
    END IF;
    IF w.available_tokens < p_estimate THEN
        outcome := 'insufficient';
        RETURN;
    END IF;

    v_now := clock_timestamp();
    INSERT INTO reservation (user_id, requested_by, request_id, call_id, purpose, estimate_tokens, created_at, expires_at)
    VALUES (p_user, p_by, p_request, p_call, p_purpose, p_estimate, v_now, v_now + make_interval(secs => p_ttl_seconds))
    RETURNING * INTO r;
    w := wallet_post(w, 'hold', 'user:available', 'user:held', p_estimate, r.id, p_request, p_call);
    UPDATE wallet t
       SET available_tokens = w.available_tokens, held_tokens = w.held_tokens, sequence = w.sequence, head_hash = w.head_hash
     WHERE t.user_id = p_user;

    outcome := 'reserved';
    available := w.available_tokens;
END
$$;
GRANT EXECUTE ON FUNCTION wallet_reserve(uuid, bigint, text, integer, uuid, uuid, uuid) TO bacmr_app;
