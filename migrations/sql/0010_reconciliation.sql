-- What the last reconciliation found, for the metrics of every process, whichever of them reconciled.

CREATE TABLE reconciliation (
  "check"    text PRIMARY KEY,
  problems   bigint NOT NULL CHECK (problems >= 0),
  checked_at timestamptz NOT NULL
);
COMMENT ON TABLE reconciliation IS 'One row per check, zero problems too; discrepancy keeps what was found over time.';

ALTER TABLE reconciliation ENABLE ROW LEVEL SECURITY;
ALTER TABLE reconciliation FORCE ROW LEVEL SECURITY;
CREATE POLICY operators ON reconciliation TO bacmr_app USING ((SELECT caller_role()) IN ('admin', 'service'));
GRANT SELECT, INSERT, UPDATE, DELETE ON reconciliation TO bacmr_app;
