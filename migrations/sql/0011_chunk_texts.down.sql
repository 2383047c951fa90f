-- The texts behind search hits.
DROP FUNCTION read_chunks;
DROP POLICY internal ON document;
