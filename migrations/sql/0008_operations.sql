-- What operators do and find: audited changes, web sources, long-running operations, discrepancies.

CREATE TABLE audit_event (
  id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  actor_id    uuid REFERENCES app_user (id),
  action      text NOT NULL,
  object      text NOT NULL,
  before      jsonb NOT NULL,
  after       jsonb NOT NULL,
  request_id  uuid NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX audit_event_listing ON audit_event (created_at DESC, id DESC);
CREATE INDEX audit_event_object ON audit_event (object, created_at DESC);

CREATE TABLE source (
  id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name               text NOT NULL,
  start_url          text NOT NULL UNIQUE,
  namespace          text NOT NULL,
  subject            text NOT NULL DEFAULT '',
  grade              text NOT NULL DEFAULT '',
  sync_every_seconds bigint CHECK (sync_every_seconds > 0),
  max_pages          integer NOT NULL DEFAULT 500 CHECK (max_pages > 0),
  enabled            boolean NOT NULL DEFAULT true,
  last_synced_at     timestamptz,
  last_outcome       text NOT NULL DEFAULT '',
  last_pages         integer NOT NULL DEFAULT 0,
  created_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX source_listing ON source (created_at DESC, id DESC);

CREATE TABLE operation (
  id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  kind        text NOT NULL,
  object      text NOT NULL DEFAULT '',
  state       text NOT NULL DEFAULT 'pending'
              CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'cancelled')),
  task        jsonb NOT NULL,
  done        bigint NOT NULL DEFAULT 0,
  total       bigint NOT NULL DEFAULT 0,
  stage       text NOT NULL DEFAULT '',
  result      jsonb,
  error       text NOT NULL DEFAULT '',
  actor_id    uuid REFERENCES app_user (id),
  request_id  uuid NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX operation_listing ON operation (created_at DESC, id DESC);
-- Two reindexes at once would undo each other: one open operation per kind and object.
CREATE UNIQUE INDEX operation_open ON operation (kind, object) WHERE state IN ('pending', 'running');

-- The story of a sync, for whoever watches it or asks for it again.
CREATE TABLE sync_page (
  operation_id uuid NOT NULL REFERENCES operation (id) ON DELETE CASCADE,
  sequence     bigint NOT NULL CHECK (sequence > 0),
  url          text NOT NULL CHECK (length(url) <= 2048),
  verdict      text NOT NULL,
  reason       text NOT NULL DEFAULT '',
  document_id  uuid,
  found_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (operation_id, sequence),
  UNIQUE (operation_id, url)
);
CREATE INDEX sync_page_age ON sync_page (found_at);

CREATE TABLE discrepancy (
  id        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  "check"   text NOT NULL,
  detail    text NOT NULL,
  found_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX discrepancy_listing ON discrepancy (found_at DESC, id DESC);

-- Nobody but operators sees these; what is written to the audit stays as it is.
ALTER TABLE audit_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_event FORCE ROW LEVEL SECURITY;
CREATE POLICY reading ON audit_event FOR SELECT TO bacmr_app USING ((SELECT caller_role()) IN ('admin', 'service'));
CREATE POLICY adding ON audit_event FOR INSERT TO bacmr_app WITH CHECK ((SELECT caller_role()) IN ('admin', 'service'));

ALTER TABLE source ENABLE ROW LEVEL SECURITY;
ALTER TABLE source FORCE ROW LEVEL SECURITY;
CREATE POLICY operators ON source TO bacmr_app USING ((SELECT caller_role()) IN ('admin', 'service'));

ALTER TABLE operation ENABLE ROW LEVEL SECURITY;
ALTER TABLE operation FORCE ROW LEVEL SECURITY;
CREATE POLICY operators ON operation TO bacmr_app USING ((SELECT caller_role()) IN ('admin', 'service'));

ALTER TABLE sync_page ENABLE ROW LEVEL SECURITY;
ALTER TABLE sync_page FORCE ROW LEVEL SECURITY;
CREATE POLICY operators ON sync_page TO bacmr_app USING ((SELECT caller_role()) IN ('admin', 'service'));

ALTER TABLE discrepancy ENABLE ROW LEVEL SECURITY;
ALTER TABLE discrepancy FORCE ROW LEVEL SECURITY;
CREATE POLICY operators ON discrepancy TO bacmr_app USING ((SELECT caller_role()) IN ('admin', 'service'));

GRANT SELECT, INSERT ON audit_event, discrepancy TO bacmr_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON source, operation, sync_page TO bacmr_app;
