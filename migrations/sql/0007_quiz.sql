-- Quizzes, their questions with hidden keys, attempts, and what each person remembers.

CREATE TABLE quiz (
  id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  owner_id      uuid NOT NULL REFERENCES app_user (id),
  request_id    uuid NOT NULL,
  request_hash  bytea NOT NULL,
  title         text NOT NULL DEFAULT '',
  language      text NOT NULL DEFAULT 'other',
  difficulty    text NOT NULL CHECK (difficulty IN ('easy', 'medium', 'hard')),
  subject       text NOT NULL DEFAULT '',
  published     boolean NOT NULL DEFAULT false,
  state         text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'completed')),
  heartbeat_at  timestamptz NOT NULL DEFAULT now(),
  created_at    timestamptz NOT NULL DEFAULT now(),
  deleted_at    timestamptz,
  UNIQUE (owner_id, request_id)
);
CREATE INDEX quiz_listing ON quiz (created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX quiz_running ON quiz (heartbeat_at) WHERE state = 'running';

CREATE TABLE quiz_question (
  id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  quiz_id  uuid NOT NULL REFERENCES quiz (id) ON DELETE CASCADE,
  number   integer NOT NULL CHECK (number > 0),
  kind     text NOT NULL,
  stem     text NOT NULL,
  options  jsonb NOT NULL,
  topic    text NOT NULL,
  key      jsonb NOT NULL,
  UNIQUE (quiz_id, number)
);

CREATE TABLE quiz_event (
  quiz_id   uuid NOT NULL REFERENCES quiz (id) ON DELETE CASCADE,
  sequence  bigint NOT NULL CHECK (sequence > 0),
  payload   jsonb NOT NULL,
  PRIMARY KEY (quiz_id, sequence)
);

CREATE TABLE quiz_attempt (
  id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  quiz_id       uuid NOT NULL REFERENCES quiz (id),
  user_id       uuid NOT NULL REFERENCES app_user (id),
  started_at    timestamptz NOT NULL DEFAULT now(),
  submitted_at  timestamptz,
  answers       jsonb,
  score         double precision,
  max_score     double precision NOT NULL
);
CREATE INDEX quiz_attempt_listing ON quiz_attempt (user_id, started_at DESC, id DESC);
CREATE INDEX quiz_attempt_of_quiz ON quiz_attempt (quiz_id);

CREATE TABLE question_memory (
  user_id         uuid NOT NULL REFERENCES app_user (id),
  question_id     uuid NOT NULL REFERENCES quiz_question (id) ON DELETE CASCADE,
  subject         text NOT NULL,
  topic           text NOT NULL,
  state           text NOT NULL,
  due_at          timestamptz NOT NULL,
  stability_days  double precision NOT NULL,
  answered        integer NOT NULL DEFAULT 0,
  correct         integer NOT NULL DEFAULT 0,
  PRIMARY KEY (user_id, question_id)
);
CREATE INDEX question_memory_due ON question_memory (user_id, due_at, question_id);

-- A quiz is seen by its owner, by operators and, once published, by everybody; only its owner and operators change it.
CREATE FUNCTION sees_quiz(p_quiz_id uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT 1 FROM quiz WHERE id = p_quiz_id)
$$;
GRANT EXECUTE ON FUNCTION sees_quiz(uuid) TO bacmr_app;

ALTER TABLE quiz ENABLE ROW LEVEL SECURITY;
ALTER TABLE quiz FORCE ROW LEVEL SECURITY;
CREATE POLICY reading ON quiz FOR SELECT TO bacmr_app
  USING (owner_id = (SELECT caller_id()) OR (published AND (SELECT caller_id()) IS NOT NULL)
         OR (SELECT caller_role()) IN ('admin', 'service'));
CREATE POLICY adding ON quiz FOR INSERT TO bacmr_app
  WITH CHECK (owner_id = (SELECT caller_id()) OR (SELECT caller_role()) = 'service');
CREATE POLICY changing ON quiz FOR UPDATE TO bacmr_app
  USING (owner_id = (SELECT caller_id()) OR (SELECT caller_role()) IN ('admin', 'service'));
CREATE POLICY forgetting ON quiz FOR DELETE TO bacmr_app
  USING (owner_id = (SELECT caller_id()) AND state = 'running');

ALTER TABLE quiz_question ENABLE ROW LEVEL SECURITY;
ALTER TABLE quiz_question FORCE ROW LEVEL SECURITY;
CREATE POLICY of_seen_quiz ON quiz_question TO bacmr_app USING (sees_quiz(quiz_id)) WITH CHECK (sees_quiz(quiz_id));

ALTER TABLE quiz_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE quiz_event FORCE ROW LEVEL SECURITY;
CREATE POLICY of_own_quiz ON quiz_event TO bacmr_app
  USING (EXISTS (SELECT 1 FROM quiz q WHERE q.id = quiz_id
                 AND (q.owner_id = (SELECT caller_id()) OR (SELECT caller_role()) = 'service')));

ALTER TABLE quiz_attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE quiz_attempt FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON quiz_attempt TO bacmr_app
  USING (user_id = (SELECT caller_id()) OR (SELECT caller_role()) IN ('admin', 'service'));

ALTER TABLE question_memory ENABLE ROW LEVEL SECURITY;
ALTER TABLE question_memory FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON question_memory TO bacmr_app
  USING (user_id = (SELECT caller_id()) OR (SELECT caller_role()) IN ('admin', 'service'));

GRANT SELECT, INSERT, UPDATE ON quiz, quiz_attempt, question_memory TO bacmr_app;
GRANT DELETE ON quiz, quiz_attempt, question_memory TO bacmr_app;
GRANT SELECT, INSERT ON quiz_question, quiz_event TO bacmr_app;
