-- The library: documents, their chunks with full-text terms, and where each chunk's vectors are.
--
-- Shared documents are for everyone who is signed in; private ones for their owner, administrators and background work.

CREATE TABLE document (
    id                 uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id           uuid        REFERENCES app_user (id),
    title              text        NOT NULL CHECK (length(title) BETWEEN 1 AND 300),
    filename           text        NOT NULL DEFAULT '' CHECK (length(filename) <= 255),
    content_type       text        NOT NULL CHECK (length(content_type) <= 127),
    size_bytes         bigint      NOT NULL CHECK (size_bytes >= 0),
    sha256             text        NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    blob_key           text        NOT NULL,
    source_url         text        NOT NULL DEFAULT '' CHECK (length(source_url) <= 2048),
    visibility         text        NOT NULL DEFAULT 'shared' CHECK (visibility IN ('shared', 'private')),
    namespace          text        NOT NULL DEFAULT '' CHECK (length(namespace) <= 64),
    subject            text        NOT NULL DEFAULT '' CHECK (length(subject) <= 64),
    grade              text        NOT NULL DEFAULT '' CHECK (length(grade) <= 16),
    language           text        NOT NULL DEFAULT 'other' CHECK (language IN ('fr', 'ar', 'mey', 'other')),
    page_count         integer     NOT NULL DEFAULT 0 CHECK (page_count >= 0),
    flagged_page_count integer     NOT NULL DEFAULT 0 CHECK (flagged_page_count >= 0),
    chunk_count        integer     NOT NULL DEFAULT 0 CHECK (chunk_count >= 0),
    generation         bigint      NOT NULL DEFAULT 0,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT document_private_has_an_owner CHECK (visibility = 'shared' OR owner_id IS NOT NULL)
);
COMMENT ON COLUMN document.namespace IS 'Part of the library it is searched in; empty until it is ingested.';
COMMENT ON COLUMN document.generation IS 'Number of the newest run that wrote its chunks.';
CREATE INDEX document_newest_first ON document (created_at DESC, id DESC);
CREATE INDEX document_of_owner ON document (owner_id, created_at DESC, id DESC);
CREATE INDEX document_of_namespace ON document (namespace, created_at DESC, id DESC);
CREATE INDEX document_of_file ON document (sha256);
CREATE INDEX document_of_source ON document (source_url) WHERE source_url <> '';

CREATE TABLE chunk (
    id           text        PRIMARY KEY CHECK (id ~ '^[0-9a-f]{64}$'),
    document_id  uuid        NOT NULL REFERENCES document (id) ON DELETE CASCADE,
    page         integer     NOT NULL CHECK (page > 0),
    chunk_index  integer     NOT NULL CHECK (chunk_index >= 0),
    start_at     integer     NOT NULL CHECK (start_at >= 0),
    end_at       integer     NOT NULL CHECK (end_at > start_at),
    token_count  integer     NOT NULL CHECK (token_count > 0),
    term_count   integer     NOT NULL CHECK (term_count >= 0),
    language     text        NOT NULL CHECK (language IN ('fr', 'ar', 'mey', 'other')),
    namespace    text        NOT NULL,
    subject      text        NOT NULL,
    grade        text        NOT NULL,
    private_to   uuid,
    content_hash text        NOT NULL CHECK (content_hash ~ '^[0-9a-f]{64}$'),
    generation   bigint      NOT NULL,
    terms        tsvector    NOT NULL,
    text         text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (document_id, page, chunk_index)
) WITH (fillfactor = 90);
COMMENT ON COLUMN chunk.id IS 'sha256 of document:page:index in hex.';
COMMENT ON COLUMN chunk.start_at IS 'First character within the page; end_at is the one after the last.';
COMMENT ON COLUMN chunk.private_to IS 'Owner of a private document, NULL in the shared library; kept like its document by a trigger.';
COMMENT ON COLUMN chunk.terms IS 'Stems, each once; its weight label says how often it occurs: D once, C twice, B 3 or 4 times, A more often.';
COMMENT ON COLUMN chunk.term_count IS 'Length in terms, repetitions counted: the length that BM25 normalises by.';
-- Searches read the terms of many rows and the texts of few: the texts move out of line first.
ALTER TABLE chunk ALTER COLUMN terms SET STORAGE MAIN, ALTER COLUMN text SET STORAGE EXTERNAL;
-- Entering the terms of many chunks together takes 0.6 of the time of one by one; up to 1 MB may wait, which a search
-- reads through in 0.3 ms. `merge_corpus_statistics` empties it.
CREATE INDEX chunk_terms ON chunk USING gin (terms) WITH (fastupdate = on, gin_pending_list_limit = 1024);
CREATE INDEX chunk_of_namespace ON chunk (namespace);

-- Statistics for ranking. Writers only append, so that they never wait for each other; `merge_corpus_statistics` adds
-- the rows up.
CREATE TABLE term_count (
    lexeme text   NOT NULL,
    chunks bigint NOT NULL
);
COMMENT ON TABLE term_count IS 'The sum per lexeme is the number of chunks that hold it.';
CREATE INDEX term_count_lexeme ON term_count (lexeme) INCLUDE (chunks);

CREATE TABLE corpus_size (
    chunks   bigint NOT NULL,
    terms    bigint NOT NULL,
    writes   bigint NOT NULL,
    removals bigint NOT NULL
);
COMMENT ON TABLE corpus_size IS 'Sums: chunks, their terms, changes of any kind, and changes that make a copy of a chunk out of date.';

CREATE FUNCTION count_added_chunks() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
BEGIN
    INSERT INTO term_count SELECT lexeme, count(*) FROM added, unnest(tsvector_to_array(terms)) AS lexeme GROUP BY lexeme;
    INSERT INTO corpus_size SELECT count(*), sum(term_count), 1, 0 FROM added HAVING count(*) > 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION count_removed_chunks() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
BEGIN
    INSERT INTO term_count SELECT lexeme, -count(*) FROM removed, unnest(tsvector_to_array(terms)) AS lexeme GROUP BY lexeme;
    INSERT INTO corpus_size SELECT -count(*), -sum(term_count), 1, 1 FROM removed HAVING count(*) > 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION count_changed_chunks() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
BEGIN
    -- A run that finds a chunk unchanged only notes its generation; that is no change to searchers.
    IF NOT EXISTS (
        SELECT FROM removed JOIN added USING (id)
        WHERE (removed.content_hash, removed.namespace, removed.subject, removed.grade, removed.private_to, removed.language)
            IS DISTINCT FROM (added.content_hash, added.namespace, added.subject, added.grade, added.private_to, added.language)
    ) THEN
        RETURN NULL;
    END IF;
    INSERT INTO term_count
        SELECT lexeme, sum(change) FROM (
            SELECT lexeme, 1 AS change FROM added, unnest(tsvector_to_array(terms)) AS lexeme
            UNION ALL
            SELECT lexeme, -1 FROM removed, unnest(tsvector_to_array(terms)) AS lexeme
        ) AS changes GROUP BY lexeme HAVING sum(change) <> 0;
    INSERT INTO corpus_size
        SELECT 0, (SELECT sum(term_count) FROM added) - (SELECT sum(term_count) FROM removed), 1, 1;
    RETURN NULL;
END
$$;

CREATE TRIGGER chunk_added AFTER INSERT ON chunk
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_added_chunks();
CREATE TRIGGER chunk_removed AFTER DELETE ON chunk
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_removed_chunks();
CREATE TRIGGER chunk_changed AFTER UPDATE ON chunk
    REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_changed_chunks();

CREATE FUNCTION merge_corpus_statistics() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    merged bigint;
BEGIN
    WITH scattered AS (
        DELETE FROM term_count WHERE lexeme IN (SELECT lexeme FROM term_count GROUP BY lexeme HAVING count(*) > 1)
        RETURNING lexeme, chunks
    )
    INSERT INTO term_count SELECT lexeme, sum(chunks) FROM scattered GROUP BY lexeme HAVING sum(chunks) <> 0;
    GET DIAGNOSTICS merged = ROW_COUNT;
    WITH scattered AS (DELETE FROM corpus_size RETURNING *)
    INSERT INTO corpus_size SELECT sum(chunks), sum(terms), sum(writes), sum(removals) FROM scattered HAVING count(*) > 0;
    PERFORM gin_clean_pending_list('chunk_terms');
    RETURN merged;
END
$$;

-- What a document is filed under holds for its chunks.
CREATE FUNCTION file_chunks_like_document() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
BEGIN
    UPDATE chunk
       SET namespace = NEW.namespace, subject = NEW.subject, grade = NEW.grade,
           private_to = CASE WHEN NEW.visibility = 'private' THEN NEW.owner_id END, updated_at = now()
     WHERE document_id = NEW.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER document_filed AFTER UPDATE OF namespace, subject, grade, visibility, owner_id ON document
    FOR EACH ROW WHEN ((OLD.namespace, OLD.subject, OLD.grade, OLD.visibility, OLD.owner_id)
        IS DISTINCT FROM (NEW.namespace, NEW.subject, NEW.grade, NEW.visibility, NEW.owner_id))
    EXECUTE FUNCTION file_chunks_like_document();

-- Vectors by what they were made from: the same text is never embedded twice, and an index can be rebuilt from here.
CREATE TABLE embedding (
    model        text        NOT NULL,
    content_hash text        NOT NULL,
    vector       bytea       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, content_hash)
);
COMMENT ON COLUMN embedding.vector IS 'Little-endian float32 values of a vector of length 1.';
ALTER TABLE embedding ALTER COLUMN vector SET STORAGE EXTERNAL;

CREATE TABLE embedding_ref (
    index_name   text        NOT NULL,
    chunk_id     text        NOT NULL REFERENCES chunk (id) ON DELETE CASCADE,
    model        text        NOT NULL,
    dimensions   integer     NOT NULL CHECK (dimensions > 0),
    content_hash text        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (index_name, chunk_id)
);
COMMENT ON TABLE embedding_ref IS 'Which chunk has a vector in which index, and of which text; another content hash than the chunk''s is out of date.';
CREATE INDEX embedding_ref_of_chunk ON embedding_ref (chunk_id);
CREATE INDEX embedding_ref_of_vector ON embedding_ref (model, content_hash);

-- The indexes of the vector store. This table says which one answers searches; the store's alias follows it.
CREATE TABLE vector_index (
    name             text        PRIMARY KEY CHECK (name ~ '^chunks__[A-Za-z0-9_]{1,200}$'),
    model            text        NOT NULL,
    dimensions       integer     NOT NULL CHECK (dimensions > 0),
    analyser_version integer     NOT NULL,
    state            text        NOT NULL CHECK (state IN ('building', 'ready', 'active', 'retired', 'failed', 'dropped')),
    namespace        text        NOT NULL DEFAULT '',
    operation_id     uuid,
    batch_after      text        NOT NULL DEFAULT '',
    batch_until      text        NOT NULL DEFAULT '',
    sample_recall    double precision CHECK (sample_recall BETWEEN 0 AND 1),
    problem          text        NOT NULL DEFAULT '',
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    retired_at       timestamptz
);
COMMENT ON COLUMN vector_index.namespace IS 'Part of the library that was asked for; empty means all of it, and only such an index may answer searches.';
COMMENT ON COLUMN vector_index.operation_id IS 'The work that fills it now.';
COMMENT ON COLUMN vector_index.batch_after IS 'The batch being written holds chunk ids after this one, up to batch_until; whoever resumes writes it again.';
COMMENT ON COLUMN vector_index.state IS 'A dropped one stays as a row, so that no name ever means two indexes.';
CREATE UNIQUE INDEX vector_index_active ON vector_index (state) WHERE state = 'active';

-- Row-level security keeps `@@`, which is not leakproof, from using its index; so searches run as the owner and filter
-- by the same rule as the policy on chunk.
CREATE FUNCTION may_see(private_to uuid) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE caller_role()
        WHEN 'admin' THEN true
        WHEN 'service' THEN true
        WHEN 'teacher' THEN private_to IS NULL OR private_to = caller_id()
        WHEN 'student' THEN private_to IS NULL OR private_to = caller_id()
        ELSE false
    END;

CREATE FUNCTION search_chunks(
    query_lexemes text[], in_namespace text, in_subject text, in_grade text, in_language text, in_documents uuid[],
    most_candidates integer, most_hits integer
) RETURNS TABLE (chunk_id text, score double precision)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    -- BM25 with its usual constants: how fast repetitions saturate, and how much length counts.
    k1 constant double precision := 1.2;
    b  constant double precision := 0.75;
    all_chunks     double precision;
    average_terms  double precision;
    ranking        text;
    candidates     tsquery;
    sees_all       constant boolean := caller_role() IN ('admin', 'service');
    viewer         constant uuid := caller_id();
BEGIN
    IF NOT may_see(NULL) THEN
        RETURN;
    END IF;
    SELECT sum(chunks), sum(terms) / nullif(sum(chunks), 0)::double precision INTO all_chunks, average_terms
      FROM corpus_size;

    -- Only chunks that hold one of the rarest terms are ranked: as many terms as keep the candidates few, one at least.
    WITH asked AS (
        SELECT lexeme, count(*) AS times FROM unnest(query_lexemes) AS lexeme GROUP BY lexeme
    ), known AS (
        SELECT ('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''')::tsquery AS lexeme, times,
               sum(chunks)::double precision AS chunks
          FROM asked JOIN term_count USING (lexeme) GROUP BY lexeme, times HAVING sum(chunks) > 0
    ), running AS (
        SELECT *, sum(chunks) OVER (ORDER BY chunks, lexeme ROWS UNBOUNDED PRECEDING) AS so_far,
               row_number() OVER (ORDER BY chunks, lexeme) AS place
          FROM known
    )
    SELECT string_agg(format('%s::float8 * ts_rank(weights, terms, %L::tsquery)',
                             times * ln(1 + (all_chunks - chunks + 0.5) / (chunks + 0.5)), lexeme), ' + '),
           string_agg(lexeme::text, ' | ') FILTER (WHERE place = 1 OR so_far <= most_candidates)
      INTO ranking, candidates
      FROM running;
    IF candidates IS NULL THEN
        RETURN;
    END IF;

    -- Written out per query: one expression over the terms is three times as fast as a join with them.
    -- The array says what a term counts by its label D, C, B, A; ts_rank of one term is its label's weight times 6/pi^2.
    RETURN QUERY EXECUTE format($query$
        SELECT id, (%s) * $1 AS total
          FROM (SELECT id, terms, ARRAY[1 / (1 + k), 2 / (2 + k), 3.4 / (3.4 + k), 6 / (6 + k)]::real[] AS weights
                  FROM chunk CROSS JOIN LATERAL (SELECT $2 + $3 * term_count AS k) AS length
                 WHERE terms @@ $4
                   AND (private_to IS NULL OR $5 OR private_to = $6)
                   AND ($7 = '' OR namespace = $7)
                   AND ($8 = '' OR subject = $8)
                   AND ($9 = '' OR grade = $9)
                   AND ($10 = '' OR language = $10)
                   AND (cardinality($11) = 0 OR document_id = ANY ($11))
                 LIMIT $12) AS found
         ORDER BY total DESC, id
         LIMIT $13
        $query$, ranking)
        USING (k1 + 1) * pi() * pi() / 6, k1 * (1 - b), k1 * b / average_terms, candidates, sees_all, viewer,
            in_namespace, in_subject, in_grade, in_language, in_documents, most_candidates * 4, most_hits;
END
$$;

ALTER TABLE document ENABLE ROW LEVEL SECURITY;
ALTER TABLE document FORCE ROW LEVEL SECURITY;
CREATE POLICY visible ON document FOR SELECT TO bacmr_app
    USING ((SELECT may_see(NULL)) AND (visibility = 'shared' OR owner_id = (SELECT caller_id())
        OR (SELECT caller_role()) IN ('admin', 'service')));
CREATE POLICY add ON document FOR INSERT TO bacmr_app
    WITH CHECK ((SELECT caller_role()) IN ('admin', 'service')
        OR ((SELECT caller_role()) = 'teacher' AND owner_id = (SELECT caller_id())));
CREATE POLICY change ON document FOR UPDATE TO bacmr_app
    USING ((SELECT caller_role()) IN ('admin', 'service')
        OR ((SELECT caller_role()) = 'teacher' AND owner_id = (SELECT caller_id())));
CREATE POLICY remove ON document FOR DELETE TO bacmr_app
    USING ((SELECT caller_role()) IN ('admin', 'service')
        OR ((SELECT caller_role()) = 'teacher' AND owner_id = (SELECT caller_id())));

ALTER TABLE chunk ENABLE ROW LEVEL SECURITY;
ALTER TABLE chunk FORCE ROW LEVEL SECURITY;
CREATE POLICY visible ON chunk FOR SELECT TO bacmr_app
    USING ((SELECT may_see(NULL)) AND (private_to IS NULL OR private_to = (SELECT caller_id())
        OR (SELECT caller_role()) IN ('admin', 'service')));
CREATE POLICY operators ON chunk TO bacmr_app USING ((SELECT caller_role()) IN ('admin', 'service'));
CREATE POLICY internal ON chunk TO bacmr_owner USING (true);

ALTER TABLE embedding ENABLE ROW LEVEL SECURITY;
ALTER TABLE embedding FORCE ROW LEVEL SECURITY;
CREATE POLICY operators ON embedding TO bacmr_app USING ((SELECT caller_role()) IN ('admin', 'service'));
ALTER TABLE embedding_ref ENABLE ROW LEVEL SECURITY;
ALTER TABLE embedding_ref FORCE ROW LEVEL SECURITY;
CREATE POLICY operators ON embedding_ref TO bacmr_app USING ((SELECT caller_role()) IN ('admin', 'service'));
ALTER TABLE vector_index ENABLE ROW LEVEL SECURITY;
ALTER TABLE vector_index FORCE ROW LEVEL SECURITY;
CREATE POLICY operators ON vector_index TO bacmr_app USING ((SELECT caller_role()) IN ('admin', 'service'));

GRANT SELECT, INSERT, UPDATE, DELETE ON document, chunk, embedding, embedding_ref TO bacmr_app;
GRANT SELECT, INSERT, UPDATE ON vector_index TO bacmr_app;
GRANT SELECT ON term_count, corpus_size TO bacmr_app;
GRANT EXECUTE ON FUNCTION may_see(uuid), merge_corpus_statistics(),
    search_chunks(text[], text, text, text, text, uuid[], integer, integer) TO bacmr_app;
