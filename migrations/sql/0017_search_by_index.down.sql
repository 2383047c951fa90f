ALTER FUNCTION search_chunks(text[], text, text, text, text, uuid[], integer, integer) RESET enable_seqscan;
