-- Conversations, answers and their stored events.

CREATE TABLE conversation (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES app_user (id),
    title      text NOT NULL CHECK (length(title) <= 200),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX conversation_latest_first ON conversation (user_id, updated_at DESC, id DESC);

CREATE TABLE answer (
    id                uuid PRIMARY KEY,
    user_id           uuid NOT NULL REFERENCES app_user (id),
    conversation_id   uuid NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
    request_id        uuid NOT NULL,
    request_hash      bytea NOT NULL,
    question          text NOT NULL CHECK (length(question) <= 8000),
    detected_language text NOT NULL,
    reservation_id    uuid NOT NULL,
    max_charge_tokens bigint NOT NULL CHECK (max_charge_tokens >= 0),
    state             text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'completed')),
    process_id        uuid NOT NULL,
    lease_expires_at  timestamptz NOT NULL,
    cancel_requested  boolean NOT NULL DEFAULT false,
    delivered_tokens  bigint NOT NULL DEFAULT 0 CHECK (delivered_tokens BETWEEN 0 AND max_charge_tokens),
    last_sequence     bigint NOT NULL DEFAULT 0,
    content           text NOT NULL DEFAULT '',
    model             text NOT NULL DEFAULT '',
    ending            text CHECK (ending IN ('stop', 'length', 'cancelled', 'interrupted', 'quoted', 'failed')),
    refusal           text NOT NULL DEFAULT '',
    validation        json,
    receipt           json,
    created_at        timestamptz NOT NULL DEFAULT now(),
    completed_at      timestamptz,
    UNIQUE (user_id, request_id),
    CONSTRAINT answer_completed_has_ending CHECK ((state = 'completed') = (ending IS NOT NULL AND completed_at IS NOT NULL))
) WITH (fillfactor = 60);
COMMENT ON COLUMN answer.process_id IS 'The server process that makes it; only this one may append events';
COMMENT ON COLUMN answer.lease_expires_at IS 'Renewed with every batch of events; once it is over, the process is dead and anyone may close the answer';
COMMENT ON COLUMN answer.delivered_tokens IS 'Tokens of the prompt and of the stored text: what is charged if the process dies';
COMMENT ON COLUMN answer.refusal IS 'Reason name of the refusal that ended it before its first word; empty otherwise';
CREATE INDEX answer_newest_first ON answer (user_id, created_at DESC, id DESC);
CREATE INDEX answer_of_conversation ON answer (conversation_id, created_at DESC, id DESC);
CREATE INDEX answer_running ON answer (user_id) WHERE state = 'running';

CREATE TABLE answer_event (
    answer_id  uuid NOT NULL REFERENCES answer (id) ON DELETE CASCADE,
    sequence   bigint NOT NULL CHECK (sequence > 0),
    user_id    uuid NOT NULL,
    payload    json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (answer_id, sequence)
);
COMMENT ON COLUMN answer_event.payload IS 'json, not jsonb: the text is kept as it was written, so that a replay is identical to the byte';
CREATE INDEX answer_event_created_at ON answer_event USING brin (created_at);

CREATE TABLE answer_citation (
    answer_id       uuid NOT NULL REFERENCES answer (id) ON DELETE CASCADE,
    place           integer NOT NULL,
    user_id         uuid NOT NULL,
    number          integer NOT NULL,
    chunk_id        text NOT NULL,
    document_id     uuid NOT NULL,
    document_title  text NOT NULL,
    page            integer NOT NULL,
    quote           text NOT NULL,
    start_character integer NOT NULL,
    end_character   integer NOT NULL CHECK (end_character > start_character),
    PRIMARY KEY (answer_id, place)
);
COMMENT ON COLUMN answer_citation.document_id IS 'Not a foreign key: an answer keeps its citations when the document is deleted';

CREATE TABLE rating (
    answer_id  uuid PRIMARY KEY REFERENCES answer (id) ON DELETE CASCADE,
    user_id    uuid NOT NULL,
    helpful    boolean NOT NULL,
    comment    text NOT NULL DEFAULT '' CHECK (length(comment) <= 2000),
    rated_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE trace (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id     uuid NOT NULL,
    correlation_id uuid NOT NULL,
    user_id        uuid NOT NULL,
    method         text NOT NULL,
    story          jsonb NOT NULL CHECK (octet_length(story::text) <= 32768),
    created_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE trace IS 'What one paid request did, for GetTrace: no secrets, no texts of pages';
CREATE INDEX trace_request ON trace (request_id);
CREATE INDEX trace_correlation ON trace (correlation_id);
CREATE INDEX trace_created_at ON trace USING brin (created_at);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['conversation', 'answer', 'answer_event', 'answer_citation', 'rating', 'trace'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        -- FORCE binds the owner too, and the functions of 0006_answers_making.sql run as the owner.
        EXECUTE format('CREATE POLICY functions ON %I TO bacmr_owner USING (true) WITH CHECK (true)', name);
    END LOOP;
    -- Background work (role service) closes the answers of dead processes and forgets old events.
    FOREACH name IN ARRAY ARRAY['conversation', 'answer', 'answer_event', 'answer_citation', 'rating'] LOOP
        EXECUTE format(
            'CREATE POLICY own ON %I TO bacmr_app'
            ' USING (user_id = (SELECT caller_id()) OR (SELECT caller_role()) = ''service'')'
            ' WITH CHECK (user_id = (SELECT caller_id()) OR (SELECT caller_role()) = ''service'')', name);
    END LOOP;
END
$$;
CREATE POLICY own ON trace TO bacmr_app
    USING (user_id = (SELECT caller_id()) OR (SELECT caller_role()) IN ('admin', 'service'))
    WITH CHECK (user_id = (SELECT caller_id()) OR (SELECT caller_role()) = 'service');

-- Answers, events, citations and traces of answers are written by the functions alone, and never changed.
GRANT SELECT, INSERT, UPDATE, DELETE ON rating TO bacmr_app;
GRANT SELECT, UPDATE (cancel_requested, process_id, lease_expires_at) ON answer TO bacmr_app;
GRANT SELECT, DELETE ON conversation, answer_event, trace TO bacmr_app;
GRANT INSERT ON trace TO bacmr_app;
GRANT SELECT ON answer_citation TO bacmr_app;
