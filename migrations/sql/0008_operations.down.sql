DROP TABLE discrepancy, operation, source, audit_event;
