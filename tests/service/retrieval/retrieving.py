"""A retrieval room over real PostgreSQL, with a library, an index and a model that can be broken."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from server.caller import Caller, Tier, acting_as
from server.corpus.passage import CorpusFilter
from server.database.pool import Database
from server.models.port import Purpose
from server.retrieval.answer import Question
from server.retrieval.events import Delta, Event
from server.retrieval.room import RetrievalRoom, Terms, furnish
from server.retrieval.search import LiveIndex
from server.wallet.service import WalletService
from tests.fakes import ScriptedModel, ShelfLibrary, ShelfVectors, WordEmbedder, chunk_of

LESSONS = (
    "La force est égale à la masse multipliée par l'accélération du corps.",
    "L'énergie cinétique dépend de la vitesse du corps et de sa masse.",
    "La cellule vivante respire grâce aux mitochondries.",
)
ANSWER = ("La force est égale ", "à la masse multipliée ", "par l'accélération ", "du corps [1].")


@dataclass
class Process:
    """One server process of several over the same database."""

    room: RetrievalRoom
    model: ScriptedModel
    quoting: ScriptedModel
    library: ShelfLibrary
    vectors: ShelfVectors
    wallet: WalletService


@asynccontextmanager
async def running(database: Database, texts: Sequence[str] = LESSONS, **terms: float) -> AsyncIterator[Process]:
    """Run a process of its own; what it began is stopped when the block ends."""
    library, vectors, embedder = ShelfLibrary(), ShelfVectors(), WordEmbedder()
    model = ScriptedModel(words=ANSWER, translation="القوة والكتلة")
    quoting = ScriptedModel(name="quoting", words=("« La force est égale à la masse » ", "[1]."))
    chunks = [chunk_of(number, text) for number, text in enumerate(texts, start=1)]
    library.put(*chunks)
    rows = await embedder.embed(texts, Purpose.PASSAGE) if texts else ()
    vectors.rows = {chunk.id: row for chunk, row in zip(chunks, rows, strict=True)}

    async def live() -> LiveIndex | None:
        return LiveIndex("chunks__words", embedder) if texts else None

    wallet = WalletService(database)
    room = furnish(
        database,
        wallet,
        library,
        vectors,
        live,
        model,
        Terms({Tier.FREE: 10, Tier.STANDARD: 20, Tier.PREMIUM: 30}, **terms),
        quoting=quoting,
    )
    try:
        yield Process(room, model, quoting, library, vectors, wallet)
    finally:
        await room.answers.close(0)
        await wallet.close()


def question(text: str = "Quelle relation entre la force et l'accélération ?", **more) -> Question:
    return Question(text, CorpusFilter(), more.pop("request_id", None) or uuid4(), **more)


async def events_of(process: Process, who: Caller, answer_id: UUID, after: int = 0) -> list[Event]:
    with acting_as(who):
        return [event async for event in process.room.answers.follow(answer_id, after)]


async def ask(process: Process, who: Caller, asked: Question | None = None) -> list[Event]:
    with acting_as(who):
        answer_id = await process.room.answers.ask(asked or question())
    return await events_of(process, who, answer_id)


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.payload.text for event in events if isinstance(event.payload, Delta))
