"""Jobs: one at a time per document, every move audited, bounded tries, cancel, retry, recovery, and who sees them."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text

from server import caller
from server.caller import Caller
from server.corpus.spaces import Space
from server.corpus.vectors import VectorRefs
from server.ingestion.chunking import TextChunk, chunk_id, content_hash
from server.ingestion.job import Job, JobEvent
from server.ingestion.jobstate import JobState
from server.ingestion.pipeline import Stores
from server.ingestion.pipeline.indexing import EMBED_BATCH, Indexing
from server.ingestion.pipeline.run import Run
from server.models.port import Matrix, ProviderFailure, Purpose
from server.refusal import Conflict, Forbidden, IllegalState, NotFound, RequestIdReused
from server.text.language import Language
from server.vectors.port import Vector
from tests.fakes import WordEmbedder
from tests.service.ingestion.ingesting import MATHS, House, sample

LESSON = sample("physique_newton.md")


class StubbornEmbedder(WordEmbedder):
    """Fails a number of times, or waits at a gate."""

    def __init__(self, failures: int = 0, *, transient: bool = True, gate: asyncio.Event | None = None) -> None:
        super().__init__()
        self.failures, self.transient, self.gate = failures, transient, gate
        self.reached = asyncio.Event()
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise ProviderFailure("broken on command", transient=self.transient)
        self.texts.extend(texts)
        return await super().embed(texts, purpose)


def own(text: bytes = LESSON) -> bytes:
    """A text that no other test has: the same file of the same owner is one document, the same chunk one vector."""
    return text + f"\n\nNuméro {uuid4().int}.".encode()


async def waiting(house: House) -> Job:
    document = await house.upload(own())
    return await house.service.create_job(document.id, MATHS, uuid4())


async def moves(house: House, job: Job) -> list[str]:
    page = await house.service.list_audit(job.id, 0, "")
    return [event.to_state for event in page.items]


def forget_heartbeat(owner: psycopg.Connection, job_id: UUID) -> None:
    """Make a job look as if its worker had been silent for an hour."""
    owner.execute("UPDATE ingestion_job SET heartbeat_at = now() - interval '1 hour' WHERE id = %s", [job_id])


async def test_every_move_is_audited_in_order(house: House, teacher: Caller) -> None:
    job = await house.ingest(own())
    assert await moves(house, job) == ["PENDING", "EXTRACTING", "CHUNKING", "EMBEDDING", "INDEXING", "READY"]


async def test_the_audit_cannot_be_changed(house: House, teacher: Caller) -> None:
    await waiting(house)
    with pytest.raises(Exception, match="permission denied"):
        async with house.database.transaction() as connection:
            await connection.execute(text("UPDATE ingestion_audit SET reason = 'x'"))


async def test_the_same_request_makes_one_job(house: House, teacher: Caller) -> None:
    document, request_id = await house.upload(own()), uuid4()
    first = await house.service.create_job(document.id, MATHS, request_id)
    assert await house.service.create_job(document.id, MATHS, request_id) == first
    assert len(house.queue.take()) == 1


async def test_a_request_id_is_not_for_two_documents(house: House, teacher: Caller) -> None:
    first, second, request_id = await house.upload(own()), await house.upload(own()), uuid4()
    await house.service.create_job(first.id, MATHS, request_id)
    with pytest.raises(RequestIdReused):
        await house.service.create_job(second.id, MATHS, request_id)


async def test_a_document_has_one_open_job(house: House, teacher: Caller) -> None:
    job = await waiting(house)
    with pytest.raises(Conflict):
        await house.service.create_job(job.document_id, MATHS, uuid4())


async def test_a_transient_fault_is_tried_three_times_then_fails_with_its_reason(house: House, teacher: Caller) -> None:
    job = await waiting(house)
    pipeline = house.pipeline_with(StubbornEmbedder(failures=9))
    waits = []
    for _ in range(3):
        await house.run_queued(pipeline)
        waits.append((await house.service.job(job.id)).next_attempt_at)
    ended = await house.service.job(job.id)
    assert (ended.state, ended.attempts) == (JobState.FAILED, 3)
    assert ended.failure_reason.startswith("MODEL_UNAVAILABLE")
    assert [wait is not None for wait in waits] == [True, True, False]
    assert not house.queue.due


async def test_a_passing_fault_is_outlived(house: House, teacher: Caller) -> None:
    job = await waiting(house)
    pipeline = house.pipeline_with(StubbornEmbedder(failures=1))
    await house.run_queued(pipeline)
    await house.run_queued(pipeline)
    assert (await house.service.job(job.id)).state is JobState.READY


async def test_a_permanent_fault_fails_at_once(house: House, teacher: Caller) -> None:
    job = await waiting(house)
    await house.run_queued(house.pipeline_with(StubbornEmbedder(failures=9, transient=False)))
    assert (await house.service.job(job.id)).state is JobState.FAILED
    assert not house.queue.due


async def test_an_operator_starts_a_failed_job_again(house: House, teacher: Caller) -> None:
    job = await waiting(house)
    await house.run_queued(house.pipeline_with(StubbornEmbedder(failures=9, transient=False)))
    again = await house.service.retry(job.id, uuid4())
    assert (again.state, again.attempts, again.failure_reason) == (JobState.PENDING, 0, "")
    await house.run_queued()
    assert (await house.service.job(job.id)).state is JobState.READY


async def test_a_running_job_is_not_started_again(house: House, teacher: Caller) -> None:
    job = await waiting(house)
    with pytest.raises(IllegalState):
        await house.service.retry(job.id, uuid4())


async def test_a_waiting_job_that_is_cancelled_never_runs(house: House, teacher: Caller) -> None:
    job = await waiting(house)
    await house.service.cancel(job.id, uuid4())
    await house.run_queued()
    assert (await house.service.job(job.id)).state is JobState.CANCELLED
    assert not await house.chunk_ids(job.document_id)


async def test_a_running_job_that_is_cancelled_leaves_nothing(house: House, teacher: Caller) -> None:
    job = await waiting(house)
    embedder = StubbornEmbedder(gate=asyncio.Event())
    running = asyncio.create_task(house.run_queued(house.pipeline_with(embedder)))
    await embedder.reached.wait()
    await house.service.cancel(job.id, uuid4())
    assert embedder.gate is not None
    embedder.gate.set()
    await running
    assert (await house.service.job(job.id)).state is JobState.CANCELLED
    assert not await house.chunk_ids(job.document_id)
    assert not await house.vector_ids()


async def test_a_cancel_is_idempotent(house: House, teacher: Caller) -> None:
    job, request_id = await waiting(house), uuid4()
    first = await house.service.cancel(job.id, request_id)
    assert await house.service.cancel(job.id, request_id) == first


async def test_a_job_whose_worker_stops_goes_back_to_the_queue(house: House, teacher: Caller) -> None:
    job = await waiting(house)
    embedder = StubbornEmbedder(gate=asyncio.Event())
    running = asyncio.create_task(house.run_queued(house.pipeline_with(embedder)))
    await embedder.reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    returned = await house.service.job(job.id)
    assert (returned.state, returned.attempts) == (JobState.PENDING, 0)
    await house.run_queued()
    assert (await house.service.job(job.id)).state is JobState.READY


async def test_a_job_that_another_worker_runs_is_left_alone(house: House, teacher: Caller) -> None:
    job = await waiting(house)
    embedder = StubbornEmbedder(gate=asyncio.Event())
    running = asyncio.create_task(house.run_queued(house.pipeline_with(embedder)))
    await embedder.reached.wait()
    with caller.acting_as(caller.system()):
        await house.pipeline.run(job.id)
    assert (await house.service.job(job.id)).state is JobState.EMBEDDING
    assert embedder.gate is not None
    embedder.gate.set()
    await running


async def test_a_lost_job_is_found_and_a_late_worker_writes_nothing_more(
    house: House, teacher: Caller, owner: psycopg.Connection
) -> None:
    job = await waiting(house)
    late = StubbornEmbedder(gate=asyncio.Event())
    running = asyncio.create_task(house.run_queued(house.pipeline_with(late)))
    await late.reached.wait()
    forget_heartbeat(owner, job.id)
    with caller.acting_as(caller.system()):
        assert [found.id for found in await house.service.recover_stalled()] == [job.id]
    await house.run_queued()
    done = await moves(house, job)
    assert late.gate is not None
    late.gate.set()
    await running
    assert await moves(house, job) == done
    assert (await house.service.job(job.id)).state is JobState.READY


async def test_a_job_that_loses_every_worker_fails_with_a_reason(
    house: House, teacher: Caller, owner: psycopg.Connection
) -> None:
    job = await waiting(house)
    owner.execute("UPDATE ingestion_job SET state = 'EXTRACTING', attempts = 3 WHERE id = %s", [job.id])
    forget_heartbeat(owner, job.id)
    with caller.acting_as(caller.system()):
        assert not await house.service.recover_stalled()
    ended = await house.service.job(job.id)
    assert (ended.state, ended.failure_reason.split(":")[0]) == (JobState.FAILED, "CRASHED")


async def test_a_job_that_is_missing_in_the_queue_is_queued_again(
    house: House, teacher: Caller, owner: psycopg.Connection
) -> None:
    job = await waiting(house)
    house.queue.take()
    forget_heartbeat(owner, job.id)
    with caller.acting_as(caller.system()):
        await house.service.recover_stalled()
    assert [queued for queued, _ in house.queue.due] == [job.id]


async def test_one_failing_document_does_not_block_others(house: House, teacher: Caller) -> None:
    broken = await house.upload(b"%PDF-1.7 and nothing more", "broken.pdf")
    first = await house.service.create_job(broken.id, MATHS, uuid4())
    second = await waiting(house)
    await house.run_queued()
    assert (await house.service.job(first.id)).state is JobState.FAILED
    assert (await house.service.job(second.id)).state is JobState.READY


async def test_a_file_ingested_again_adds_nothing_and_embeds_nothing(house: House, teacher: Caller) -> None:
    job = await house.ingest(own())
    before = await house.chunk_ids(job.document_id)
    embedder = StubbornEmbedder()
    await house.service.create_job(job.document_id, MATHS, uuid4())
    await house.run_queued(house.pipeline_with(embedder))
    assert await house.chunk_ids(job.document_id) == before == await house.vector_ids()
    assert embedder.texts == []


async def test_the_same_text_in_another_document_is_not_embedded_again(
    house: House, teacher: Caller, make_user: Callable[..., Caller]
) -> None:
    content = own()
    await house.ingest(content)
    embedder = StubbornEmbedder()
    with caller.acting_as(make_user("teacher")):
        document = await house.upload(content)
        job = await house.service.create_job(document.id, MATHS, uuid4())
        await house.run_queued(house.pipeline_with(embedder))
        assert (await house.service.job(job.id)).state is JobState.READY
    assert embedder.texts == []


async def test_a_document_filed_elsewhere_is_found_there(house: House, teacher: Caller) -> None:
    job = await house.ingest(own())
    moved = MATHS.__class__("grade-11-math", "math", "11")
    again = await house.service.create_job(job.document_id, moved, uuid4())
    await house.run_queued()
    assert (await house.service.job(again.id)).state is JobState.READY
    assert await house.vectors.count(house.index, "grade-11-math") == len(await house.chunk_ids(job.document_id))


async def test_progress_counts_pages_and_chunks(house: House, teacher: Caller) -> None:
    job = await house.ingest(sample("maths_suites.pdf"), "maths_suites.pdf")
    done = job.progress
    assert (done.pages_done, done.pages_total) == (3, 3)
    assert done.chunks_done == done.chunks_total > 0


async def test_a_watch_ends_with_the_final_state(house: House, teacher: Caller) -> None:
    job = await waiting(house)
    running = asyncio.create_task(house.run_queued())
    events = [event async for event in house.service.watch(job.id)]
    await running
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].job.state is JobState.READY


async def test_a_watch_shows_a_job_again_while_nothing_happens(house: House, teacher: Caller) -> None:
    job = await waiting(house)
    async with aclosing(house.service.watch(job.id, heartbeat_seconds=0.0)) as watching:
        assert [await anext(watching), await anext(watching)] == [JobEvent(1, job), JobEvent(2, job)]


async def test_a_teacher_does_not_see_the_jobs_of_another(
    house: House, teacher: Caller, make_user: Callable[..., Caller]
) -> None:
    job = await waiting(house)
    with caller.acting_as(make_user("teacher")):
        with pytest.raises(NotFound):
            await house.service.job(job.id)
        assert not (await house.service.list_jobs(None, None, 0, "")).items


async def test_an_operator_sees_and_stops_all_jobs(
    house: House, teacher: Caller, make_user: Callable[..., Caller]
) -> None:
    job = await waiting(house)
    with caller.acting_as(make_user("admin")):
        assert (await house.service.cancel(job.id, uuid4())).state is JobState.CANCELLED


async def test_another_teachers_document_is_not_mine_to_ingest_or_delete(
    house: House, teacher: Caller, make_user: Callable[..., Caller]
) -> None:
    document = await house.upload(own())
    with caller.acting_as(make_user("teacher")):
        with pytest.raises(Forbidden):
            await house.service.create_job(document.id, MATHS, uuid4())
        with pytest.raises(Forbidden):
            await house.service.delete_document(document.id, uuid4())


async def test_jobs_are_listed_newest_first_page_by_page(house: House, teacher: Caller) -> None:
    jobs = [await waiting(house) for _ in range(3)]
    first = await house.service.list_jobs(JobState.PENDING, None, 2, "")
    second = await house.service.list_jobs(JobState.PENDING, None, 2, first.next_page_token)
    assert [job.id for job in (*first.items, *second.items)] == [job.id for job in reversed(jobs)]
    assert second.next_page_token == ""


async def test_a_deleted_document_is_gone_from_all_stores(house: House, teacher: Caller) -> None:
    job = await house.ingest(own())
    document = await house.corpus.document(job.document_id)
    await house.service.delete_document(document.id, uuid4())
    assert not await house.vector_ids()
    with pytest.raises(NotFound):
        await house.blobs.head(document.blob_key)


async def test_a_deletion_cut_short_is_finished_by_the_sweep(house: House, teacher: Caller) -> None:
    job = await house.ingest(own())
    document = await house.corpus.document(job.document_id)
    async with house.database.transaction() as connection:
        await house.removal.begin(connection, document)
    assert await house.vector_ids()
    with caller.acting_as(caller.system()):
        assert await house.removal.sweep() == 1
    assert not await house.vector_ids()


async def test_deleting_a_document_stops_its_job(house: House, teacher: Caller) -> None:
    job = await waiting(house)
    await house.service.delete_document(job.document_id, uuid4())
    await house.run_queued()
    assert (await house.service.job(job.id)).state is JobState.CANCELLED


class LateRefs(VectorRefs):
    """Keeps vectors so late that the next batch never finds them kept."""

    async def kept(self, model: str, content_hashes: Sequence[str]) -> dict[str, Vector]:
        return {}


async def test_a_text_that_comes_again_in_the_next_batch_is_embedded_once(house: House, teacher: Caller) -> None:
    document = await house.upload(own())
    job = await house.service.create_job(document.id, MATHS, uuid4())
    texts = [own().decode() for _ in range(3)]
    chunks = [
        TextChunk(chunk_id(document.id, page, 0), page, 0, 0, len(text), text, 1, Language.FRENCH, content_hash(text))
        for page, text in enumerate(texts * EMBED_BATCH, start=1)
    ]
    embedder = StubbornEmbedder()
    space = Space(house.index, embedder)

    async def targets() -> list[Space]:
        return [space]

    late = LateRefs(house.database)
    indexing = Indexing(Stores(house.database, house.corpus, late, house.blobs, house.vectors), targets)
    with caller.acting_as(caller.system()):
        run = await Run.begin(house.database, house.queue.enqueue, job.id)
        assert run is not None
        async with house.database.transaction() as connection:
            generation = await house.corpus.begin_generation(connection, document.id)
            await house.corpus.write_chunks(connection, document.id, generation, await house.corpus.indexed(chunks))
        held = await indexing.embed(run, space)
        kept = await house.refs.kept(embedder.name, [content_hash(text) for text in texts])
    assert sorted(embedder.texts) == sorted(texts)
    assert held.keys() == kept.keys() == {content_hash(text) for text in texts}
