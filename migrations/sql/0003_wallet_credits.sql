-- Where tokens come from: the welcome grant, vouchers, top-ups and corrections.
--
-- These run inside transactions that carry the caller, so each checks the right of the person it serves. A request that
-- was served before is the business of the idempotency table; the ledger's key (request_id, user_id, kind) is the net.

-- Posts one movement on the user's wallet. Returns it as it is afterwards, or NULL when the user has none.
CREATE FUNCTION wallet_move(
    p_user uuid, p_kind text, p_debit text, p_credit text, p_amount bigint, p_request uuid, p_call uuid, p_reason text DEFAULT ''
) RETURNS wallet
    LANGUAGE plpgsql
AS $$
DECLARE
    w wallet;
BEGIN
    SELECT * INTO w FROM wallet t WHERE t.user_id = p_user FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    w := wallet_post(w, p_kind, p_debit, p_credit, p_amount, NULL, p_request, p_call, p_reason);
    UPDATE wallet t
       SET available_tokens = w.available_tokens, held_tokens = w.held_tokens, sequence = w.sequence, head_hash = w.head_hash
     WHERE t.user_id = p_user;
    RETURN w;
END
$$;

CREATE FUNCTION caller_operates() RETURNS boolean
    LANGUAGE sql STABLE
    RETURN caller_role() IN ('admin', 'service');

-- Opens a new user's wallet, inside the transaction that makes the user.
CREATE FUNCTION wallet_open(p_user uuid, p_welcome_tokens bigint, p_request uuid, p_call uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
BEGIN
    INSERT INTO wallet (user_id) VALUES (p_user);
    IF p_welcome_tokens > 0 THEN
        PERFORM wallet_move(p_user, 'grant', 'platform:grants', 'user:available', p_welcome_tokens, p_request, p_call, 'welcome');
    END IF;
END
$$;

-- outcome: adjusted, insufficient, no_wallet, forbidden.
CREATE FUNCTION wallet_adjust(
    p_user uuid, p_delta bigint, p_reason text, p_request uuid, p_call uuid,
    OUT outcome text, OUT available bigint, OUT entry_sequence bigint
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    w wallet;
BEGIN
    IF caller_role() <> 'admin' THEN
        outcome := 'forbidden';
        RETURN;
    END IF;
    SELECT * INTO w FROM wallet t WHERE t.user_id = p_user FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        outcome := 'no_wallet';
        RETURN;
    END IF;
    IF w.available_tokens + p_delta < 0 THEN
        PERFORM wallet_expire_overdue(p_user, p_call);
        SELECT * INTO w FROM wallet t WHERE t.user_id = p_user;
    END IF;
    available := w.available_tokens;
    IF w.available_tokens + p_delta < 0 THEN
        outcome := 'insufficient';
        RETURN;
    ELSIF p_delta > 0 THEN
        w := wallet_move(p_user, 'adjustment', 'platform:grants', 'user:available', p_delta, p_request, p_call, p_reason);
    ELSE
        w := wallet_move(p_user, 'adjustment', 'user:available', 'platform:grants', -p_delta, p_request, p_call, p_reason);
    END IF;
    outcome := 'adjusted';
    available := w.available_tokens;
    entry_sequence := w.sequence;
END
$$;

-- outcome: credited, known (the same payment again), reused (its reference with another user or amount), no_wallet, forbidden.
CREATE FUNCTION wallet_top_up(
    p_user uuid, p_provider text, p_reference text, p_tokens bigint, p_request uuid, p_call uuid,
    OUT outcome text, OUT available bigint
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    w wallet;
    t top_up;
BEGIN
    IF NOT caller_operates() THEN
        outcome := 'forbidden';
        RETURN;
    END IF;
    SELECT * INTO w FROM wallet x WHERE x.user_id = p_user FOR NO KEY UPDATE;
    -- Nobody could ever spend what an erased account is given.
    IF NOT FOUND OR EXISTS (SELECT FROM app_user u WHERE u.id = p_user AND u.erased_at IS NOT NULL)
        AND NOT EXISTS (SELECT FROM top_up x WHERE x.provider = p_provider AND x.reference = p_reference) THEN
        outcome := 'no_wallet';
        RETURN;
    END IF;
    INSERT INTO top_up (provider, reference, user_id, tokens, request_id)
    VALUES (p_provider, p_reference, p_user, p_tokens, p_request)
    ON CONFLICT (provider, reference) DO NOTHING;
    IF FOUND THEN
        w := wallet_move(
            p_user, 'top_up', 'external:top_up', 'user:available', p_tokens, p_request, p_call, p_provider || ' ' || p_reference);
        outcome := 'credited';
    ELSE
        SELECT * INTO t FROM top_up x WHERE x.provider = p_provider AND x.reference = p_reference;
        outcome := CASE WHEN (t.user_id, t.tokens) = (p_user, p_tokens) THEN 'known' ELSE 'reused' END;
    END IF;
    available := w.available_tokens;
END
$$;

-- Stores a batch of code hashes. outcome: issued, known (the request made this batch before, however long ago), reused (it
-- made another one), forbidden. batch is the one made now, or before.
CREATE FUNCTION wallet_issue_vouchers(
    p_batch uuid, p_tokens bigint, p_expires_at timestamptz, p_code_hashes bytea[], p_request uuid, p_note text DEFAULT '',
    OUT outcome text, OUT batch uuid
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    v_by CONSTANT uuid := coalesce(caller_id(), '00000000-0000-0000-0000-000000000000');
    b    voucher_batch;
BEGIN
    IF caller_role() <> 'admin' THEN
        outcome := 'forbidden';
        RETURN;
    END IF;
    INSERT INTO voucher_batch (id, issued_by, request_id, tokens, expires_at, note)
    VALUES (p_batch, v_by, p_request, p_tokens, p_expires_at, p_note)
    ON CONFLICT (request_id, issued_by) DO NOTHING;
    IF NOT FOUND THEN
        SELECT * INTO b FROM voucher_batch t WHERE t.request_id = p_request AND t.issued_by = v_by;
        batch := b.id;
        outcome := CASE
            WHEN (b.tokens, b.expires_at, b.note) IS DISTINCT FROM (p_tokens, p_expires_at, p_note) THEN 'reused'
            WHEN (SELECT count(*) FROM voucher t WHERE t.batch_id = b.id) <> cardinality(p_code_hashes) THEN 'reused'
            ELSE 'known'
        END;
        RETURN;
    END IF;
    INSERT INTO voucher (code_hash, batch_id, position)
    SELECT h.code_hash, p_batch, h.position FROM unnest(p_code_hashes) WITH ORDINALITY AS h (code_hash, position);
    outcome := 'issued';
    batch := p_batch;
END
$$;

-- Judges a code before anything is redeemed, and counts it when it does not exist. The answer must outlive a refusal, so
-- this commits by itself. Guesses of one user, and of one address, queue on a lock: a hundred at once are counted as a
-- hundred. outcome: known, unknown, locked (with the seconds to wait).
CREATE FUNCTION wallet_guess_voucher(
    p_user uuid, p_address text, p_code_hash bytea, p_request uuid, p_user_limit integer, p_address_limit integer,
    p_window_seconds integer, OUT outcome text, OUT retry_after_seconds double precision
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    v_now   timestamptz;
    v_since timestamptz;
    v_until timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('voucher user ' || p_user, 0));
    PERFORM pg_advisory_xact_lock(hashtextextended('voucher address ' || p_address, 0));
    v_now := clock_timestamp();
    v_since := v_now - make_interval(secs => p_window_seconds);
    DELETE FROM voucher_failure f WHERE f.failed_at <= v_since AND (f.user_id = p_user OR f.address = p_address);

    SELECT max(t.failed_at) INTO v_until FROM (
        (SELECT f.failed_at FROM voucher_failure f WHERE f.user_id = p_user
          ORDER BY f.failed_at DESC OFFSET p_user_limit - 1 LIMIT 1)
        UNION ALL
        (SELECT f.failed_at FROM voucher_failure f WHERE f.address = p_address AND p_address <> ''
          ORDER BY f.failed_at DESC OFFSET p_address_limit - 1 LIMIT 1)
    ) t;
    IF EXISTS (SELECT FROM ledger_entry e WHERE e.request_id = p_request AND e.user_id = p_user AND e.kind = 'voucher'
                  AND e.reservation_id IS NULL) THEN
        outcome := 'known';
    ELSIF v_until IS NOT NULL THEN
        outcome := 'locked';
        retry_after_seconds := extract(epoch FROM v_until - v_since);
    ELSIF EXISTS (SELECT FROM voucher v WHERE v.code_hash = p_code_hash) THEN
        outcome := 'known';
    ELSE
        outcome := 'unknown';
        INSERT INTO voucher_failure (user_id, address, failed_at) VALUES (p_user, p_address, v_now);
    END IF;
END
$$;

-- outcome: redeemed, used, expired, unknown, no_wallet, forbidden.
CREATE FUNCTION wallet_redeem(
    p_user uuid, p_code_hash bytea, p_request uuid, p_call uuid,
    OUT outcome text, OUT tokens bigint, OUT available bigint
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    w wallet;
    v voucher;
    b voucher_batch;
BEGIN
    IF p_user IS DISTINCT FROM caller_id() AND NOT caller_operates() THEN
        outcome := 'forbidden';
        RETURN;
    END IF;
    SELECT * INTO w FROM wallet t WHERE t.user_id = p_user FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        outcome := 'no_wallet';
        RETURN;
    END IF;
    SELECT * INTO v FROM voucher t WHERE t.code_hash = p_code_hash FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    SELECT * INTO b FROM voucher_batch t WHERE t.id = v.batch_id;
    IF v.redeemed_by IS NOT NULL THEN
        outcome := 'used';
        RETURN;
    ELSIF b.expires_at <= clock_timestamp() THEN
        outcome := 'expired';
        RETURN;
    END IF;
    UPDATE voucher t SET redeemed_by = p_user, redeemed_at = clock_timestamp(), request_id = p_request
     WHERE t.code_hash = p_code_hash;
    w := wallet_move(p_user, 'voucher', 'platform:grants', 'user:available', b.tokens, p_request, p_call);
    outcome := 'redeemed';
    tokens := b.tokens;
    available := w.available_tokens;
END
$$;

GRANT EXECUTE ON FUNCTION
    wallet_open(uuid, bigint, uuid, uuid), wallet_adjust(uuid, bigint, text, uuid, uuid),
    wallet_top_up(uuid, text, text, bigint, uuid, uuid), wallet_issue_vouchers(uuid, bigint, timestamptz, bytea[], uuid, text),
    wallet_guess_voucher(uuid, text, bytea, uuid, integer, integer, integer), wallet_redeem(uuid, bytea, uuid, uuid)
TO bacmr_app;
