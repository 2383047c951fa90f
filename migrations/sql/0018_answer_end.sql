-- The end of an answer is one transaction: its hold is settled and what came of it is stored, both or neither.

-- Charges `p_owed` (nothing owed: gives all back) and closes the answer. The receipt goes into the last event and the
-- story, which come without it. A hold that ended before keeps its first settlement; a repeated end, its first receipt.
-- outcome: ended, lost (not this process's any more), reused (`p_settle_request` settled something else).
-- settled: what the hold has become by this call, for counting. expired: as in wallet_finalize.
CREATE FUNCTION answer_end(
    p_answer uuid, p_process uuid, p_after bigint, p_payloads json, p_ending text, p_content text, p_model text,
    p_refusal text, p_validation json, p_citations json, p_correlation uuid, p_story jsonb, p_used bigint,
    p_owed bigint, p_settle_request uuid, p_call uuid,
    OUT outcome text, OUT receipt json, OUT settled text, OUT expired bigint
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    v_began CONSTANT timestamptz := clock_timestamp();
    a       answer;
    f       record;
    v_last  jsonb;
BEGIN
    expired := 0;
    outcome := 'lost';
    SELECT * INTO a FROM answer t WHERE t.id = p_answer AND t.process_id = p_process FOR NO KEY UPDATE;
    IF NOT FOUND OR (a.state = 'running' AND a.last_sequence <> p_after) THEN
        RETURN;
    ELSIF a.state = 'completed' THEN
        outcome := 'ended';
        receipt := a.receipt;
        RETURN;
    END IF;

    SELECT * INTO f FROM wallet_finalize(a.reservation_id, nullif(p_owed, 0), p_settle_request, a.user_id, p_call);
    expired := f.expired;
    IF f.outcome IN ('reused', 'unknown') THEN
        outcome := CASE f.outcome WHEN 'reused' THEN 'reused' ELSE 'lost' END;
        RETURN;
    END IF;
    settled := CASE WHEN f.outcome = 'settled' AND NOT f.replayed THEN (f.r).status END;
    receipt := json_build_object(
        'reserved_tokens', (f.r).estimate_tokens, 'charged_tokens', (f.r).charged_tokens,
        'refunded_tokens', greatest((f.r).estimate_tokens - (f.r).charged_tokens, 0),
        'written_off_tokens', (f.r).written_off_tokens, 'balance_tokens', (f.r).balance_after_tokens,
        'request_id', a.request_id, 'reservation_id', a.reservation_id);
    v_last := (p_payloads -> -1)::jsonb || jsonb_build_object('receipt', receipt);
    PERFORM answer_close(
        p_answer, p_process, p_after,
        (SELECT json_agg(CASE WHEN place = json_array_length(p_payloads) THEN v_last::json ELSE payload END ORDER BY place)
           FROM json_array_elements(p_payloads) WITH ORDINALITY AS new (payload, place)),
        p_ending, p_content, p_model, p_refusal, p_validation, receipt, p_citations, p_correlation,
        jsonb_set(
            p_story || jsonb_build_object(
                'receipt', receipt::jsonb - ARRAY['balance_tokens', 'request_id', 'reservation_id']),
            '{spans_ms,receipt,1}', to_jsonb(round(extract(epoch FROM clock_timestamp() - v_began) * 1000, 3))),
        p_used, p_owed);
    outcome := 'ended';
END
$$;

GRANT EXECUTE ON FUNCTION answer_end(
    uuid, uuid, bigint, json, text, text, text, text, json, json, uuid, jsonb, bigint, bigint, uuid, uuid)
TO bacmr_app;
