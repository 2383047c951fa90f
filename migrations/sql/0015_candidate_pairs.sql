CREATE OR REPLACE FUNCTION search_chunks(
    query_lexemes text[], in_namespace text, in_subject text, in_grade text, in_language text, in_documents uuid[],
    most_candidates integer, most_hits integer
) RETURNS TABLE (chunk_id text, score double precision)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
DECLARE
    -- BM25 with its usual constants: how fast repetitions saturate, and how much length counts.
    k1 constant double precision := 1.2;
    b  constant double precision := 0.75;
    -- Pairs are made of so many terms at most: the rarest of those that many chunks hold.
    most_paired constant integer := 5;
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

    -- Only some chunks are ranked: those that hold one of the rarest terms, as many terms as keep these chunks few (one
    -- at least), and those that hold two of the other terms, as many pairs as do if terms are independent. Words that
    -- many chunks hold still tell, together, which of them is meant.
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
    ), rare AS (
        SELECT lexeme FROM running WHERE place = 1 OR so_far <= most_candidates
    ), common AS (
        SELECT lexeme, chunks, place FROM running WHERE place > 1 AND so_far > most_candidates
         ORDER BY place LIMIT most_paired
    ), pair AS (
        SELECT one.lexeme && other.lexeme AS lexeme,
               sum(one.chunks * other.chunks / all_chunks)
                   OVER (ORDER BY one.chunks * other.chunks, one.place, other.place ROWS UNBOUNDED PRECEDING) AS so_far
          FROM common AS one JOIN common AS other ON one.place < other.place
    )
    SELECT (SELECT string_agg(format('%s::float8 * ts_rank(weights, terms, %L::tsquery)',
                                     times * ln(1 + (all_chunks - chunks + 0.5) / (chunks + 0.5)), lexeme), ' + ')
              FROM running),
           (SELECT string_agg(lexeme::text, ' | ')
              FROM (SELECT lexeme FROM rare
                    UNION ALL SELECT lexeme FROM pair WHERE so_far <= most_candidates) AS any_of)
      INTO ranking, candidates;
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
            in_namespace, in_subject, in_grade, in_language, in_documents, most_candidates * 8, most_hits;
END
$$;
