CREATE OR REPLACE FUNCTION wallet_reserve(
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
        outcome := 'no_wallet';
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

CREATE OR REPLACE FUNCTION wallet_finalize(
    p_reservation uuid, p_actual bigint, p_request uuid, p_by uuid, p_call uuid,
    OUT outcome text, OUT replayed boolean, OUT expired bigint, OUT r reservation
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    w        wallet;
    v_actual bigint;
    v_status text;
BEGIN
    replayed := false;
    expired := 0;
    SELECT * INTO w FROM wallet t
     WHERE t.user_id = (SELECT h.user_id FROM reservation h WHERE h.id = p_reservation) FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    -- Locked as well, so that a delivery that is being recorded is seen.
    SELECT * INTO r FROM reservation t WHERE t.id = p_reservation FOR NO KEY UPDATE;
    v_actual := coalesce(p_actual, CASE WHEN p_request IS NULL THEN r.delivered_tokens ELSE 0 END);
    v_status := CASE WHEN p_actual IS NULL AND v_actual = 0 THEN 'released' ELSE 'finalized' END;

    IF r.status <> 'held' THEN
        IF r.status <> 'expired' AND (r.resolve_request_id, r.resolved_by) IS NOT DISTINCT FROM (p_request, p_by) THEN
            replayed := (r.status, r.actual_tokens) = (v_status, v_actual);
            outcome := CASE WHEN replayed THEN 'settled' ELSE 'reused' END;
        ELSE
            outcome := r.status;
        END IF;
        RETURN;
    ELSIF p_request IS NOT NULL THEN
        -- A user's own question may settle under the id it was reserved with; for a service that is another request.
        IF EXISTS (SELECT FROM reservation t WHERE t.request_id = p_request AND t.requested_by = p_by
                      AND (t.id <> p_reservation OR t.requested_by <> t.user_id)) THEN
            outcome := 'reused';
            RETURN;
        END IF;
    END IF;
    IF r.expires_at <= clock_timestamp() THEN
        expired := (wallet_expire_overdue(r.user_id, p_call)).expired;
        SELECT * INTO r FROM reservation t WHERE t.id = p_reservation;
        outcome := 'expired';
        RETURN;
    END IF;

    IF least(v_actual, 2 * r.estimate_tokens) > r.estimate_tokens + w.available_tokens THEN
        expired := (wallet_expire_overdue(r.user_id, p_call)).expired;
        SELECT * INTO w FROM wallet t WHERE t.user_id = r.user_id;
    END IF;
    r := wallet_settle(w, r, v_status, v_actual, p_request, p_by, p_call);
    outcome := 'settled';
END
$$;

DROP FUNCTION reservation_request_used(uuid, uuid, uuid);
