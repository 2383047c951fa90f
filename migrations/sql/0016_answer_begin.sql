-- An answer and the hold that pays for it begin in one transaction: both or neither, one round trip instead of three.

-- A caller may name the reservation, so that what it stores beside it can speak of it; the rest is as before.
DROP FUNCTION wallet_reserve(uuid, bigint, text, integer, uuid, uuid, uuid);
CREATE FUNCTION wallet_reserve(
    p_user uuid, p_estimate bigint, p_purpose text, p_ttl_seconds integer, p_request uuid, p_by uuid, p_call uuid,
    p_reservation uuid DEFAULT gen_random_uuid(),
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
    INSERT INTO reservation (
        id, user_id, requested_by, request_id, call_id, purpose, estimate_tokens, created_at, expires_at
    ) VALUES (
        p_reservation, p_user, p_by, p_request, p_call, p_purpose, p_estimate, v_now,
        v_now + make_interval(secs => p_ttl_seconds)
    ) RETURNING * INTO r;
    w := wallet_post(w, 'hold', 'user:available', 'user:held', p_estimate, r.id, p_request, p_call);
    UPDATE wallet t
       SET available_tokens = w.available_tokens, held_tokens = w.held_tokens, sequence = w.sequence, head_hash = w.head_hash
     WHERE t.user_id = p_user;

    outcome := 'reserved';
    available := w.available_tokens;
END
$$;

-- Holds the price under `p_reservation` and opens the answer; a request that opened one before holds nothing.
-- outcome: that of answer_open, or of wallet_reserve when the price could not be held. expired: as in wallet_reserve.
CREATE FUNCTION answer_begin(
    p_answer uuid, p_user uuid, p_conversation uuid, p_title text, p_method text, p_request uuid, p_request_hash bytea,
    p_question text, p_language text, p_reservation uuid, p_max_charge bigint, p_process uuid, p_lease_seconds float8,
    p_open_limit integer, p_payloads json, p_ttl_seconds integer, p_call uuid,
    OUT outcome text, OUT known_id uuid, OUT available bigint, OUT expired bigint
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    v_hash bytea;
BEGIN
    expired := 0;
    SELECT e.answer_id, e.request_hash INTO known_id, v_hash FROM answer_earlier(p_user, p_request) e;
    IF known_id IS NOT NULL THEN
        outcome := CASE WHEN v_hash = p_request_hash THEN 'known' ELSE 'reused' END;
        RETURN;
    END IF;
    -- Each attempt holds under an id of its own: the settlement goes under the question's.
    SELECT h.outcome, h.available, h.expired INTO outcome, available, expired
      FROM wallet_reserve(
        p_user, p_max_charge, 'ask', p_ttl_seconds, gen_random_uuid(), p_user, p_call, p_reservation) h;
    IF outcome <> 'reserved' THEN
        RETURN;
    END IF;
    SELECT o.outcome, o.known_id INTO outcome, known_id
      FROM answer_open(
        p_answer, p_user, p_conversation, p_title, p_method, p_request, p_request_hash, p_question, p_language,
        p_reservation, p_max_charge, p_process, p_lease_seconds, p_open_limit, p_payloads) o;
    IF outcome <> 'opened' THEN
        PERFORM wallet_release(p_reservation, gen_random_uuid(), p_user, p_call);
    END IF;
END
$$;

GRANT EXECUTE ON FUNCTION
    wallet_reserve(uuid, bigint, text, integer, uuid, uuid, uuid, uuid),
    answer_begin(
        uuid, uuid, uuid, text, text, uuid, bytea, text, text, uuid, bigint, uuid, float8, integer, json, integer, uuid)
TO bacmr_app;
