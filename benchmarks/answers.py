"""What searches and answers cost: time, CPU and memory, over the embedded stores and a model that answers at once.

The rooms are those that the server itself furnishes. CPU is told for this process and for its PostgreSQL. Searches are
compared with what Milvus Lite takes for the same vectors in the same run.
"""

import asyncio
import os
import statistics
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from uuid import uuid4

from benchmarks import Row
from benchmarks.library import OPEN_STREAMS, STUDENTS, Bench, cpu_seconds, furnished
from server.caller import Caller, acting_as
from server.corpus.passage import CorpusFilter
from server.models.local.embedder import LocalEmbedder
from server.models.port import Purpose
from server.retrieval.answer import Question
from server.retrieval.events import Delta
from server.vectors.port import VectorFilter

SIZES = (1_000, 20_000)
"""Chunks in the library; what answers cost is measured at the last size."""
ANSWERS = 160
SEARCHES = 80
REPEATS = 5
CPU_LIMIT_MS = 12.0
FIRST_TEXT_LIMIT_MS = 15.0
SEARCH_LIMIT = 1.5
LIMITED_FROM = 20_000
"""Chunks; smaller libraries are searched by Milvus Lite as fast as by the rest of a search."""
REPEAT_LIMIT_MS = 1.0
RERANK_HIT_LIMIT_MS = 10.0
CHUNK_HIT_LIMIT_MS = 1.0
MEMORY_LIMIT_MB = 200.0


async def rows() -> list[Row]:
    """Measure everything; some minutes, most of them for filling the library."""
    found: list[Row] = []
    async with AsyncExitStack() as stack:
        bench = await furnished(stack)
        for size in SIZES:
            await bench.grow(size)
            found += await searches(bench, size)
        found += await _answers(bench)
        found.append(await _memory(bench))
    return found


async def searches(bench: Bench, size: int, samples: int = SEARCHES) -> list[Row]:
    """Measure new and repeated searches, each beside Milvus Lite's own for the same vector, and what caches answer."""
    student, embedder, search = bench.students[0], LocalEmbedder(), bench.rooms.retrieval.search
    ours: list[float] = []
    theirs: list[float] = []
    repeated: list[float] = []
    reranked: list[float] = []
    read: list[float] = []
    where = VectorFilter(viewer_id=student.user_id)
    with acting_as(student):
        for _ in range(samples):
            text = bench.question()
            [vector] = await embedder.embed([text], Purpose.QUERY)
            theirs.append(await _timed(bench.milvus.search(bench.index, vector, 30, where)))
            ours.append(await _timed(search.search(text, CorpusFilter())))
            repeated += [await _timed(search.search(text, CorpusFilter())) for _ in range(REPEATS)]
            found = [
                (passage.chunk_id, passage.score) for passage in (await search.search(text, CorpusFilter())).passages
            ]
            await search.reranked(text, found)
            reranked.append(await _timed(search.reranked(text, found)))
            read.append(await _timed(bench.rooms.corpus.chunks([chunk_id for chunk_id, _ in found])))
    limit = 1 / SEARCH_LIMIT if size >= LIMITED_FROM else 0.0
    milvus, p50, p95 = statistics.median(theirs), statistics.median(ours), statistics.quantiles(ours, n=20)[18]
    return [
        Row(f"search p50, {size} chunks", p50, "ms", milvus, milvus / p50, limit),
        Row(f"search p95, {size} chunks", p95, "ms", milvus, milvus / p95, 0.0),
        _within(f"repeated search p50, {size} chunks", statistics.median(repeated), REPEAT_LIMIT_MS),
        _within(f"rerank from the cache, {size} chunks", statistics.median(reranked), RERANK_HIT_LIMIT_MS),
        _within(f"texts from the cache, {size} chunks", statistics.median(read), CHUNK_HIT_LIMIT_MS),
    ]


async def _answers(bench: Bench) -> list[Row]:
    """Measure answers one by one and eight at a time, to new questions and to one that everybody asks."""
    same = bench.question()
    await asyncio.gather(*(bench.answer(student, same) for student in bench.students))
    first_text = [await bench.answer(bench.students[0], bench.question()) for _ in range(ANSWERS)]
    again = [await bench.answer(bench.students[0], same) for _ in range(ANSWERS // 4)]
    found = [
        _within("first text p50, new question", statistics.median(first_text), FIRST_TEXT_LIMIT_MS),
        _within("first text p50, repeated question", statistics.median(again), FIRST_TEXT_LIMIT_MS),
    ]
    for name, ask in (("new", bench.question), ("repeated", lambda: same)):
        began, before = perf_counter(), cpu_seconds()
        await asyncio.gather(*(_asking(bench, student, ask) for student in bench.students))
        rate = ANSWERS / (perf_counter() - began)
        own, stores = (1000 * (now - then) / ANSWERS for now, then in zip(cpu_seconds(), before, strict=True))
        found += [
            _within(f"CPU per answer, {name} question", own, CPU_LIMIT_MS),
            _within(f"the same with PostgreSQL's, {name} question", own + stores, CPU_LIMIT_MS),
            Row(f"answers, {name} question", rate, "/s", rate, 1.0, 0.0),
        ]
    return found


async def _asking(bench: Bench, student: Caller, ask: Callable[[], str]) -> None:
    for _ in range(ANSWERS // STUDENTS):
        await bench.answer(student, ask())


async def _memory(bench: Bench) -> Row:
    """Measure what a thousand open streams, each after its first text, add to this process."""
    text, idle = bench.question(), _resident_mb()
    begun = asyncio.Barrier(OPEN_STREAMS + 1)
    bench.model.gate.clear()

    async def watch(student: Caller) -> None:
        with acting_as(student):
            answers = bench.rooms.retrieval.answers
            answer_id = await answers.ask(Question(text, CorpusFilter(), uuid4()))
            async for event in answers.follow(answer_id):
                if isinstance(event.payload, Delta) and not bench.model.gate.is_set():
                    await begun.wait()

    streams = [asyncio.create_task(watch(bench.students[place % STUDENTS])) for place in range(OPEN_STREAMS)]
    await begun.wait()
    used = _resident_mb() - idle
    bench.model.gate.set()
    await asyncio.gather(*streams)
    return Row(f"memory of {OPEN_STREAMS} open streams", used, "MB", MEMORY_LIMIT_MB, MEMORY_LIMIT_MB / used, 1.0)


def _within(name: str, value_ms: float, limit_ms: float) -> Row:
    return Row(name, value_ms, "ms", limit_ms, limit_ms / value_ms, 1.0)


async def _timed(call: Awaitable[object]) -> float:
    """Return the milliseconds of a call."""
    began = perf_counter()
    await call
    return 1000 * (perf_counter() - began)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
