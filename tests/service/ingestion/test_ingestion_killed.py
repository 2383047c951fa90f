"""A worker killed -9 at any step: the next run ends with the same chunks and vectors as if nothing had happened."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from server import caller
from server.caller import Caller
from server.corpus.passage import Document, NewDocument
from server.database.pool import Database
from server.ingestion.jobstate import JobState
from server.ingestion.scratch import Scratch
from server.vectors.filters import index_name
from server.vectors.milvus import MilvusStore
from tests.conftest import Addresses
from tests.fakes import WordEmbedder
from tests.service.ingestion.ingesting import MATHS, House, pieces, sample

ROOT = Path(__file__).parents[3]
PHYSICS, BIOLOGY, MATHS_LESSON = (
    sample(f"{name}.md").decode() for name in ("physique_newton", "biologie_photosynthese", "maths_suites")
)
FIRST = "\f".join([PHYSICS, BIOLOGY, MATHS_LESSON])
SECOND = "\f".join([PHYSICS.replace("galiléen", "inertiel"), MATHS_LESSON])
STEPS = [
    ("blobs", "get", "before"),
    ("corpus", "begin_generation", "after"),
    ("corpus", "write_chunks", "before"),
    ("embedder", "embed", "before"),
    ("refs", "keep", "after"),
    ("vectors", "upsert", "before"),
    ("vectors", "upsert", "after"),
    ("refs", "refer", "after"),
    ("vectors", "delete", "before"),
    ("vectors", "delete", "after"),
    ("corpus", "retire_chunks", "after"),
]


@pytest_asyncio.fixture
async def folder_house(database: Database, vectors: MilvusStore, tmp_path: Path) -> House:
    embedder = WordEmbedder()
    index = index_name(f"killed-{uuid4().hex[:8]}", embedder.dimensions)
    await vectors.create_index(index, embedder.dimensions)
    await vectors.activate(index)
    return House(database, vectors, index, embedder, tmp_path, blob_url=f"file://{tmp_path}/files")


async def killed_run(house: House, addresses: Addresses, milvus_uri: str, job_id: UUID, step: tuple[str, ...]) -> int:
    """Run the job in a process that dies at a step; return how that process ended."""
    task = {
        "database_url": addresses.url,
        "milvus_uri": milvus_uri,
        "index": house.index,
        "scratch": str(house.scratch),
        "blob_url": house.blob_url,
        "job_id": str(job_id),
        "kill": step,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.service.ingestion.killed", json.dumps(task), cwd=ROOT
    )
    return await asyncio.wait_for(process.wait(), 120)


async def change_file(house: House, document: Document, content: bytes) -> None:
    key = f"files/{uuid4()}"
    await house.blobs.put(key, pieces(content))
    changed = await house.upload(content, "changed.txt")
    async with house.database.transaction() as connection:
        new = NewDocument("changed", changed.content_type, len(content), changed.sha256, key)
        await house.corpus.replace_file(connection, document.id, new)


async def recovered(house: House) -> None:
    """Recover the job, once PostgreSQL has noticed that its last client is gone and has dropped its locks."""
    async with asyncio.timeout(20):
        with caller.acting_as(caller.system()):
            while not await house.service.recover_stalled(after_seconds=0):  # noqa: ASYNC110 - another process's locks
                await asyncio.sleep(0.05)


async def contents(house: House, document_id: UUID) -> set[tuple[Any, ...]]:
    return {(c.id, c.page, c.index, c.text) for c in await house.corpus.document_chunks(document_id)}


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS, ids="-".join)
async def test_a_killed_run_is_made_good_by_the_next(
    folder_house: House, addresses: Addresses, milvus_uri: str, teacher: Caller, step: tuple[str, ...]
) -> None:
    house = folder_house
    job = await house.ingest(f"{uuid4()}\n{FIRST}".encode())
    document = await house.corpus.document(job.document_id)
    await change_file(house, document, f"{document.id}\n{SECOND}".encode())
    second = await house.service.create_job(document.id, MATHS, uuid4())
    house.queue.take()

    assert await killed_run(house, addresses, milvus_uri, second.id, step) == -signal.SIGKILL

    await recovered(house)
    await house.run_queued()
    assert (await house.service.job(second.id)).state is JobState.READY
    after = await contents(house, document.id)
    assert await house.vector_ids() == {row[0] for row in after}
    assert not any("galiléen" in row[3] for row in after)
    third = await house.service.create_job(document.id, MATHS, uuid4())
    await house.run_queued()
    assert (await house.service.job(third.id)).state is JobState.READY
    assert await contents(house, document.id) == after
    Scratch(house.scratch).sweep(older_than_seconds=-1)
    assert os.listdir(house.scratch) == ["files"]
