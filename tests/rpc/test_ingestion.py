"""IngestionService over a real channel: from upload to a searchable, deletable document, and every way it says no."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio

from bacmr.v1 import ingestion_pb2 as pb
from bacmr.v1 import language_pb2
from bacmr.v1.ingestion_pb2_grpc import IngestionServiceStub
from server.caller import Caller
from server.database.pool import Database
from server.ingestion.servicer import IngestionServicer
from server.vectors.filters import index_name
from server.vectors.milvus import MilvusStore
from tests.fakes import WordEmbedder
from tests.rpc.served import Edge, People, Who, refusal, refused
from tests.service.ingestion.ingesting import MAX_BYTES, House, sample

NAMESPACE = "grade-12-math"


@pytest_asyncio.fixture
async def house(database: Database, milvus_uri: str, tmp_path: Path) -> AsyncIterator[House]:
    store = MilvusStore(milvus_uri, timeout_seconds=60)
    embedder = WordEmbedder()
    index = index_name("ingestion-rpc", embedder.dimensions)
    await store.create_index(index, embedder.dimensions)
    await store.activate(index)
    yield House(database, store, index, embedder, tmp_path)
    await store.close()


@pytest_asyncio.fixture
async def edge(serve: Callable[..., Awaitable[Edge]], house: House) -> Edge:
    return await serve(IngestionService=IngestionServicer(house.service, house.uploads, house.corpus))


@pytest.fixture
def stub(edge: Edge) -> Any:
    return IngestionServiceStub(edge.channel)


@pytest.fixture
def known(people: People, make_user: Callable[..., Caller]) -> Callable[[str], Who]:
    """A function that makes a person with an account and a token."""

    def make(role: str = "teacher") -> Who:
        account = make_user(role)
        assert account.user_id is not None
        who = Who(token=f"token-{uuid4()}", user_id=account.user_id, role=account.role)
        people.known[who.token] = who
        return who

    return make


@pytest.fixture
def teacher(known: Callable[..., Who]) -> Who:
    return known("teacher")


def parts(content: bytes, filename: str, **described: Any) -> Iterator[pb.UploadDocumentRequest]:
    metadata = {"filename": filename, "content_type": "application/pdf", "request_id": str(uuid4())} | described
    yield pb.UploadDocumentRequest(metadata=pb.UploadMetadata(**metadata))
    for start in range(0, len(content), 10_000):
        yield pb.UploadDocumentRequest(chunk=content[start : start + 10_000])


async def uploaded(stub: Any, who: Who, name: str = "maths_suites.pdf", **described: Any) -> pb.Document:
    answer = await stub.UploadDocument(parts(sample(name), name, **described), metadata=who.metadata)
    return answer.document


async def job_of(stub: Any, who: Who, document: pb.Document) -> pb.Job:
    request = pb.CreateIngestionJobRequest(document_id=document.id, namespace=NAMESPACE, request_id=str(uuid4()))
    return (await stub.CreateIngestionJob(request, metadata=who.metadata)).job


async def test_a_streamed_file_is_stored_with_its_size_and_hash(stub: Any, teacher: Who) -> None:
    document = await uploaded(stub, teacher, title="Suites")
    content = sample("maths_suites.pdf")
    assert (document.title, document.size_bytes) == ("Suites", len(content))
    assert document.sha256 == hashlib.sha256(content).hexdigest()
    assert document.language == language_pb2.LANGUAGE_UNSPECIFIED


@pytest.mark.parametrize(
    ("filename", "shown"),
    [("../../etc/lesson.pdf", "lesson.pdf"), ("C:\\cours\\a.pdf", "a.pdf"), ("\u202efdp.a", "fdp.a")],
)
async def test_the_name_of_a_file_is_shown_without_folders_and_turned_lines(
    stub: Any, teacher: Who, filename: str, shown: str
) -> None:
    content = sample("maths_suites.pdf")
    document = (await stub.UploadDocument(parts(content, filename), metadata=teacher.metadata)).document
    assert (document.filename, document.title) == (shown, shown)


async def test_a_job_is_watched_from_pending_to_ready(stub: Any, house: House, teacher: Who) -> None:
    job = await job_of(stub, teacher, await uploaded(stub, teacher, "physique_newton.pdf"))
    running = asyncio.create_task(house.run_queued())
    watch = stub.WatchIngestionJob(pb.WatchIngestionJobRequest(job_id=job.id), metadata=teacher.metadata, timeout=60)
    events = [event async for event in watch]
    await running
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].job.state == pb.JOB_STATE_READY
    assert events[-1].job.chunks_done == events[-1].job.chunks_total > 0


async def test_every_move_of_a_job_is_listed(stub: Any, house: House, teacher: Who) -> None:
    job = await job_of(stub, teacher, await uploaded(stub, teacher, "biologie_photosynthese.pdf"))
    await house.run_queued()
    answer = await stub.ListJobAuditEvents(pb.ListJobAuditEventsRequest(job_id=job.id), metadata=teacher.metadata)
    assert [event.to_state for event in answer.events] == [1, 2, 3, 4, 5, 6]
    assert answer.events[0].actor_id == str(teacher.user_id)


async def pages_of(stub: Any, who: Who, document: pb.Document, **asked: Any) -> list[pb.DocumentPage]:
    request = pb.ListDocumentPagesRequest(document_id=document.id, **asked)
    return list((await stub.ListDocumentPages(request, metadata=who.metadata)).pages)


async def test_what_became_of_each_page_is_listed_with_its_reason(stub: Any, house: House, teacher: Who) -> None:
    lesson, garbage = sample("physique_newton.md").decode(), "zqxj kvwq pfjx wqz xkj " * 30
    content = f"{lesson}\f{garbage}\fFin.\f{lesson} ".encode()
    described = {"content_type": "text/markdown", "filename": "lesson.md"}
    document = (await stub.UploadDocument(parts(content, **described), metadata=teacher.metadata)).document
    await job_of(stub, teacher, document)
    assert await pages_of(stub, teacher, document) == []
    await house.run_queued()
    indexed, review, rejected, duplicate = pages = await pages_of(stub, teacher, document)
    assert [page.verdict for page in pages] == [1, 2, 3, 4]
    assert (indexed.reason, indexed.method, indexed.language) == ("", "plain", language_pb2.LANGUAGE_FRENCH)
    assert all(page.reason for page in (review, rejected, duplicate))
    assert (duplicate.repeats_document_id, duplicate.repeats_number) == (document.id, 1)
    selected = {
        pb.PAGE_SELECTION_LEFT_OUT: [review, rejected, duplicate],
        pb.PAGE_SELECTION_FLAGGED: [review],
        pb.PAGE_SELECTION_REPEATED: [duplicate],
    }
    for selection, expected in selected.items():
        assert await pages_of(stub, teacher, document, selection=selection) == expected
    await uploaded(stub, teacher)
    flagged = await stub.ListDocuments(pb.ListDocumentsRequest(flagged=True), metadata=teacher.metadata)
    assert document.id in {each.id for each in flagged.documents}
    assert all(each.flagged_page_count for each in flagged.documents)


async def test_pages_of_a_document_are_listed_page_by_page(stub: Any, house: House, teacher: Who) -> None:
    document = await uploaded(stub, teacher)
    await job_of(stub, teacher, document)
    await house.run_queued()
    request = pb.ListDocumentPagesRequest(document_id=document.id, page_size=2)
    first = await stub.ListDocumentPages(request, metadata=teacher.metadata)
    request.page_token = first.next_page_token
    rest = await stub.ListDocumentPages(request, metadata=teacher.metadata)
    assert [page.number for page in (*first.pages, *rest.pages)] == [1, 2, 3]
    assert not rest.next_page_token


async def test_pages_are_for_the_owner_of_their_document_and_for_operators(
    stub: Any, house: House, teacher: Who, known: Callable[..., Who]
) -> None:
    shared, private = await uploaded(stub, teacher), await uploaded(stub, teacher, visibility=pb.VISIBILITY_PRIVATE)
    codes = [
        (await refusal(stub.ListDocumentPages(pb.ListDocumentPagesRequest(document_id=wanted), metadata=metadata))).code
        for wanted, metadata in (
            (shared.id, ()),
            (shared.id, known("student").metadata),
            (shared.id, known("teacher").metadata),
            (private.id, known("teacher").metadata),
            ("no uuid", teacher.metadata),
        )
    ]
    assert [code.name for code in codes] == [
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "PERMISSION_DENIED",
        "NOT_FOUND",
        "INVALID_ARGUMENT",
    ]
    await job_of(stub, teacher, private)
    await house.run_queued()
    assert len(await pages_of(stub, known("admin"), private)) == 3


async def test_chunks_are_returned_in_the_order_asked_for(
    stub: Any, house: House, teacher: Who, known: Callable[..., Who]
) -> None:
    document = await uploaded(stub, teacher, "tarikh_mauritania.pdf")
    await job_of(stub, teacher, document)
    await house.run_queued()
    ids = sorted(await house.chunk_ids(house_id(document)), reverse=True)
    answer = await stub.BatchGetChunks(pb.BatchGetChunksRequest(chunk_ids=ids), metadata=known("student").metadata)
    assert [chunk.id for chunk in answer.chunks] == ids


async def test_a_deleted_document_leaves_no_chunk_and_no_vector(stub: Any, house: House, teacher: Who) -> None:
    document = await uploaded(stub, teacher, "falsafa_haqiqa.pdf")
    await job_of(stub, teacher, document)
    await house.run_queued()
    before = await house.chunk_ids(house_id(document))
    await stub.DeleteDocument(
        pb.DeleteDocumentRequest(document_id=document.id, request_id=str(uuid4())), metadata=teacher.metadata
    )
    assert before
    assert not before & await house.vector_ids()
    gone = await refusal(stub.GetDocument(pb.GetDocumentRequest(document_id=document.id), metadata=teacher.metadata))
    assert gone.code is grpc.StatusCode.NOT_FOUND


async def test_whoever_deleted_a_document_is_not_shown_its_chunks_from_memory(
    stub: Any, house: House, teacher: Who
) -> None:
    document = await uploaded(stub, teacher, "falsafa_haqiqa.pdf")
    await job_of(stub, teacher, document)
    await house.run_queued()
    wanted = pb.BatchGetChunksRequest(chunk_ids=await house.chunk_ids(house_id(document)))
    before = await stub.BatchGetChunks(wanted, metadata=teacher.metadata)
    await stub.DeleteDocument(
        pb.DeleteDocumentRequest(document_id=document.id, request_id=str(uuid4())), metadata=teacher.metadata
    )
    after = await stub.BatchGetChunks(wanted, metadata=teacher.metadata)
    assert before.chunks
    assert not after.chunks


async def test_whoever_was_told_that_a_document_is_ready_searches_it(stub: Any, house: House, teacher: Who) -> None:
    job = await job_of(stub, teacher, await uploaded(stub, teacher, "maths_suites.pdf"))
    before = await house.corpus.generation()
    await house.run_queued()
    told = await stub.GetIngestionJob(pb.GetIngestionJobRequest(job_id=job.id), metadata=teacher.metadata)
    assert told.job.state == pb.JOB_STATE_READY
    assert await house.corpus.generation() != before


async def test_a_request_id_of_another_job_is_refused_before_the_job_is_looked_for(
    stub: Any, house: House, teacher: Who
) -> None:
    job = await job_of(stub, teacher, await uploaded(stub, teacher))
    cancel = pb.CancelIngestionJobRequest(job_id=job.id, request_id=str(uuid4()))
    await stub.CancelIngestionJob(cancel, metadata=teacher.metadata)
    cancel.job_id = str(uuid4())
    refused = await refusal(stub.CancelIngestionJob(cancel, metadata=teacher.metadata))
    assert refused.reason == "REQUEST_ID_REUSED"


async def test_a_file_takes_the_place_of_another_in_its_document(stub: Any, house: House, teacher: Who) -> None:
    document = await uploaded(stub, teacher, "physique_newton.pdf", title="Physique")
    replaced = await uploaded(stub, teacher, "biologie_photosynthese.pdf", document_id=document.id)
    assert (replaced.id, replaced.title, replaced.filename) == (document.id, "Physique", "biologie_photosynthese.pdf")
    assert replaced.sha256 != document.sha256


async def test_a_private_document_is_not_found_by_others(stub: Any, teacher: Who, known: Callable[..., Who]) -> None:
    document = await uploaded(stub, teacher, visibility=pb.VISIBILITY_PRIVATE)
    refused = await refusal(
        stub.GetDocument(pb.GetDocumentRequest(document_id=document.id), metadata=known("student").metadata)
    )
    assert refused.code is grpc.StatusCode.NOT_FOUND


async def test_another_persons_document_is_not_for_me_to_ingest(
    stub: Any, teacher: Who, known: Callable[..., Who]
) -> None:
    document = await uploaded(stub, teacher)
    request = pb.CreateIngestionJobRequest(document_id=document.id, namespace=NAMESPACE, request_id=str(uuid4()))
    refused = await refusal(stub.CreateIngestionJob(request, metadata=known("teacher").metadata))
    assert refused.code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_student_may_not_upload(stub: Any, known: Callable[..., Who]) -> None:
    call = stub.UploadDocument(parts(b"%PDF-", "a.pdf"), metadata=known("student").metadata)
    assert (await refusal(call)).code is grpc.StatusCode.PERMISSION_DENIED


async def test_nobody_ingests_without_a_token(stub: Any) -> None:
    call = stub.ListIngestionJobs(pb.ListIngestionJobsRequest())
    assert (await refusal(call)).code is grpc.StatusCode.UNAUTHENTICATED


async def test_bytes_before_the_description_are_refused(stub: Any, teacher: Who) -> None:
    call = stub.UploadDocument(iter([pb.UploadDocumentRequest(chunk=b"%PDF-")]), metadata=teacher.metadata)
    assert (await refusal(call)).code is grpc.StatusCode.INVALID_ARGUMENT


async def test_bytes_of_another_type_are_refused(stub: Any, teacher: Who) -> None:
    call = stub.UploadDocument(parts(b"\x89PNG\r\n\x1a\n" + bytes(200), "a.pdf"), metadata=teacher.metadata)
    refused = await refusal(call)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UPLOAD_REFUSED")


async def test_a_stream_of_a_gigabyte_is_refused_early_and_costs_no_memory(
    edge: Edge, house: House, teacher: Who
) -> None:
    chunk, sent = bytes(256 * 1024), 0

    def gigabyte() -> Iterator[pb.UploadDocumentRequest]:
        nonlocal sent
        metadata = pb.UploadMetadata(filename="a.txt", content_type="text/plain", request_id=str(uuid4()))
        yield pb.UploadDocumentRequest(metadata=metadata)
        while sent < 1024**3:
            sent += len(chunk)
            yield pb.UploadDocumentRequest(chunk=chunk)

    # The asyncio client tells INTERNAL instead of what the server said when a write still waits: whichever comes first.
    with grpc.insecure_channel(edge.address) as channel:
        upload = IngestionServiceStub(channel).UploadDocument
        before = {blob.key async for blob in house.blobs.list("files/")}
        with pytest.raises(grpc.RpcError) as error:
            await asyncio.to_thread(upload, gigabyte(), metadata=teacher.metadata, timeout=30)
    assert refused(error.value).reason == "UPLOAD_REFUSED"
    # What is on its way when the server says no: its limit and the windows of HTTP/2.
    assert sent < 10 * MAX_BYTES
    assert {blob.key async for blob in house.blobs.list("files/")} == before


async def test_an_unknown_upload_is_not_found(stub: Any, teacher: Who) -> None:
    request = pb.CompleteUploadRequest(upload_id=str(uuid4()), request_id=str(uuid4()))
    refused = await refusal(stub.CompleteUpload(request, metadata=teacher.metadata))
    assert refused.code is grpc.StatusCode.NOT_FOUND


async def test_a_wrong_hash_is_refused(stub: Any, teacher: Who) -> None:
    call = stub.UploadDocument(parts(sample("maths_suites.pdf"), "a.pdf", sha256="0" * 64), metadata=teacher.metadata)
    assert (await refusal(call)).reason == "UPLOAD_REFUSED"


async def test_a_ready_job_cannot_be_cancelled(stub: Any, house: House, teacher: Who) -> None:
    job = await job_of(stub, teacher, await uploaded(stub, teacher, "hassaniya_as2ila.pdf"))
    await house.run_queued()
    request = pb.CancelIngestionJobRequest(job_id=job.id, request_id=str(uuid4()))
    refused = await refusal(stub.CancelIngestionJob(request, metadata=teacher.metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ILLEGAL_STATE")


async def test_documents_are_listed_page_by_page(stub: Any, teacher: Who) -> None:
    for name in ("maths_suites.pdf", "physique_newton.pdf"):
        await uploaded(stub, teacher, name)
    first = await stub.ListDocuments(pb.ListDocumentsRequest(page_size=1), metadata=teacher.metadata)
    second = await stub.ListDocuments(
        pb.ListDocumentsRequest(page_size=1, page_token=first.next_page_token), metadata=teacher.metadata
    )
    assert first.documents[0].id != second.documents[0].id


def house_id(document: pb.Document) -> Any:
    from uuid import UUID

    return UUID(document.id)
