-- Servers act as bacmr_app and have to know whether the schema is theirs before they serve.
GRANT SELECT ON alembic_version TO bacmr_app;
