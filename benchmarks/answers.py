"""What searches and answers cost: time, CPU and memory, over the embedded stores and a model that answers at once.

The rooms are those that the server itself furnishes. CPU is that of this process and of its children (PostgreSQL and
Milvus Lite) together. Searches are compared with what Milvus Lite takes for the same vectors in the same run.
"""

import asyncio
import hashlib
import os
import random
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from uuid import uuid4

from benchmarks import Row
from server.app import models, rooms
from server.app.models import Models
from server.app.rooms import Rooms
from server.app.stores import Stores, open_stores
from server.auth.account import Profile
from server.caller import Caller, Role, acting_as, system
from server.config import Settings, load
from server.corpus.passage import CorpusFilter, NewDocument
from server.ingestion.chunking import TextChunk, chunk_id, content_hash
from server.models.local.embedder import LocalEmbedder, embed
from server.models.local.reranker import rerank
from server.models.port import (
    AnswerTask,
    DraftQuestion,
    Finished,
    FinishReason,
    Purpose,
    QuizTask,
    TextDelta,
    Turn,
    Usage,
)
from server.retrieval.answer import Question
from server.retrieval.events import Delta
from server.text import glossary, tokens
from server.text.language import Language
from server.vectors.milvus import MilvusStore
from server.vectors.port import VectorFilter, VectorRow

SIZES = (1_000, 20_000)
"""Chunks in the library; what answers cost is measured at the last size."""
BATCH = 500
ANSWER_TOKENS = 150
ANSWERS = 160
STUDENTS = 8
SEARCHES = 80
OPEN_STREAMS = 1_000
CPU_LIMIT_MS = 12.0
FIRST_TEXT_LIMIT_MS = 15.0
SEARCH_LIMIT = 1.5
REPEAT_LIMIT_MS = 1.0
MEMORY_LIMIT_MB = 200.0
TICKS = os.sysconf("SC_CLK_TCK")
COMMON = ("le", "la", "les", "des", "est", "dans", "par", "pour", "sur", "qui", "que", "ce", "en", "du", "et")


@dataclass
class InstantModel:
    """Answers from its first source at once; a closed gate holds it after its first word."""

    name: str = "instant"
    free: bool = True
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def prompt_tokens(self, task: AnswerTask | QuizTask) -> int:
        return 200

    async def answer(self, task: AnswerTask) -> AsyncIterator[TextDelta | Finished]:
        words = f"{task.sources[0].text.split('. ')[0]} [1]. ".split()
        for place in range(ANSWER_TOKENS):
            if place == 1:
                await self.gate.wait()
            yield TextDelta(f"{words[place % len(words)]} ")
        yield Finished(FinishReason.STOP, Usage(1_500, ANSWER_TOKENS), self.name)

    async def quiz(self, task: QuizTask) -> AsyncIterator[DraftQuestion | Finished]:
        yield Finished(FinishReason.STOP, Usage(0, 0), self.name)

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        return rerank(query, texts)

    async def translate(self, text: str, source: Language, target: Language) -> str:
        return ""

    async def standalone(self, question: str, history: Sequence[Turn]) -> str:
        return question


@dataclass(frozen=True)
class Bench:
    """The server's rooms over a library that grows, and some students."""

    stores: Stores
    rooms: Rooms
    milvus: MilvusStore
    model: InstantModel
    students: list[Caller]
    texts: list[str] = field(default_factory=list)

    async def grow(self, size: int) -> None:
        """Add lessons until the library holds `size` chunks."""
        with acting_as(system()):
            while len(self.texts) < size:
                part = list(lessons(len(self.texts), BATCH))
                await self.stores.vectors.upsert(self.rooms.live.name, await self._write(part))
                self.texts.extend(part)
            await self.stores.vectors.flush(self.rooms.live.name)
            await self.rooms.corpus.merge_statistics()

    async def _write(self, part: Sequence[str]) -> list[VectorRow]:
        title = f"Leçons à partir de {len(self.texts)}"
        new = NewDocument(
            title=title,
            content_type="text/plain",
            size_bytes=1,
            sha256=hashlib.sha256(title.encode()).hexdigest(),
            blob_key=title,
            language=Language.FRENCH,
        )
        async with self.stores.database.transaction() as connection:
            document = await self.rooms.corpus.create_document(connection, new)
            drafts = [
                TextChunk(
                    id=chunk_id(document.id, page, 0),
                    page=page,
                    index=0,
                    start=0,
                    end=len(text),
                    text=text,
                    token_count=tokens.count(text),
                    language=Language.FRENCH,
                    content_hash=content_hash(text),
                )
                for page, text in enumerate(part, start=1)
            ]
            generation = await self.rooms.corpus.begin_generation(connection, document.id)
            await self.rooms.corpus.write_chunks(connection, document.id, generation, drafts)
        return [
            VectorRow(draft.id, vector, document.id, "", "", "", "fr", None)
            for draft, vector in zip(drafts, embed(part), strict=True)
        ]

    def question(self) -> str:
        """Return a new question about some lesson."""
        words = random.choice(self.texts).split(". ")[0].split()
        return f"Expliquez {' '.join(random.sample(words, 7))} ?"

    async def answer(self, student: Caller, text: str) -> float:
        """Ask and read to the end; returns the milliseconds to the first text."""
        first_text = 0.0
        began = perf_counter()
        with acting_as(student):
            answers = self.rooms.retrieval.answers
            answer_id = await answers.ask(Question(text, CorpusFilter(), uuid4()))
            async for event in answers.follow(answer_id):
                if not first_text and isinstance(event.payload, Delta):
                    first_text = 1000 * (perf_counter() - began)
        return first_text


async def rows() -> list[Row]:
    """Measure everything; some minutes, most of them for filling the library."""
    found: list[Row] = []
    async with AsyncExitStack() as stack:
        bench = await _furnished(stack)
        for size in SIZES:
            await bench.grow(size)
            found += await _searches(bench, size)
        found += await _answers(bench)
        found.append(await _memory(bench))
    return found


async def _searches(bench: Bench, size: int) -> list[Row]:
    """Measure new and repeated searches, each beside Milvus Lite's own for the same vector."""
    student, embedder, search = bench.students[0], LocalEmbedder(), bench.rooms.retrieval.search
    ours: list[float] = []
    theirs: list[float] = []
    repeated: list[float] = []
    where = VectorFilter(viewer_id=student.user_id)
    with acting_as(student):
        for _ in range(SEARCHES):
            text = bench.question()
            [vector] = await embedder.embed([text], Purpose.QUERY)
            theirs.append(await _timed(bench.milvus.search(bench.rooms.live.name, vector, 30, where)))
            ours.append(await _timed(search.search(text, CorpusFilter())))
            repeated.append(await _timed(search.search(text, CorpusFilter())))
    milvus, p50, p95 = statistics.median(theirs), statistics.median(ours), statistics.quantiles(ours, n=20)[18]
    repeat = statistics.median(repeated)
    return [
        Row(f"search p50, {size} chunks", p50, "ms", milvus, milvus / p50, 1 / SEARCH_LIMIT),
        Row(f"search p95, {size} chunks", p95, "ms", milvus, milvus / p95, 0.0),
        Row(f"repeated search p50, {size} chunks", repeat, "ms", REPEAT_LIMIT_MS, REPEAT_LIMIT_MS / repeat, 1.0),
    ]


async def _answers(bench: Bench) -> list[Row]:
    """Measure answers one by one and eight at a time, to new questions and to one that everybody asks."""
    same = bench.question()
    await asyncio.gather(*(bench.answer(student, same) for student in bench.students))
    first_text = [await bench.answer(bench.students[0], bench.question()) for _ in range(ANSWERS // 4)]
    p50 = statistics.median(first_text)
    found = [Row("first text p50, new question", p50, "ms", FIRST_TEXT_LIMIT_MS, FIRST_TEXT_LIMIT_MS / p50, 1.0)]
    for name, ask in (("new", bench.question), ("repeated", lambda: same)):
        began, cpu = perf_counter(), _cpu_seconds()
        await asyncio.gather(*(_asking(bench, student, ask) for student in bench.students))
        cpu_ms = 1000 * (_cpu_seconds() - cpu) / ANSWERS
        rate = ANSWERS / (perf_counter() - began)
        found.append(Row(f"CPU per answer, {name} question", cpu_ms, "ms", CPU_LIMIT_MS, CPU_LIMIT_MS / cpu_ms, 1.0))
        found.append(Row(f"answers, {name} question", rate, "/s", rate, 1.0, 0.0))
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


async def _furnished(stack: AsyncExitStack) -> Bench:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bacmr-bench-")))
    settings = load(data_dir=folder, limits_open_answers=OPEN_STREAMS, welcome_tokens=10**9)
    stores = await open_stores(settings, "http://127.0.0.1", models.make_breakers(settings), stack)
    model = InstantModel()
    model.gate.set()
    furnished = await rooms.furnish(settings, stores, Models(model, None, LocalEmbedder(), None))
    stack.callback(furnished.auth.close)
    stack.push_async_callback(furnished.wallet.close)
    stack.push_async_callback(furnished.retrieval.answers.close, 5.0)
    milvus = await stack.enter_async_context(_milvus(settings))
    return Bench(stores, furnished, milvus, model, [await _enrolled(furnished, place) for place in range(STUDENTS)])


@asynccontextmanager
async def _milvus(settings: Settings) -> AsyncIterator[MilvusStore]:
    """Lend a plain client of the Milvus Lite child that the stores started."""
    store = MilvusStore(f"unix:{settings.data_dir / 'milvus' / 'milvus.sock'}")
    try:
        yield store
    finally:
        await store.close()


async def _enrolled(furnished: Rooms, place: int) -> Caller:
    with acting_as(Caller(request_id=uuid4())):
        signed_in = await furnished.auth.service.sign_up(
            f"b{place}@example.org", "", "a long pass word", Profile("Bench")
        )
    return Caller(user_id=signed_in.user.id, role=Role.STUDENT, request_id=uuid4())


def lessons(first: int, count: int) -> Iterator[str]:
    """Yield made-up lessons of ten sentences, the same for the same numbers."""
    terms = [word for entry in glossary.entries() for word in entry.french]
    chance = random.Random(0)
    invented = ["".join(chance.choices("bcdfglmnprstvaeiou", k=chance.randint(4, 9))) for _ in range(5_000)]
    for number in range(first, first + count):
        chance = random.Random(number)
        sentences = []
        for _ in range(10):
            words = [chance.choice(chance.choices((COMMON, terms, invented), (5, 2, 3))[0]) for _ in range(14)]
            sentences.append(f"{' '.join(words).capitalize()}.")
        yield " ".join(sentences)


async def _timed(call: Awaitable[object]) -> float:
    """Return the milliseconds of a call."""
    began = perf_counter()
    await call
    return 1000 * (perf_counter() - began)


def _cpu_seconds() -> float:
    """Return what this process and all processes below it have used."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
        used[int(entry.name)] = sum(map(int, fields[11:15])) / TICKS
    ours = {os.getpid()}
    while below := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= below
    return process_time() + sum(used[pid] for pid in ours if pid != os.getpid())


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
