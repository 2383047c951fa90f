"""What an export holds: every table in the order in which it can be written again, or the reason why it is left out."""

EXPORTED = (
    "ledger_entry",  # first: an export that was cut short still holds the money
    "app_user",
    "wallet",
    "reservation",
    "model_usage",
    "voucher_batch",
    "voucher",
    "top_up",
    "discrepancy",
    "audit_event",
    "source",
    "source_page",
    "document",
    "document_remains",
    "page",
    "chunk",
    "term_count",
    "corpus_size",
    "embedding",
    "embedding_ref",
    "vector_index",
    "upload",
    "ingestion_job",
    "ingestion_audit",
    "conversation",
    "answer",
    "answer_event",
    "answer_citation",
    "rating",
    "trace",
    "quiz",
    "quiz_question",
    "quiz_event",
    "quiz_attempt",
    "question_memory",
)
"""A table stands after those that its foreign keys point to."""

LEFT_OUT = {
    "alembic_version": "the manifest holds the schema's revision",
    "session": "people sign in again on a restored system",
    "refresh_token": "people sign in again on a restored system",
    "sign_in_attempt": "counts guesses of the last minutes",
    "voucher_failure": "counts guesses of the last minutes",
    "idempotency": "first results of a day; some hold voucher codes",
    "reconciliation": "what was found in the old system; the new one looks for itself",
    "operation": "work of the old system; what it changed is in audit_event",
    "sync_page": "what an operation of the old system found",
    "job_run": "when jobs of the old system ran",
    "procrastinate_jobs": "the queue; unfinished documents are queued again by recover_ingestion",
    "procrastinate_events": "the queue",
    "procrastinate_workers": "the queue",
    "procrastinate_periodic_defers": "the queue",
}

REPLACED = ("vector_index", "term_count", "corpus_size")
"""Tables whose rows a system makes by itself: an import deletes them."""

OWN_OF_AN_EMPTY_SYSTEM = frozenset({"audit_event", *REPLACED})
"""Tables that a system may have rows in and still count as empty, besides its one administrator with the wallet."""
