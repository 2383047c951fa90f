"""PostgreSQL: pools, the transaction that sets row-level security, the embedded server."""
