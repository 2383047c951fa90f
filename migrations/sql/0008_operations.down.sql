DROP TABLE discrepancy, sync_page, operation, source, audit_event;
