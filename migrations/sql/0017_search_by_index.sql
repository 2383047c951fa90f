-- Until the statistics of a library that has just grown are known, the planner takes reading all of term_count, with
-- every row that was merged away, for cheaper than looking up a question's terms: 20 ms instead of 0.3.
ALTER FUNCTION search_chunks(text[], text, text, text, text, uuid[], integer, integer) SET enable_seqscan = off;
