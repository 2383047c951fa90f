-- The texts behind search hits: one call is one round trip. For the server's cache, which serves every caller and decides
-- itself who may see what, so nothing is asked of the caller here.
CREATE FUNCTION read_chunks(ids text[])
    RETURNS TABLE (
        id text, document_id uuid, document_title text, page integer, chunk_index integer, text text,
        token_count integer, language text, start_at integer, end_at integer, content_hash text, namespace text,
        subject text, grade text, owner_id uuid, private boolean
    )
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = bacmr, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT c.id, c.document_id, d.title, c.page, c.chunk_index, c.text, c.token_count, c.language, c.start_at, c.end_at,
           c.content_hash, c.namespace, c.subject, c.grade, d.owner_id, c.private_to IS NOT NULL
      FROM chunk c JOIN document d ON d.id = c.document_id
     WHERE c.id = ANY (ids);
END
$$;
GRANT EXECUTE ON FUNCTION read_chunks(text[]) TO bacmr_app;
CREATE POLICY internal ON document FOR SELECT TO bacmr_owner USING (true);
