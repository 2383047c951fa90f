"""Web sources: polite, guarded fetching of allow-listed sites into documents."""
