DROP TABLE job_run;

-- Everything the queue's own script made, by its prefix.
DO $$
DECLARE
    object record;
BEGIN
    FOR object IN
        SELECT format('TABLE %s CASCADE', oid::regclass) AS name FROM pg_class
         WHERE relnamespace = 'bacmr'::regnamespace AND relkind = 'r' AND relname LIKE 'procrastinate\_%'
    LOOP
        EXECUTE 'DROP ' || object.name;
    END LOOP;
    FOR object IN
        SELECT format('FUNCTION %s CASCADE', oid::regprocedure) AS name FROM pg_proc
         WHERE pronamespace = 'bacmr'::regnamespace AND proname LIKE 'procrastinate\_%'
    LOOP
        EXECUTE 'DROP ' || object.name;
    END LOOP;
    FOR object IN
        SELECT format('TYPE %s', oid::regtype) AS name FROM pg_type
         WHERE typnamespace = 'bacmr'::regnamespace AND typname LIKE 'procrastinate\_%' AND typtype IN ('e', 'c')
    LOOP
        EXECUTE 'DROP ' || object.name;
    END LOOP;
END
$$;

DROP FUNCTION sweep_idempotency(integer);
DROP TABLE idempotency;
DROP FUNCTION caller_role();
DROP FUNCTION caller_id();
ALTER DEFAULT PRIVILEGES FOR ROLE bacmr_owner GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
