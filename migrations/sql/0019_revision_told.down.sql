REVOKE SELECT ON alembic_version FROM bacmr_app;
