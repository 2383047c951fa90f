CREATE OR REPLACE FUNCTION count_changed_chunks() RETURNS trigger
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
ALTER TABLE chunk DROP COLUMN analyser_version;
