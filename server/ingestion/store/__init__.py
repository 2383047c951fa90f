"""The SQL of ingestion: one small store per table it owns. Methods take an open connection and never commit."""
