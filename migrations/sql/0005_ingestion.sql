-- Uploads, ingestion jobs with their audit trail, the pages they read, and what web sources were last seen to hold.
--
-- A person sees their own uploads and jobs, operators and background work see all. A job and its story outlive the
-- document, so neither points to it with a foreign key.

CREATE TABLE upload (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id uuid REFERENCES app_user (id),
    filename text NOT NULL CHECK (length(filename) BETWEEN 1 AND 255),
    content_type text NOT NULL CHECK (length(content_type) <= 127),
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    title text NOT NULL CHECK (length(title) <= 300),
    visibility text NOT NULL CHECK (visibility IN ('shared', 'private')),
    replaces uuid,
    blob_key text NOT NULL UNIQUE,
    document_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE upload IS 'Announced files; document_id is set once the bytes were checked';
COMMENT ON COLUMN upload.replaces IS 'Document whose file this one is to take the place of';
CREATE INDEX upload_unfinished ON upload (expires_at) WHERE document_id IS NULL;

CREATE TABLE ingestion_job (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    document_id uuid NOT NULL,
    owner_id uuid REFERENCES app_user (id),
    namespace text NOT NULL CHECK (namespace ~ '^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$'),
    subject text NOT NULL DEFAULT '' CHECK (length(subject) <= 64),
    grade text NOT NULL DEFAULT '' CHECK (length(grade) <= 16),
    language text CHECK (language IN ('fr', 'ar', 'mey', 'other')),
    state text NOT NULL DEFAULT 'PENDING' CHECK (state IN
        ('PENDING', 'EXTRACTING', 'CHUNKING', 'EMBEDDING', 'INDEXING', 'READY', 'FAILED', 'CANCELLED')),
    failure_reason text NOT NULL DEFAULT '',
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    run_id uuid,
    pages_done integer NOT NULL DEFAULT 0,
    pages_total integer NOT NULL DEFAULT 0,
    pages_rejected integer NOT NULL DEFAULT 0,
    chunks_done integer NOT NULL DEFAULT 0,
    chunks_total integer NOT NULL DEFAULT 0,
    request_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    next_attempt_at timestamptz,
    CONSTRAINT ingestion_job_failure_has_a_reason CHECK (state <> 'FAILED' OR failure_reason <> '')
);
COMMENT ON COLUMN ingestion_job.language IS 'Language given by the caller, or the one detected; NULL until then';
COMMENT ON COLUMN ingestion_job.run_id IS 'The run that may write: a run that lost it to another one stops at its next write';
COMMENT ON COLUMN ingestion_job.heartbeat_at IS 'Last sign of life of the run';
CREATE UNIQUE INDEX ingestion_job_one_at_a_time ON ingestion_job (document_id)
    WHERE state NOT IN ('READY', 'FAILED', 'CANCELLED');
CREATE INDEX ingestion_job_newest_first ON ingestion_job (created_at DESC, id DESC);
CREATE INDEX ingestion_job_of_document ON ingestion_job (document_id);
CREATE INDEX ingestion_job_unfinished ON ingestion_job (heartbeat_at) WHERE state NOT IN ('READY', 'FAILED', 'CANCELLED');

CREATE TABLE ingestion_audit (
    job_id uuid NOT NULL REFERENCES ingestion_job (id) ON DELETE CASCADE,
    sequence bigint NOT NULL CHECK (sequence > 0),
    from_state text,
    to_state text NOT NULL,
    reason text NOT NULL DEFAULT '',
    actor_id uuid,
    request_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, sequence)
);
COMMENT ON TABLE ingestion_audit IS 'Every move of every job, written by the statement that moves it; append-only';

CREATE TABLE page (
    document_id uuid NOT NULL REFERENCES document (id) ON DELETE CASCADE,
    number integer NOT NULL CHECK (number > 0),
    file_sha256 text NOT NULL,
    reader_version integer NOT NULL,
    text text NOT NULL,
    method text NOT NULL,
    confidence real,
    language text,
    quality real,
    verdict text NOT NULL DEFAULT 'unread' CHECK (verdict IN ('unread', 'indexed', 'review', 'rejected', 'duplicate')),
    reason text NOT NULL DEFAULT '',
    words integer NOT NULL DEFAULT 0,
    fingerprint bigint,
    duplicate_document_id uuid,
    duplicate_number integer,
    PRIMARY KEY (document_id, number)
);
COMMENT ON TABLE page IS 'Pages as read, with the verdict on each; the text lets a killed job go on where it was';
COMMENT ON COLUMN page.reader_version IS 'Pages of an older reader are read again';
COMMENT ON COLUMN page.fingerprint IS '64-bit SimHash of the canonical text, as a signed number';
COMMENT ON COLUMN page.duplicate_document_id IS 'Document of the page that this one nearly repeats';
-- Two fingerprints that differ in at most three bits agree in at least one of these four bands of 16 bits.
CREATE INDEX page_band_0 ON page (((fingerprint >> 48) & 65535)) WHERE fingerprint IS NOT NULL;
CREATE INDEX page_band_1 ON page (((fingerprint >> 32) & 65535)) WHERE fingerprint IS NOT NULL;
CREATE INDEX page_band_2 ON page (((fingerprint >> 16) & 65535)) WHERE fingerprint IS NOT NULL;
CREATE INDEX page_band_3 ON page ((fingerprint & 65535)) WHERE fingerprint IS NOT NULL;
CREATE INDEX page_words ON page (words) WHERE fingerprint IS NOT NULL;

CREATE TABLE document_remains (
    document_id uuid NOT NULL,
    blob_key text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (document_id, blob_key)
);
COMMENT ON TABLE document_remains IS 'Deleted documents whose vectors and file are still to be deleted';

CREATE TABLE source_page (
    source_id uuid NOT NULL,
    url text NOT NULL CHECK (length(url) <= 2048),
    etag text NOT NULL DEFAULT '',
    last_modified text NOT NULL DEFAULT '',
    content_hash text NOT NULL DEFAULT '',
    links text[] NOT NULL DEFAULT '{}',
    document_id uuid,
    verdict text NOT NULL,
    reason text NOT NULL DEFAULT '',
    fetched_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source_id, url)
);
COMMENT ON TABLE source_page IS 'What a web source held when it was last looked at; makes the next look conditional';

ALTER TABLE upload ENABLE ROW LEVEL SECURITY;
ALTER TABLE upload FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON upload TO bacmr_app
    USING (owner_id = (SELECT caller_id()) OR (SELECT caller_role()) IN ('admin', 'service'));

ALTER TABLE ingestion_job ENABLE ROW LEVEL SECURITY;
ALTER TABLE ingestion_job FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON ingestion_job TO bacmr_app
    USING (owner_id = (SELECT caller_id()) OR (SELECT caller_role()) IN ('admin', 'service'));

ALTER TABLE ingestion_audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE ingestion_audit FORCE ROW LEVEL SECURITY;
-- The inner query sees only the caller's jobs.
CREATE POLICY of_own_jobs ON ingestion_audit TO bacmr_app
    USING (EXISTS (SELECT FROM ingestion_job WHERE ingestion_job.id = ingestion_audit.job_id));

ALTER TABLE page ENABLE ROW LEVEL SECURITY;
ALTER TABLE page FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON page TO bacmr_app
    USING ((SELECT caller_role()) IN ('admin', 'service')
        OR EXISTS (SELECT FROM document WHERE document.id = page.document_id AND document.owner_id = (SELECT caller_id())));

ALTER TABLE document_remains ENABLE ROW LEVEL SECURITY;
ALTER TABLE document_remains FORCE ROW LEVEL SECURITY;
CREATE POLICY operators ON document_remains TO bacmr_app USING ((SELECT caller_role()) IN ('admin', 'service'));
-- Owners delete their documents themselves.
CREATE POLICY add ON document_remains FOR INSERT TO bacmr_app WITH CHECK ((SELECT caller_role()) = 'teacher');

ALTER TABLE source_page ENABLE ROW LEVEL SECURITY;
ALTER TABLE source_page FORCE ROW LEVEL SECURITY;
CREATE POLICY operators ON source_page TO bacmr_app USING ((SELECT caller_role()) IN ('admin', 'service'));

GRANT SELECT, INSERT, UPDATE, DELETE ON upload, page, document_remains, source_page TO bacmr_app;
GRANT SELECT, INSERT, UPDATE ON ingestion_job TO bacmr_app;
GRANT SELECT, INSERT ON ingestion_audit TO bacmr_app;
