"""Uploads by presigned requests to an S3 store, up to searchable and deleted, over a real channel."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio

from bacmr.v1 import ingestion_pb2 as pb
from bacmr.v1.ingestion_pb2_grpc import IngestionServiceStub
from server import caller
from server.caller import Caller
from server.corpus.passage import CorpusFilter
from server.database.pool import Database
from server.ingestion.servicer import IngestionServicer
from server.vectors.filters import index_name
from server.vectors.milvus import MilvusStore
from tests.fakes import WordEmbedder
from tests.rpc.served import Edge, People, Who, refusal
from tests.s3 import CREDENTIALS, serving
from tests.service.ingestion.ingesting import House, sample

PDF = sample("physique_newton.pdf")
NAMESPACE = "s3-physics"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest_asyncio.fixture
async def house(
    database: Database, milvus_uri: str, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    store = MilvusStore(milvus_uri, timeout_seconds=60)
    embedder = WordEmbedder()
    index = index_name("ingestion-s3", embedder.dimensions)
    await store.create_index(index, embedder.dimensions)
    await store.activate(index)
    yield House(database, store, index, embedder, tmp_path, blob_url=bucket)
    await store.close()


@pytest_asyncio.fixture
async def stub(serve: Callable[..., Awaitable[Edge]], house: House) -> Any:
    edge = await serve(IngestionService=IngestionServicer(house.service, house.uploads, house.corpus))
    return IngestionServiceStub(edge.channel)


@pytest.fixture
def teacher(people: People, make_user: Callable[..., Caller]) -> Who:
    account = make_user("teacher")
    assert account.user_id is not None
    who = Who(token=f"token-{uuid4()}", user_id=account.user_id, role=account.role)
    people.known[who.token] = who
    return who


async def announced(stub: Any, teacher: Who, content: bytes = PDF) -> pb.UploadTicket:
    request = pb.CreateUploadRequest(
        filename="newton.pdf",
        content_type="application/pdf",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        request_id=str(uuid4()),
    )
    return (await stub.CreateUpload(request, metadata=teacher.metadata)).ticket


async def sent(ticket: pb.UploadTicket, content: bytes) -> httpx.Response:
    """Send the file as a browser would: nothing but what the ticket says."""
    async with httpx.AsyncClient() as client:
        return await client.request(ticket.method, ticket.url, content=content, headers=dict(ticket.headers))


def completion(ticket: pb.UploadTicket) -> pb.CompleteUploadRequest:
    return pb.CompleteUploadRequest(upload_id=ticket.upload_id, request_id=str(uuid4()))


async def stored(house: House) -> set[str]:
    return {blob.key async for blob in house.blobs.list("files/")}


async def test_a_file_put_into_the_bucket_becomes_searchable_and_leaves_nothing_when_deleted(
    stub: Any, house: House, teacher: Who
) -> None:
    ticket = await announced(stub, teacher)
    assert (await sent(ticket, PDF)).is_success
    document = (await stub.CompleteUpload(completion(ticket), metadata=teacher.metadata)).document
    request = pb.CreateIngestionJobRequest(document_id=document.id, namespace=NAMESPACE, request_id=str(uuid4()))
    job = (await stub.CreateIngestionJob(request, metadata=teacher.metadata)).job
    await house.run_queued()
    job = (await stub.GetIngestionJob(pb.GetIngestionJobRequest(job_id=job.id), metadata=teacher.metadata)).job
    assert (job.state, job.failure_reason) == (pb.JOB_STATE_READY, "")
    with caller.acting_as(caller.system()):
        hits = await house.corpus.search_text("principe d'inertie", CorpusFilter(namespace=NAMESPACE), 5)
    assert hits
    assert await house.chunk_ids(UUID(document.id)) <= await house.vector_ids()
    await stub.DeleteDocument(
        pb.DeleteDocumentRequest(document_id=document.id, request_id=str(uuid4())), metadata=teacher.metadata
    )
    assert await stored(house) == set()


async def test_bytes_in_the_bucket_that_differ_from_the_announcement_are_refused_and_deleted(
    stub: Any, house: House, teacher: Who
) -> None:
    ticket = await announced(stub, teacher)
    assert (await sent(ticket, PDF[:-1] + b"!")).is_success
    refused = await refusal(stub.CompleteUpload(completion(ticket), metadata=teacher.metadata))
    assert refused.reason == "UPLOAD_REFUSED"
    assert await stored(house) == set()


async def test_a_file_lost_from_the_bucket_fails_its_job_for_good_and_comes_back_by_uploading_it_again(
    stub: Any, house: House, teacher: Who
) -> None:
    ticket = await announced(stub, teacher)
    await sent(ticket, PDF)
    document = (await stub.CompleteUpload(completion(ticket), metadata=teacher.metadata)).document
    for key in await stored(house):
        await house.blobs.delete(key)
    request = pb.CreateIngestionJobRequest(document_id=document.id, namespace=NAMESPACE, request_id=str(uuid4()))
    job = (await stub.CreateIngestionJob(request, metadata=teacher.metadata)).job
    await house.run_queued()
    failed = (await stub.GetIngestionJob(pb.GetIngestionJobRequest(job_id=job.id), metadata=teacher.metadata)).job
    assert (failed.state, failed.failure_reason.partition(":")[0]) == (pb.JOB_STATE_FAILED, "NOT_FOUND")
    again = await announced(stub, teacher)
    await sent(again, PDF)
    restored = (await stub.CompleteUpload(completion(again), metadata=teacher.metadata)).document
    assert restored.id == document.id
    retry = pb.RetryIngestionJobRequest(job_id=job.id, request_id=str(uuid4()))
    await stub.RetryIngestionJob(retry, metadata=teacher.metadata)
    await house.run_queued()
    ready = (await stub.GetIngestionJob(pb.GetIngestionJobRequest(job_id=job.id), metadata=teacher.metadata)).job
    assert ready.state == pb.JOB_STATE_READY
