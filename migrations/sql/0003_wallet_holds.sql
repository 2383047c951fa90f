-- Postings and holds: the hot path. One call is one round trip and one commit.
--
-- Expected refusals are values of `outcome`, not errors, so that what a call found overdue is settled all the same.
-- Whose wallet a caller may use is decided by the server before it calls (rooms hold for the student whose question
-- they answer, services for any user), because these run on connections that carry no caller. What they guarantee
-- whoever calls: no wallet goes below zero, nothing is charged twice, no token is lost.

-- The text under the hash is unambiguous: only the last part may contain the separator.
CREATE FUNCTION ledger_hash(
    p_previous bytea, p_user uuid, p_sequence bigint, p_kind text, p_debit text, p_credit text, p_amount bigint,
    p_balance_after bigint, p_reservation uuid, p_request uuid, p_call uuid, p_created_at timestamptz, p_reason text
) RETURNS bytea
    LANGUAGE sql STABLE
    RETURN sha256(p_previous || convert_to(
        p_user || '|' || p_sequence || '|' || p_kind || '|' || p_debit || '|' || p_credit || '|' || p_amount || '|'
        || p_balance_after || '|' || coalesce(p_reservation::text, '') || '|' || p_request || '|' || p_call || '|'
        || (extract(epoch FROM p_created_at) * 1000000)::bigint || '|' || p_reason, 'UTF8'));

-- Moves tokens between two accounts in the caller's copy of a locked wallet, and writes the entry. The caller saves the
-- copy; a wallet that was not locked first fails on the entry's key (user_id, sequence).
CREATE FUNCTION wallet_post(
    INOUT w wallet, p_kind text, p_debit text, p_credit text, p_amount bigint,
    p_reservation uuid, p_request uuid, p_call uuid, p_reason text DEFAULT ''
)
    LANGUAGE plpgsql
AS $$
DECLARE
    v_now      CONSTANT timestamptz := clock_timestamp();
    v_previous CONSTANT bytea := w.head_hash;
BEGIN
    w.sequence := w.sequence + 1;
    w.available_tokens := w.available_tokens
        + CASE 'user:available' WHEN p_credit THEN p_amount WHEN p_debit THEN -p_amount ELSE 0 END;
    w.held_tokens := w.held_tokens
        + CASE 'user:held' WHEN p_credit THEN p_amount WHEN p_debit THEN -p_amount ELSE 0 END;
    w.head_hash := ledger_hash(
        v_previous, w.user_id, w.sequence, p_kind, p_debit, p_credit, p_amount, w.available_tokens,
        p_reservation, p_request, p_call, v_now, p_reason);
    INSERT INTO ledger_entry (
        user_id, sequence, kind, debit_account, credit_account, amount_tokens, balance_after_tokens,
        reservation_id, request_id, call_id, reason, created_at, previous_hash, hash
    ) VALUES (
        w.user_id, w.sequence, p_kind, p_debit, p_credit, p_amount, w.available_tokens,
        p_reservation, p_request, p_call, p_reason, v_now, v_previous, w.head_hash
    );
END
$$;

-- Resolves a held reservation of a locked wallet: charges min(actual, twice the estimate, what can be paid), gives the
-- rest of the hold back, writes the rest of the use off.
CREATE FUNCTION wallet_settle(
    w wallet, INOUT r reservation, p_status text, p_actual bigint, p_request uuid, p_by uuid, p_call uuid
)
    LANGUAGE plpgsql
AS $$
DECLARE
    v_request  CONSTANT uuid := coalesce(p_request, r.request_id);
    v_charge   CONSTANT bigint := least(p_actual, 2 * r.estimate_tokens, r.estimate_tokens + w.available_tokens);
    v_overage  CONSTANT bigint := v_charge - r.estimate_tokens;
    v_lost     CONSTANT bigint := p_actual - v_charge;
BEGIN
    IF v_overage > 0 THEN
        w := wallet_post(w, 'overage', 'user:available', 'user:held', v_overage, r.id, v_request, p_call);
    END IF;
    IF v_charge > 0 THEN
        w := wallet_post(w, 'charge', 'user:held', 'platform:revenue', v_charge, r.id, v_request, p_call);
    END IF;
    IF v_overage < 0 THEN
        w := wallet_post(
            w, CASE p_status WHEN 'expired' THEN 'expiry' ELSE 'refund' END,
            'user:held', 'user:available', -v_overage, r.id, v_request, p_call);
    END IF;
    IF v_lost > 0 THEN
        w := wallet_post(
            w, 'write_off', 'platform:write_off', 'platform:revenue', v_lost, r.id, v_request, p_call,
            CASE v_charge WHEN 2 * r.estimate_tokens THEN 'above twice the estimate' ELSE 'above what the wallet held' END);
    END IF;
    UPDATE reservation t
       SET status = p_status, actual_tokens = p_actual, charged_tokens = v_charge, written_off_tokens = v_lost,
           balance_after_tokens = w.available_tokens, resolved_at = clock_timestamp(),
           resolved_by = p_by, resolve_request_id = p_request
     WHERE t.id = r.id AND t.status = 'held'
    RETURNING t.* INTO STRICT r;
    UPDATE wallet t
       SET available_tokens = w.available_tokens, held_tokens = w.held_tokens, sequence = w.sequence, head_hash = w.head_hash
     WHERE t.user_id = w.user_id;
END
$$;

-- Expires the overdue holds of one wallet, which the caller has locked. Charges what was durably delivered.
CREATE FUNCTION wallet_expire_overdue(p_user uuid, p_call uuid, OUT expired bigint, OUT charged_tokens bigint)
    LANGUAGE plpgsql
AS $$
DECLARE
    w wallet;
    r reservation;
BEGIN
    expired := 0;
    charged_tokens := 0;
    -- FOR UPDATE waits for a delivery that is being recorded, so that it is charged.
    FOR r IN SELECT t.* FROM reservation t
              WHERE t.user_id = p_user AND t.status = 'held' AND t.expires_at <= clock_timestamp()
              ORDER BY t.expires_at, t.id FOR UPDATE LOOP
        SELECT * INTO w FROM wallet t WHERE t.user_id = p_user;
        r := wallet_settle(w, r, 'expired', r.delivered_tokens, NULL, NULL, p_call);
        expired := expired + 1;
        charged_tokens := charged_tokens + r.charged_tokens;
    END LOOP;
END
$$;

-- outcome: reserved, insufficient, reused (request_id), no_wallet. expired: overdue holds that were settled on the way.
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

-- outcome: settled, finalized | released | expired (resolved before, or overdue now), reused (request_id), unknown.
-- Without p_actual everything is given back. Without p_request the holder itself settles, under the request that made
-- the reservation; when it cannot say what was used, that is what was durably delivered.
CREATE FUNCTION wallet_finalize(
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

CREATE FUNCTION wallet_release(
    p_reservation uuid, p_request uuid, p_by uuid, p_call uuid,
    OUT outcome text, OUT replayed boolean, OUT expired bigint, OUT r reservation
)
    LANGUAGE sql SECURITY DEFINER SET search_path = bacmr, pg_temp
BEGIN ATOMIC
    SELECT f.outcome, f.replayed, f.expired, f.r FROM wallet_finalize(p_reservation, NULL, p_request, p_by, p_call) f;
END;

-- Records, in the transaction that makes the delivery durable, how many tokens have reached the user so far.
-- outcome: recorded, finalized | released | expired, unknown. Takes no wallet lock, so it never waits for money.
CREATE FUNCTION wallet_deliver(p_reservation uuid, p_tokens bigint) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    v_status text;
BEGIN
    UPDATE reservation t SET delivered_tokens = greatest(t.delivered_tokens, p_tokens)
     WHERE t.id = p_reservation AND t.status = 'held' AND t.expires_at > clock_timestamp();
    IF FOUND THEN
        RETURN 'recorded';
    END IF;
    SELECT CASE t.status WHEN 'held' THEN 'expired' ELSE t.status END INTO v_status FROM reservation t WHERE t.id = p_reservation;
    RETURN coalesce(v_status, 'unknown');
END
$$;

-- The sweeper: settles the overdue holds of up to p_limit wallets. Wallets in use are left for the next sweep; whoever
-- uses them settles what is overdue where it matters. Also forgets failed voucher codes, which name people's addresses.
CREATE FUNCTION wallet_expire(p_limit integer, p_call uuid, OUT expired bigint, OUT charged_tokens bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    v_user  uuid;
    v_found record;
BEGIN
    expired := 0;
    charged_tokens := 0;
    DELETE FROM voucher_failure f WHERE f.failed_at < clock_timestamp() - interval '1 day';
    FOR v_user IN SELECT t.user_id FROM reservation t
                   WHERE t.status = 'held' AND t.expires_at <= clock_timestamp()
                   GROUP BY t.user_id ORDER BY t.user_id LIMIT p_limit LOOP
        PERFORM FROM wallet t WHERE t.user_id = v_user FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND THEN
            v_found := wallet_expire_overdue(v_user, p_call);
            expired := expired + v_found.expired;
            charged_tokens := charged_tokens + v_found.charged_tokens;
        END IF;
    END LOOP;
END
$$;

GRANT EXECUTE ON FUNCTION
    wallet_reserve(uuid, bigint, text, integer, uuid, uuid, uuid), wallet_finalize(uuid, bigint, uuid, uuid, uuid),
    wallet_release(uuid, uuid, uuid, uuid), wallet_deliver(uuid, bigint), wallet_expire(integer, uuid)
TO bacmr_app;
