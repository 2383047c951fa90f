-- Terms of another version of the analyser are told apart, so that a reindex can make them again.

-- Every chunk written before this column, and by servers that do not know it, was read by version 1.
ALTER TABLE chunk ADD COLUMN analyser_version integer NOT NULL DEFAULT 1;
COMMENT ON COLUMN chunk.analyser_version IS 'Version of the analyser that made terms and term_count.';

CREATE OR REPLACE FUNCTION count_changed_chunks() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    outdates boolean;
    renewed  boolean;
BEGIN
    -- A run that finds a chunk unchanged only notes its generation; that is no change to searchers. Terms made again
    -- of the same text are one, but copies of the text stay good.
    SELECT bool_or((removed.content_hash, removed.namespace, removed.subject, removed.grade, removed.private_to, removed.language)
               IS DISTINCT FROM (added.content_hash, added.namespace, added.subject, added.grade, added.private_to, added.language)),
           bool_or(removed.analyser_version <> added.analyser_version)
      INTO outdates, renewed
      FROM removed JOIN added USING (id);
    IF NOT coalesce(outdates OR renewed, false) THEN
        RETURN NULL;
    END IF;
    INSERT INTO term_count
        SELECT lexeme, sum(change) FROM (
            SELECT lexeme, 1 AS change FROM added, unnest(tsvector_to_array(terms)) AS lexeme
            UNION ALL
            SELECT lexeme, -1 FROM removed, unnest(tsvector_to_array(terms)) AS lexeme
        ) AS changes GROUP BY lexeme HAVING sum(change) <> 0;
    INSERT INTO corpus_size
        SELECT 0, (SELECT sum(term_count) FROM added) - (SELECT sum(term_count) FROM removed), 1, outdates::integer;
    RETURN NULL;
END
$$;
