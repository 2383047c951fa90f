-- Takes ingestion back.
DROP TABLE source_page, document_remains, page, ingestion_audit, ingestion_job, upload;
