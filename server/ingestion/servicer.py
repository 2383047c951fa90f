"""IngestionService on the wire: read the request, ask the service, write the response."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from bacmr.v1 import ingestion_pb2, ingestion_pb2_grpc, language_pb2
from server.corpus.passage import Chunk, Document, DocumentFilter, Visibility
from server.corpus.service import CorpusService
from server.ingestion.job import AuditEvent, Job, Placement
from server.ingestion.jobstate import JobState
from server.ingestion.judging import DocumentPage, PageSelection, PageVerdict
from server.ingestion.service import IngestionService
from server.ingestion.store.uploads import Announced
from server.ingestion.uploads import FileDescription, Uploads, UploadTicket
from server.refusal import Invalid, Violation
from server.text.language import Language

LANGUAGES = {
    language_pb2.LANGUAGE_UNSPECIFIED: None,
    language_pb2.LANGUAGE_FRENCH: Language.FRENCH,
    language_pb2.LANGUAGE_ARABIC: Language.ARABIC,
    language_pb2.LANGUAGE_HASSANIYA: Language.HASSANIYA,
    language_pb2.LANGUAGE_OTHER: Language.OTHER,
}
LANGUAGE_NUMBERS = {language: number for number, language in LANGUAGES.items()}
VISIBILITIES = {
    ingestion_pb2.VISIBILITY_UNSPECIFIED: Visibility.SHARED,
    ingestion_pb2.VISIBILITY_SHARED: Visibility.SHARED,
    ingestion_pb2.VISIBILITY_PRIVATE: Visibility.PRIVATE,
}
VISIBILITY_NUMBERS = {
    Visibility.SHARED: ingestion_pb2.VISIBILITY_SHARED,
    Visibility.PRIVATE: ingestion_pb2.VISIBILITY_PRIVATE,
}
STATE_NUMBERS = {state: ingestion_pb2.JobState.Value(f"JOB_STATE_{state}") for state in JobState}
STATES = {number: state for state, number in STATE_NUMBERS.items()}
VERDICT_NUMBERS = {
    verdict: ingestion_pb2.DocumentPageVerdict.Value(
        f"DOCUMENT_PAGE_VERDICT_{verdict.name if verdict else 'UNSPECIFIED'}"
    )
    for verdict in (None, *PageVerdict)
}
SELECTIONS = {
    ingestion_pb2.PAGE_SELECTION_UNSPECIFIED: PageSelection.ALL,
    ingestion_pb2.PAGE_SELECTION_LEFT_OUT: PageSelection.LEFT_OUT,
    ingestion_pb2.PAGE_SELECTION_FLAGGED: PageSelection.FLAGGED,
    ingestion_pb2.PAGE_SELECTION_REPEATED: PageSelection.REPEATED,
}


class IngestionServicer(ingestion_pb2_grpc.IngestionServiceServicer):
    """Translates between `bacmr.v1.IngestionService` and the services of this room and the corpus."""

    def __init__(self, service: IngestionService, uploads: Uploads, corpus: CorpusService) -> None:
        """Answer from these services."""
        self._service = service
        self._uploads = uploads
        self._corpus = corpus

    async def CreateUpload(
        self, request: ingestion_pb2.CreateUploadRequest, context: Any
    ) -> ingestion_pb2.CreateUploadResponse:
        """Announce a file."""
        announced = Announced(
            filename=request.filename,
            content_type=request.content_type,
            size_bytes=request.size_bytes,
            sha256=request.sha256,
            title=request.title,
            visibility=VISIBILITIES[request.visibility],
            replaces=UUID(request.document_id) if request.document_id else None,
        )
        ticket = await self._uploads.create_upload(announced, UUID(request.request_id))
        return ingestion_pb2.CreateUploadResponse(ticket=ticket_message(ticket))

    async def CompleteUpload(
        self, request: ingestion_pb2.CompleteUploadRequest, context: Any
    ) -> ingestion_pb2.CompleteUploadResponse:
        """Check an uploaded file and make its document."""
        document = await self._uploads.complete_upload(
            UUID(request.upload_id), UUID(request.request_id) if request.request_id else None
        )
        return ingestion_pb2.CompleteUploadResponse(document=document_message(document))

    async def UploadDocument(
        self, request_iterator: AsyncIterator[ingestion_pb2.UploadDocumentRequest], context: Any
    ) -> ingestion_pb2.UploadDocumentResponse:
        """Take a file over the call."""
        described = await _first_metadata(request_iterator)
        file = FileDescription(
            filename=described.filename,
            content_type=described.content_type,
            sha256=described.sha256,
            title=described.title,
            visibility=VISIBILITIES[described.visibility],
            replaces=UUID(described.document_id) if described.document_id else None,
        )
        document = await self._uploads.upload_document(file, _bytes(request_iterator), UUID(described.request_id))
        return ingestion_pb2.UploadDocumentResponse(document=document_message(document))

    async def CreateIngestionJob(
        self, request: ingestion_pb2.CreateIngestionJobRequest, context: Any
    ) -> ingestion_pb2.CreateIngestionJobResponse:
        """Ask for a document to become searchable."""
        where = Placement(request.namespace, request.subject, request.grade, LANGUAGES[request.language])
        job = await self._service.create_job(UUID(request.document_id), where, UUID(request.request_id))
        return ingestion_pb2.CreateIngestionJobResponse(job=job_message(job))

    async def GetIngestionJob(
        self, request: ingestion_pb2.GetIngestionJobRequest, context: Any
    ) -> ingestion_pb2.GetIngestionJobResponse:
        """Return a job."""
        job = await self._service.job(UUID(request.job_id))
        return ingestion_pb2.GetIngestionJobResponse(job=job_message(job))

    async def ListIngestionJobs(
        self, request: ingestion_pb2.ListIngestionJobsRequest, context: Any
    ) -> ingestion_pb2.ListIngestionJobsResponse:
        """List jobs."""
        page = await self._service.list_jobs(
            STATES.get(request.state),
            UUID(request.document_id) if request.document_id else None,
            request.page_size,
            request.page_token,
        )
        return ingestion_pb2.ListIngestionJobsResponse(
            jobs=[job_message(job) for job in page.items], next_page_token=page.next_page_token
        )

    async def WatchIngestionJob(
        self, request: ingestion_pb2.WatchIngestionJobRequest, context: Any
    ) -> AsyncIterator[ingestion_pb2.JobEvent]:
        """Show a job's progress until it ends."""
        async for event in self._service.watch(UUID(request.job_id)):
            yield ingestion_pb2.JobEvent(sequence=event.sequence, job=job_message(event.job))

    async def CancelIngestionJob(
        self, request: ingestion_pb2.CancelIngestionJobRequest, context: Any
    ) -> ingestion_pb2.CancelIngestionJobResponse:
        """Stop a job."""
        job = await self._service.cancel(UUID(request.job_id), UUID(request.request_id))
        return ingestion_pb2.CancelIngestionJobResponse(job=job_message(job))

    async def RetryIngestionJob(
        self, request: ingestion_pb2.RetryIngestionJobRequest, context: Any
    ) -> ingestion_pb2.RetryIngestionJobResponse:
        """Start a job again."""
        job = await self._service.retry(UUID(request.job_id), UUID(request.request_id))
        return ingestion_pb2.RetryIngestionJobResponse(job=job_message(job))

    async def ListJobAuditEvents(
        self, request: ingestion_pb2.ListJobAuditEventsRequest, context: Any
    ) -> ingestion_pb2.ListJobAuditEventsResponse:
        """List a job's moves."""
        page = await self._service.list_audit(UUID(request.job_id), request.page_size, request.page_token)
        return ingestion_pb2.ListJobAuditEventsResponse(
            events=[audit_message(event) for event in page.items], next_page_token=page.next_page_token
        )

    async def ListDocuments(
        self, request: ingestion_pb2.ListDocumentsRequest, context: Any
    ) -> ingestion_pb2.ListDocumentsResponse:
        """List documents."""
        where = DocumentFilter(
            request.namespace,
            request.subject,
            request.grade,
            LANGUAGES[request.language],
            flagged=request.flagged,
        )
        page = await self._corpus.list_documents(where, request.page_size, request.page_token)
        return ingestion_pb2.ListDocumentsResponse(
            documents=[document_message(document) for document in page.items], next_page_token=page.next_page_token
        )

    async def GetDocument(
        self, request: ingestion_pb2.GetDocumentRequest, context: Any
    ) -> ingestion_pb2.GetDocumentResponse:
        """Return a document."""
        document = await self._corpus.document(UUID(request.document_id))
        return ingestion_pb2.GetDocumentResponse(document=document_message(document))

    async def ListDocumentPages(
        self, request: ingestion_pb2.ListDocumentPagesRequest, context: Any
    ) -> ingestion_pb2.ListDocumentPagesResponse:
        """List what became of a document's pages."""
        page = await self._service.list_pages(
            UUID(request.document_id), SELECTIONS[request.selection], request.page_size, request.page_token
        )
        return ingestion_pb2.ListDocumentPagesResponse(
            pages=[page_message(each) for each in page.items], next_page_token=page.next_page_token
        )

    async def DeleteDocument(
        self, request: ingestion_pb2.DeleteDocumentRequest, context: Any
    ) -> ingestion_pb2.DeleteDocumentResponse:
        """Delete a document."""
        await self._service.delete_document(UUID(request.document_id), UUID(request.request_id))
        return ingestion_pb2.DeleteDocumentResponse()

    async def BatchGetChunks(
        self, request: ingestion_pb2.BatchGetChunksRequest, context: Any
    ) -> ingestion_pb2.BatchGetChunksResponse:
        """Return chunks."""
        found = await self._corpus.chunks(list(request.chunk_ids))
        return ingestion_pb2.BatchGetChunksResponse(chunks=[chunk_message(chunk) for chunk in found.values()])


def ticket_message(ticket: UploadTicket) -> ingestion_pb2.UploadTicket:
    """Write an upload ticket."""
    return ingestion_pb2.UploadTicket(
        upload_id=str(ticket.upload_id),
        url=ticket.url,
        method=ticket.method,
        headers=ticket.headers,
        expires_at=_timestamp(ticket.expires_at),
    )


def document_message(document: Document) -> ingestion_pb2.Document:
    """Write a document."""
    return ingestion_pb2.Document(
        id=str(document.id),
        title=document.title,
        filename=document.filename,
        content_type=document.content_type,
        size_bytes=document.size_bytes,
        sha256=document.sha256,
        namespace=document.namespace,
        subject=document.subject,
        grade=document.grade,
        # Before its pages were read nobody knows.
        language=LANGUAGE_NUMBERS[document.language] if document.page_count else language_pb2.LANGUAGE_UNSPECIFIED,
        visibility=VISIBILITY_NUMBERS[document.visibility],
        owner_id=str(document.owner_id or ""),
        page_count=document.page_count,
        chunk_count=document.chunk_count,
        source_url=document.source_url,
        flagged_page_count=document.flagged_page_count,
        created_at=_timestamp(document.created_at),
    )


def page_message(page: DocumentPage) -> ingestion_pb2.DocumentPage:
    """Write what became of a page."""
    return ingestion_pb2.DocumentPage(
        number=page.number,
        verdict=VERDICT_NUMBERS[page.verdict],
        reason=page.reason,
        method=page.method.value,
        ocr_confidence=page.confidence,
        quality=page.score,
        # Before it was judged nobody knows.
        language=LANGUAGE_NUMBERS[page.language] if page.verdict else language_pb2.LANGUAGE_UNSPECIFIED,
        word_count=page.words,
        repeats_document_id=str(page.repeats_document_id or ""),
        repeats_number=page.repeats_number or 0,
    )


def job_message(job: Job) -> ingestion_pb2.Job:
    """Write a job."""
    done = job.progress
    return ingestion_pb2.Job(
        id=str(job.id),
        document_id=str(job.document_id),
        state=STATE_NUMBERS[job.state],
        failure_reason=job.failure_reason,
        pages_done=done.pages_done,
        pages_total=done.pages_total,
        chunks_done=done.chunks_done,
        chunks_total=done.chunks_total,
        pages_rejected=done.pages_rejected,
        attempts=job.attempts,
        namespace=job.placement.namespace,
        subject=job.placement.subject,
        grade=job.placement.grade,
        language=LANGUAGE_NUMBERS[job.placement.language],
        created_at=_timestamp(job.created_at),
        updated_at=_timestamp(job.updated_at),
        next_attempt_at=_timestamp(job.next_attempt_at) if job.next_attempt_at else None,
    )


def audit_message(event: AuditEvent) -> ingestion_pb2.JobAuditEvent:
    """Write a move of a job."""
    before = ingestion_pb2.JOB_STATE_UNSPECIFIED if event.from_state is None else STATE_NUMBERS[event.from_state]
    return ingestion_pb2.JobAuditEvent(
        sequence=event.sequence,
        from_state=before,
        to_state=STATE_NUMBERS[event.to_state],
        reason=event.reason,
        actor_id=str(event.actor_id or ""),
        request_id=str(event.request_id),
        created_at=_timestamp(event.created_at),
    )


def chunk_message(chunk: Chunk) -> ingestion_pb2.Chunk:
    """Write a chunk."""
    return ingestion_pb2.Chunk(
        id=chunk.id,
        document_id=str(chunk.document_id),
        document_title=chunk.document_title,
        page=chunk.page,
        index=chunk.index,
        text=chunk.text,
        token_count=chunk.token_count,
        language=LANGUAGE_NUMBERS[chunk.language],
        start=chunk.start,
        end=chunk.end,
    )


async def _first_metadata(
    requests: AsyncIterator[ingestion_pb2.UploadDocumentRequest],
) -> ingestion_pb2.UploadMetadata:
    async for request in requests:
        if request.WhichOneof("part") == "metadata":
            return request.metadata
        break
    raise Invalid(violations=[Violation("metadata", "must be the first message", "first_message")])


async def _bytes(requests: AsyncIterator[ingestion_pb2.UploadDocumentRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise Invalid(violations=[Violation("chunk", "all messages after the first carry bytes", "chunk")])
        yield request.chunk


def _timestamp(when: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(when)
    return message
