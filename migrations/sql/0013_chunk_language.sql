-- Every minute each student's search asks which languages the library holds. For one that it does not hold, that read
-- the whole table.
CREATE INDEX chunk_of_language ON chunk (language);
