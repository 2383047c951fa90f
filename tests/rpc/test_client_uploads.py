"""The Python client's upload tells what the server said, also when it says it before it has read the file."""

import asyncio

import grpc
import pytest
import pytest_asyncio

from bacmr.client import UPLOAD_PART_BYTES, BacmrClient
from bacmr.refusals import refusal
from bacmr.v1 import ingestion_pb2, ingestion_pb2_grpc
from server.caller import Role
from server.refusal import QuotaExceeded, Refusal, UploadRefused

FILE_PARTS = 40
TRIES = 60
"""Without care one try in three or four loses what the server said."""


class Ingestion(ingestion_pb2_grpc.IngestionServiceServicer):
    """Refuses an upload after so many messages, or takes it."""

    def __init__(self) -> None:
        self.refusal: Refusal | None = None
        self.after = 0
        self.bytes_read = 0

    async def UploadDocument(self, request_iterator, context):
        self.bytes_read = messages = 0
        async for message in request_iterator:
            messages += 1
            self.bytes_read += len(message.chunk)
            if self.refusal is not None and messages > self.after:
                raise self.refusal
        return ingestion_pb2.UploadDocumentResponse(document=ingestion_pb2.Document(title="taken"))


@pytest_asyncio.fixture
async def ingestion(serve, people, tmp_path):
    served = Ingestion()
    edge = await serve(IngestionService=served)
    served.file = tmp_path / "lesson.pdf"
    served.file.write_bytes(b"%PDF-" + bytes(FILE_PARTS * UPLOAD_PART_BYTES))
    async with BacmrClient(edge.address, access_token=people.add(Role.TEACHER).token) as client:
        served.client = client
        yield served


async def upload(ingestion) -> ingestion_pb2.Document:
    return await ingestion.client.upload(ingestion.file, "application/pdf")


async def test_a_file_that_is_taken_is_taken_whole(ingestion):
    assert (await upload(ingestion)).title == "taken"
    assert ingestion.bytes_read == ingestion.file.stat().st_size


@pytest.mark.parametrize("after", [0, 1, 5])
@pytest.mark.parametrize("said", [UploadRefused("The file is too large."), QuotaExceeded(limit="documents")])
async def test_an_early_refusal_of_a_file_is_told_as_the_server_said_it(ingestion, said, after):
    ingestion.refusal, ingestion.after = said, after
    told = []
    for _ in range(TRIES):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await upload(ingestion)
        told.append((refusal(error.value).reason, error.value.code().name, bool(refusal(error.value).request_id)))
    assert told == [(said.reason, told[0][1], True)] * TRIES
    assert told[0][1] != "INTERNAL"


async def test_an_upload_that_is_cancelled_is_cancelled(ingestion):
    sending = asyncio.create_task(upload(ingestion))
    while not ingestion.bytes_read:  # noqa: ASYNC110 - another task's work is waited for
        await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
