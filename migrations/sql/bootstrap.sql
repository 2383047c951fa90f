-- What must be there before the first migration can run as the schema's owner. Safe to run again.
-- Roles belong to the whole cluster, so two databases may meet here.
DO $$
BEGIN
    BEGIN
        CREATE ROLE bacmr_owner NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    BEGIN
        CREATE ROLE bacmr_app NOLOGIN NOBYPASSRLS;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    -- A superuser may act as anyone; any other migrator must be a member of what it hands over.
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT bacmr_owner, bacmr_app TO %I', current_user);
    END IF;
END
$$;

CREATE SCHEMA IF NOT EXISTS bacmr AUTHORIZATION bacmr_owner;
REVOKE ALL ON SCHEMA bacmr FROM PUBLIC;
GRANT USAGE ON SCHEMA bacmr TO bacmr_app;
