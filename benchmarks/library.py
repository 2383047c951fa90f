"""The server's own rooms over a library that grows, some students, and a model that answers at once."""

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from uuid import uuid4

from server.app import models, rooms
from server.app.models import Models
from server.app.rooms import Rooms
from server.app.startup import tune_interpreter
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
    QuizTask,
    TextDelta,
    Turn,
    TutorModel,
    Usage,
)
from server.retrieval.answer import Question
from server.retrieval.events import Delta
from server.text import glossary, tokens
from server.text.language import Language
from server.vectors.milvus import MilvusStore
from server.vectors.port import VectorRow

BATCH = 500
ANSWER_TOKENS = 150
STUDENTS = 8
OPEN_STREAMS = 1_000
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

    async def answer(self, task: AnswerTask) -> AsyncGenerator[TextDelta | Finished]:
        words = f"{task.sources[0].text.split('. ')[0]} [1]. ".split()
        for place in range(ANSWER_TOKENS):
            if place == 1:
                await self.gate.wait()
            yield TextDelta(f"{words[place % len(words)]} ")
        yield Finished(FinishReason.STOP, Usage(1_500, ANSWER_TOKENS), self.name)

    async def quiz(self, task: QuizTask) -> AsyncGenerator[DraftQuestion | Finished]:
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
    index: str
    model: InstantModel
    students: list[Caller]
    texts: list[str] = field(default_factory=list)

    async def grow(self, size: int) -> None:
        """Add lessons until the library holds `size` chunks."""
        with acting_as(system()):
            while len(self.texts) < size:
                part = list(lessons(len(self.texts), BATCH))
                await self.stores.vectors.upsert(self.index, await self._write(part))
                self.texts.extend(part)
            await self.stores.vectors.flush(self.index)
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
            indexed = await self.rooms.corpus.indexed(drafts)
            await self.rooms.corpus.write_chunks(connection, document.id, generation, indexed)
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


async def furnished(stack: AsyncExitStack, tutor: TutorModel | None = None) -> Bench:
    """Furnish all rooms over new stores; `tutor` answers instead of the instant model."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="bacmr-bench-")))
    settings = load(data_dir=folder, limits_open_answers=OPEN_STREAMS, welcome_tokens=10**9)
    guards = models.make_breakers(settings)
    stores = await open_stores(settings, "http://127.0.0.1", guards, stack)
    model = InstantModel()
    model.gate.set()
    room = await rooms.furnish(settings, stores, Models(tutor or model, None, LocalEmbedder(), guards, None))
    stack.callback(room.auth.close)
    stack.push_async_callback(room.wallet.close)
    stack.push_async_callback(room.retrieval.answers.close, 5.0)
    milvus = await stack.enter_async_context(_milvus(settings))
    index = await stores.vectors.live() or ""
    tune_interpreter()
    return Bench(stores, room, milvus, index, model, [await _enrolled(room, place) for place in range(STUDENTS)])


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


def cpu_seconds() -> tuple[float, float]:
    """Return the CPU that this process has used, and that its PostgreSQL has."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, _, numbers = (entry / "stat").read_text().rpartition(")")
        except OSError:
            continue
        fields = numbers.split()
        parents[int(entry.name)] = int(fields[1])
        used[int(entry.name)] = sum(map(int, fields[11:15])) / TICKS if "postgres" in name else 0.0
    ours = {os.getpid()}
    while below := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= below
    return process_time(), sum(used[pid] for pid in ours if pid != os.getpid())
