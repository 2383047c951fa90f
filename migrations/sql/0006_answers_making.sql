-- The making of an answer: one call is one round trip and one commit, as with the wallet's holds.
--
-- These run on connections that carry no caller: the server says whose answer it is. What they guarantee whoever calls:
-- one answer per request, sequences without gaps, no event after the last, none that its hold does not pay for.

-- The answer that a request made before, with the hash of what it asked.
CREATE FUNCTION answer_earlier(p_user uuid, p_request uuid, OUT answer_id uuid, OUT request_hash bytea)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bacmr, pg_temp
BEGIN ATOMIC
    SELECT a.id, a.request_hash FROM answer a WHERE a.user_id = p_user AND a.request_id = p_request;
END;

-- Opens an answer with its first events.
-- outcome: opened, known (this request opened one before), reused (the request_id asked something else), too_many.
CREATE FUNCTION answer_open(
    p_answer uuid, p_user uuid, p_conversation uuid, p_title text, p_method text, p_request uuid, p_request_hash bytea,
    p_question text, p_language text, p_reservation uuid, p_max_charge bigint, p_process uuid, p_lease_seconds float8,
    p_open_limit integer, p_payloads json,
    OUT outcome text, OUT known_id uuid
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    v_hash bytea;
BEGIN
    -- Nothing is delivered yet: the first batch with text makes this durable too, and until then a crash only loses a
    -- question whose hold expires.
    PERFORM set_config('synchronous_commit', 'off', true);
    -- One at a time per user, so that two openings cannot both be the last one allowed.
    PERFORM pg_advisory_xact_lock(6, hashtext(p_user::text));
    SELECT a.id, a.request_hash INTO known_id, v_hash
      FROM answer a WHERE a.user_id = p_user AND a.request_id = p_request;
    IF FOUND THEN
        outcome := CASE WHEN v_hash = p_request_hash THEN 'known' ELSE 'reused' END;
        RETURN;
    END IF;
    -- The same id may not have been used by another method either.
    INSERT INTO idempotency (user_id, request_id, method, payload_hash, result)
    VALUES (p_user, p_request, p_method, p_request_hash, to_jsonb(p_answer)) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        outcome := 'reused';
        RETURN;
    END IF;
    IF (SELECT count(*) FROM answer a WHERE a.user_id = p_user AND a.state = 'running'
           AND a.lease_expires_at > clock_timestamp()) >= p_open_limit THEN
        DELETE FROM idempotency i WHERE i.user_id = p_user AND i.request_id = p_request;
        outcome := 'too_many';
        RETURN;
    END IF;

    INSERT INTO conversation (id, user_id, title) VALUES (p_conversation, p_user, p_title)
    ON CONFLICT (id) DO UPDATE SET updated_at = now() WHERE conversation.user_id = p_user;
    INSERT INTO answer (
        id, user_id, conversation_id, request_id, request_hash, question, detected_language, reservation_id,
        max_charge_tokens, process_id, lease_expires_at, last_sequence
    ) VALUES (
        p_answer, p_user, p_conversation, p_request, p_request_hash, p_question, p_language, p_reservation,
        p_max_charge, p_process, clock_timestamp() + make_interval(secs => p_lease_seconds), json_array_length(p_payloads)
    );
    INSERT INTO answer_event (answer_id, sequence, user_id, payload)
    SELECT p_answer, new.sequence, p_user, new.payload
      FROM json_array_elements(p_payloads) WITH ORDINALITY AS new (payload, sequence);
    PERFORM usage_record(p_reservation, p_user, 'ask', '', NULL, 0);
    outcome := 'opened';
END
$$;

-- Stores a batch of events behind sequence p_after, renews the lease and, through the wallet's own function, records
-- what the batch delivers. Repeating a batch changes nothing.
-- outcome: stored, cancel (stored, and its owner asked to stop it), lost (not this process's any more, or not paid for).
CREATE FUNCTION answer_append(
    p_answer uuid, p_process uuid, p_lease_seconds float8, p_after bigint, p_payloads json, p_delivered bigint
) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    a answer;
BEGIN
    SELECT * INTO a FROM answer t
     WHERE t.id = p_answer AND t.process_id = p_process AND t.state = 'running' AND t.last_sequence >= p_after FOR UPDATE;
    IF NOT FOUND OR (p_delivered > 0 AND wallet_deliver(a.reservation_id, p_delivered) <> 'recorded') THEN
        RETURN 'lost';
    END IF;
    UPDATE answer t
       SET lease_expires_at = clock_timestamp() + make_interval(secs => p_lease_seconds),
           delivered_tokens = greatest(t.delivered_tokens, p_delivered),
           last_sequence = greatest(t.last_sequence, p_after + json_array_length(p_payloads))
     WHERE t.id = p_answer;
    INSERT INTO answer_event (answer_id, sequence, user_id, payload)
    SELECT a.id, p_after + new.place, a.user_id, new.payload
      FROM json_array_elements(p_payloads) WITH ORDINALITY AS new (payload, place)
    ON CONFLICT DO NOTHING;
    RETURN CASE WHEN a.cancel_requested THEN 'cancel' ELSE 'stored' END;
END
$$;

-- Stores the end of an answer with its last events, citations and trace. False when it is not this process's any more.
CREATE FUNCTION answer_close(
    p_answer uuid, p_process uuid, p_after bigint, p_payloads json, p_ending text, p_content text, p_model text,
    p_refusal text, p_validation json, p_receipt json, p_citations json, p_correlation uuid, p_story jsonb,
    p_used bigint, p_owed bigint
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    a answer;
BEGIN
    UPDATE answer t
       SET state = 'completed', completed_at = now(), ending = p_ending, content = p_content, model = p_model,
           refusal = p_refusal, validation = p_validation, receipt = p_receipt,
           last_sequence = p_after + json_array_length(p_payloads)
     WHERE t.id = p_answer AND t.process_id = p_process AND t.state = 'running' AND t.last_sequence = p_after
    RETURNING t.* INTO a;
    IF NOT FOUND THEN
        -- A repeated close finds its own first one.
        RETURN EXISTS (SELECT FROM answer t WHERE t.id = p_answer AND t.process_id = p_process AND t.state = 'completed');
    END IF;
    INSERT INTO answer_event (answer_id, sequence, user_id, payload)
    SELECT a.id, p_after + new.place, a.user_id, new.payload
      FROM json_array_elements(p_payloads) WITH ORDINALITY AS new (payload, place);
    PERFORM usage_record(a.reservation_id, a.user_id, 'ask', p_model, p_used, p_owed);
    INSERT INTO answer_citation (
        answer_id, place, user_id, number, chunk_id, document_id, document_title, page, quote, start_character, end_character
    )
    SELECT a.id, row_number() OVER (), a.user_id, c.number, c.chunk_id, c.document_id, c.document_title, c.page, c.quote,
           c.start, c."end"
      FROM json_to_recordset(p_citations) AS c (
        number integer, chunk_id text, document_id uuid, document_title text, page integer, quote text,
        start integer, "end" integer);
    IF p_story IS NOT NULL THEN
        INSERT INTO trace (request_id, correlation_id, user_id, method, story)
        VALUES (a.request_id, p_correlation, a.user_id, 'Ask', p_story);
    END IF;
    UPDATE conversation t SET updated_at = now() WHERE t.id = a.conversation_id;
    RETURN true;
END
$$;

GRANT EXECUTE ON FUNCTION
    answer_earlier(uuid, uuid),
    answer_open(uuid, uuid, uuid, text, text, uuid, bytea, text, text, uuid, bigint, uuid, float8, integer, json),
    answer_append(uuid, uuid, float8, bigint, json, bigint),
    answer_close(uuid, uuid, bigint, json, text, text, text, text, json, json, json, uuid, jsonb, bigint, bigint)
TO bacmr_app;
