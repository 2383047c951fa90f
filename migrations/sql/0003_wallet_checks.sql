-- Proof: every check of the books, by name. Each function returns the problems it finds, of one wallet or (NULL) of all;
-- none repairs anything. STABLE, so that all of them see the one snapshot of the statement that calls wallet_checks.

CREATE FUNCTION wallet_problems_balances(p_user uuid) RETURNS SETOF text
    LANGUAGE sql STABLE
AS $$
    WITH moved AS (
        SELECT e.user_id, e.sequence, e.balance_after_tokens,
               CASE 'user:available' WHEN e.credit_account THEN e.amount_tokens WHEN e.debit_account THEN -e.amount_tokens ELSE 0 END
                   AS available,
               CASE 'user:held' WHEN e.credit_account THEN e.amount_tokens WHEN e.debit_account THEN -e.amount_tokens ELSE 0 END
                   AS held
          FROM ledger_entry e WHERE p_user IS NULL OR e.user_id = p_user
    ), running AS (
        SELECT m.*, sum(m.available) OVER (PARTITION BY m.user_id ORDER BY m.sequence) AS balance FROM moved m
    ), posted AS (
        SELECT r.user_id, sum(r.available) AS available, sum(r.held) AS held,
               count(*) FILTER (WHERE r.balance <> r.balance_after_tokens) AS wrong
          FROM running r GROUP BY r.user_id
    )
    SELECT format('wallet %s: available %s and held %s, ledger says %s and %s, %s running balances are wrong',
                  user_id, w.available_tokens, w.held_tokens, coalesce(p.available, 0), coalesce(p.held, 0), coalesce(p.wrong, 0))
      FROM (SELECT * FROM wallet WHERE p_user IS NULL OR user_id = p_user) w FULL JOIN posted p USING (user_id)
     WHERE (w.available_tokens, w.held_tokens) IS DISTINCT FROM (coalesce(p.available, 0), coalesce(p.held, 0))
        OR p.wrong > 0 OR w.available_tokens < 0 OR w.held_tokens < 0
$$;

CREATE FUNCTION wallet_problems_holds(p_user uuid) RETURNS SETOF text
    LANGUAGE sql STABLE
AS $$
    SELECT format('wallet %s: held %s, open reservations hold %s', user_id, w.held_tokens, coalesce(r.held, 0))
      FROM (SELECT * FROM wallet WHERE p_user IS NULL OR user_id = p_user) w
      FULL JOIN (SELECT user_id, sum(estimate_tokens) AS held FROM reservation
                  WHERE status = 'held' AND (p_user IS NULL OR user_id = p_user) GROUP BY user_id) r USING (user_id)
     WHERE w.held_tokens IS DISTINCT FROM coalesce(r.held, 0)
$$;

-- What each reservation should have posted, against what it has posted.
CREATE FUNCTION wallet_problems_settlements(p_user uuid) RETURNS SETOF text
    LANGUAGE sql STABLE
AS $$
    WITH due AS (
        SELECT r.id, r.user_id, d.kind, d.amount
          FROM reservation r
         CROSS JOIN LATERAL (VALUES
             ('hold', r.estimate_tokens),
             ('overage', greatest(r.charged_tokens - r.estimate_tokens, 0)),
             ('charge', r.charged_tokens),
             ('refund', CASE WHEN r.status IN ('finalized', 'released') THEN greatest(r.estimate_tokens - r.charged_tokens, 0) END),
             ('expiry', CASE WHEN r.status = 'expired' THEN greatest(r.estimate_tokens - r.charged_tokens, 0) END),
             ('write_off', r.written_off_tokens)
         ) AS d (kind, amount)
         WHERE d.amount > 0 AND (p_user IS NULL OR r.user_id = p_user)
    ), done AS (
        SELECT e.reservation_id AS id, e.user_id, e.kind, sum(e.amount_tokens) AS amount, count(*) AS entries
          FROM ledger_entry e
         WHERE e.reservation_id IS NOT NULL AND (p_user IS NULL OR e.user_id = p_user)
         GROUP BY e.reservation_id, e.user_id, e.kind
    )
    SELECT format('reservation %s: %s of %s is due, %s entries of together %s were posted',
                  id, kind, coalesce(due.amount, 0), coalesce(done.entries, 0), coalesce(done.amount, 0))
      FROM due FULL JOIN done USING (id, user_id, kind)
     WHERE (due.amount, 1) IS DISTINCT FROM (done.amount, done.entries)
$$;

CREATE FUNCTION wallet_problems_chain(p_user uuid) RETURNS SETOF text
    LANGUAGE sql STABLE
AS $$
    WITH chain AS (
        SELECT e.*,
               row_number() OVER wallet AS place,
               lag(e.hash, 1, decode(repeat('00', 32), 'hex')) OVER wallet AS hash_before,
               lead(e.sequence) OVER wallet IS NULL AS is_head
          FROM ledger_entry e WHERE p_user IS NULL OR e.user_id = p_user
        WINDOW wallet AS (PARTITION BY e.user_id ORDER BY e.sequence)
    )
    SELECT format('wallet %s: entry %s does not follow from the one before it or was changed', c.user_id, c.sequence)
      FROM chain c
     WHERE c.sequence <> c.place OR c.previous_hash <> c.hash_before
        OR c.hash IS DISTINCT FROM ledger_hash(
               c.hash_before, c.user_id, c.sequence, c.kind, c.debit_account, c.credit_account, c.amount_tokens,
               c.balance_after_tokens, c.reservation_id, c.request_id, c.call_id, c.created_at, c.reason)
    UNION ALL
    SELECT format('wallet %s: ends at entry %s, the chain at %s', user_id, w.sequence, coalesce(c.sequence, 0))
      FROM (SELECT * FROM wallet WHERE p_user IS NULL OR user_id = p_user) w
      FULL JOIN (SELECT * FROM chain WHERE is_head) c USING (user_id)
     WHERE (w.sequence, w.head_hash) IS DISTINCT FROM (coalesce(c.sequence, 0), coalesce(c.hash, decode(repeat('00', 32), 'hex')))
$$;

-- Two minutes: the sweeper comes every minute.
CREATE FUNCTION wallet_problems_overdue(p_user uuid) RETURNS SETOF text
    LANGUAGE sql STABLE
AS $$
    SELECT format('reservation %s: open since %s, was due at %s', r.id, r.created_at, r.expires_at)
      FROM reservation r
     WHERE r.status = 'held' AND r.expires_at < clock_timestamp() - interval '2 minutes' AND (p_user IS NULL OR r.user_id = p_user)
$$;

CREATE FUNCTION wallet_problems_usage(p_user uuid) RETURNS SETOF text
    LANGUAGE sql STABLE
AS $$
    SELECT format('reservation %s (%s): used %s of an estimate of %s, charged %s, written off %s',
                  r.id, r.status, r.actual_tokens, r.estimate_tokens, r.charged_tokens, r.written_off_tokens)
      FROM reservation r
     WHERE r.status <> 'held' AND (p_user IS NULL OR r.user_id = p_user)
       AND (r.charged_tokens + r.written_off_tokens <> r.actual_tokens OR r.charged_tokens > 2 * r.estimate_tokens
            OR r.status = 'released' AND r.actual_tokens > 0 OR r.status = 'expired' AND r.actual_tokens <> r.delivered_tokens)
$$;

CREATE FUNCTION wallet_problems_requests(p_user uuid) RETURNS SETOF text
    LANGUAGE sql STABLE
AS $$
    SELECT format('request %s made %s reservations', r.request_id, count(*)) FROM reservation r
     WHERE p_user IS NULL OR r.user_id = p_user GROUP BY r.request_id, r.requested_by HAVING count(*) > 1
    UNION ALL
    SELECT format('request %s resolved %s reservations', r.resolve_request_id, count(*)) FROM reservation r
     WHERE r.resolve_request_id IS NOT NULL AND (p_user IS NULL OR r.user_id = p_user)
     GROUP BY r.resolve_request_id, r.resolved_by HAVING count(*) > 1
    UNION ALL
    SELECT format('request %s posted %s entries of kind %s', e.request_id, count(*), e.kind) FROM ledger_entry e
     WHERE e.reservation_id IS NULL AND (p_user IS NULL OR e.user_id = p_user)
     GROUP BY e.request_id, e.user_id, e.kind HAVING count(*) > 1
$$;

-- Vouchers and top-ups against their entries, both ways.
CREATE FUNCTION wallet_problems_credits(p_user uuid) RETURNS SETOF text
    LANGUAGE sql STABLE
AS $$
    WITH paid AS (
        SELECT 'voucher' AS kind, v.redeemed_by AS user_id, v.request_id, b.tokens
          FROM voucher v JOIN voucher_batch b ON b.id = v.batch_id WHERE v.redeemed_by IS NOT NULL
        UNION ALL
        SELECT 'top_up', t.user_id, t.request_id, t.tokens FROM top_up t
    )
    SELECT format('%s of wallet %s (request %s): worth %s, posted %s',
                  kind, user_id, request_id, coalesce(p.tokens, 0), coalesce(e.amount_tokens, 0))
      FROM (SELECT * FROM paid WHERE p_user IS NULL OR user_id = p_user) p
      FULL JOIN (SELECT * FROM ledger_entry WHERE kind IN ('voucher', 'top_up') AND (p_user IS NULL OR user_id = p_user)) e
           USING (kind, user_id, request_id)
     WHERE p.tokens IS DISTINCT FROM e.amount_tokens
$$;

-- What users own, against what the platform's side of the ledger says has been given to them and not been spent.
CREATE FUNCTION wallet_problems_totals(p_user uuid) RETURNS SETOF text
    LANGUAGE sql STABLE
AS $$
    SELECT format('wallets hold %s, the other accounts say %s', w.tokens, e.tokens)
      FROM (SELECT coalesce(sum(available_tokens + held_tokens), 0) AS tokens FROM wallet WHERE p_user IS NULL OR user_id = p_user) w,
           (SELECT coalesce(sum(CASE WHEN debit_account LIKE 'user:%' THEN 0 ELSE amount_tokens END
                                - CASE WHEN credit_account LIKE 'user:%' THEN 0 ELSE amount_tokens END), 0) AS tokens
              FROM ledger_entry WHERE p_user IS NULL OR user_id = p_user) e
     WHERE w.tokens <> e.tokens
$$;

CREATE FUNCTION wallet_checks(p_user uuid) RETURNS TABLE (name text, problems bigint, detail text)
    LANGUAGE sql STABLE
AS $$
    WITH problem (name, what) AS (
        SELECT 'balances_match_ledger', t FROM wallet_problems_balances(p_user) t
        UNION ALL SELECT 'held_matches_open_reservations', t FROM wallet_problems_holds(p_user) t
        UNION ALL SELECT 'reservations_settled_once', t FROM wallet_problems_settlements(p_user) t
        UNION ALL SELECT 'accounts_sum_to_zero', t FROM wallet_problems_totals(p_user) t
        UNION ALL SELECT 'hash_chain_verifies', t FROM wallet_problems_chain(p_user) t
        UNION ALL SELECT 'no_overdue_reservations', t FROM wallet_problems_overdue(p_user) t
        UNION ALL SELECT 'usage_charged_or_written_off', t FROM wallet_problems_usage(p_user) t
        UNION ALL SELECT 'request_ids_unique', t FROM wallet_problems_requests(p_user) t
        UNION ALL SELECT 'credits_match_ledger', t FROM wallet_problems_credits(p_user) t
    ), sample AS (
        SELECT p.name, count(*) AS problems, (array_agg(p.what ORDER BY p.what))[1:5] AS some FROM problem p GROUP BY p.name
    )
    SELECT n.name, coalesce(s.problems, 0),
           CASE WHEN s.problems > 0 THEN format('%s found: %s', s.problems, array_to_string(s.some, '; ')) ELSE 'nothing found' END
      FROM unnest(ARRAY['balances_match_ledger', 'held_matches_open_reservations', 'reservations_settled_once', 'accounts_sum_to_zero',
                        'hash_chain_verifies', 'no_overdue_reservations', 'usage_charged_or_written_off', 'request_ids_unique',
                        'credits_match_ledger']) WITH ORDINALITY AS n (name, place)
      LEFT JOIN sample s ON s.name = n.name
     ORDER BY n.place
$$;

-- One wallet, for its owner or an operator. No row: the caller may not see it, or there is none.
CREATE FUNCTION wallet_verify(p_user uuid) RETURNS TABLE (name text, problems bigint, detail text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = bacmr, pg_temp SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    IF (p_user = caller_id() OR caller_operates()) AND EXISTS (SELECT FROM wallet t WHERE t.user_id = p_user) THEN
        RETURN QUERY SELECT * FROM wallet_checks(p_user);
    END IF;
END
$$;

-- All wallets, for operators. No row: the caller is none.
CREATE FUNCTION wallet_reconcile() RETURNS TABLE (name text, problems bigint, detail text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = bacmr, pg_temp SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    IF caller_operates() THEN
        RETURN QUERY SELECT * FROM wallet_checks(NULL);
    END IF;
END
$$;

-- Net of every account (credits less debits), and one hash over the heads of all chains: written into reports and export
-- manifests, it shows later whether history was rewritten as a whole.
CREATE FUNCTION wallet_totals(OUT accounts jsonb, OUT head text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
BEGIN
    IF NOT caller_operates() THEN
        RETURN;
    END IF;
    SELECT coalesce(jsonb_object_agg(t.account, t.net), '{}') INTO accounts FROM (
        SELECT m.account, sum(m.amount) AS net FROM ledger_entry e
         CROSS JOIN LATERAL (VALUES (e.credit_account, e.amount_tokens), (e.debit_account, -e.amount_tokens)) AS m (account, amount)
         GROUP BY m.account) t;
    SELECT encode(sha256(coalesce(string_agg(uuid_send(w.user_id) || int8send(w.sequence) || w.head_hash, ''::bytea ORDER BY w.user_id),
                                  ''::bytea)), 'hex') INTO head FROM wallet w;
END
$$;

GRANT EXECUTE ON FUNCTION wallet_verify(uuid), wallet_reconcile(), wallet_totals() TO bacmr_app;
