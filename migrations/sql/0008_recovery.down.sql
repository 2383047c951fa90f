DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT relname FROM pg_policy JOIN pg_class c ON c.oid = polrelid
         WHERE relnamespace = 'bacmr'::regnamespace AND polname = 'recovery'
    LOOP
        EXECUTE format('DROP POLICY recovery ON %I', name);
    END LOOP;
END
$$;
