DROP TABLE reconciliation;
