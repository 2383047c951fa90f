"""Documents, chunks, embedding refs and full-text search."""
