DROP INDEX chunk_of_language;
