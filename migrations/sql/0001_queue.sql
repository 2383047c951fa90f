-- Rights on the job queue's tables, and what is known of every scheduled job.

GRANT SELECT, INSERT, UPDATE, DELETE
    ON procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers, procrastinate_workers TO bacmr_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA bacmr TO bacmr_app;

DO $$
DECLARE
    routine regprocedure;
BEGIN
    FOR routine IN
        SELECT oid FROM pg_proc WHERE pronamespace = 'bacmr'::regnamespace AND proname LIKE 'procrastinate\_%'
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO bacmr_app', routine);
    END LOOP;
END
$$;

CREATE TABLE job_run (
    name             text        PRIMARY KEY,
    scheduled_at     timestamptz NOT NULL,
    started_at       timestamptz,
    finished_at      timestamptz,
    succeeded_at     timestamptz,
    duration_seconds double precision,
    error            text        NOT NULL DEFAULT '',
    runs             bigint      NOT NULL DEFAULT 0,
    failures         bigint      NOT NULL DEFAULT 0
);
COMMENT ON TABLE job_run IS 'One row per scheduled job: its last tick, run, success, duration and error.';
COMMENT ON COLUMN job_run.scheduled_at IS 'Newest tick that a worker claimed; the claim is what keeps several workers from running it twice.';
GRANT SELECT, INSERT, UPDATE ON job_run TO bacmr_app;
