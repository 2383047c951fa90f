-- Near pages are found from all fingerprints of a namespace, compared outside the database: behind row-level security
-- no query could use these, and every page written paid for them.
DROP INDEX page_band_0, page_band_1, page_band_2, page_band_3;
