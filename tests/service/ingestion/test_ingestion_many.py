"""Many documents at once, four workers: all become searchable, none twice, and one that is broken stops nobody."""

import asyncio
from uuid import uuid4

import pytest

from server import caller
from server.caller import Caller
from server.ingestion.job import Placement
from server.ingestion.jobstate import JobState
from tests.service.ingestion.ingesting import House, sample

DOCUMENTS = 200
WORKERS = 4
LESSON = sample("physique_newton.md").decode()


@pytest.mark.slow
async def test_four_workers_ingest_many_documents(house: House, teacher: Caller) -> None:
    where = Placement(f"many-{uuid4().hex[:8]}", "physics", "12")
    jobs = []
    for number in range(DOCUMENTS):
        content = f"Leçon numéro {number}. {LESSON}".encode()
        document = await house.upload(*((b"%PDF-broken", "b.pdf") if number == 7 else (content, "a.txt")))
        jobs.append(await house.service.create_job(document.id, where, uuid4()))
    waiting = iter(house.queue.take())

    async def work() -> None:
        with caller.acting_as(caller.system()):
            for job_id in waiting:
                await house.pipeline.run(job_id)

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    ended = [await house.service.job(job.id) for job in jobs]
    assert [job.state for job in ended].count(JobState.READY) == DOCUMENTS - 1
    assert ended[7].state is JobState.FAILED
    expected = sum(job.progress.chunks_total for job in ended)
    assert len(await house.vector_ids()) == expected == sum((await house.corpus.namespaces()).values())
