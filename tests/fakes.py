"""Doubles of outside systems for what the embedded adapters cannot do: fail, hang and count on command."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np

from server.corpus.passage import Chunk, CorpusFilter, Hit
from server.models.port import (
    AnswerTask,
    DraftQuestion,
    Finished,
    FinishReason,
    Matrix,
    ProviderFailure,
    Purpose,
    QuizTask,
    TextDelta,
    Turn,
    Usage,
)
from server.refusal import StoreUnavailable
from server.text.analysis import terms
from server.text.language import Language
from server.text.tokens import count
from server.vectors import port as vectors

FAILURE = ProviderFailure("broken on command", transient=False)


def chunk_of(number: int, text: str, *, language: Language = Language.FRENCH, owner_id: UUID | None = None) -> Chunk:
    """A chunk with this text on page `number`."""
    return Chunk(
        id=f"{number:064x}",
        document_id=UUID(int=number),
        document_title=f"Leçon {number}",
        page=number,
        index=0,
        text=text,
        token_count=count(text),
        language=language,
        start=0,
        end=len(text),
        content_hash=f"{number:064x}",
        namespace="",
        subject="",
        grade="",
        owner_id=owner_id,
        private=owner_id is not None,
    )


@dataclass
class Breakable:
    """Counts what is asked of it and refuses what `broken` names."""

    broken: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)

    def _ask(self, what: str, error: Exception) -> None:
        self.asked[what] += 1
        if what in self.broken:
            raise error


@dataclass
class ShelfLibrary(Breakable):
    """A library of a few chunks: full text by shared terms."""

    shelf: dict[str, Chunk] = field(default_factory=dict)
    writes: int = 1

    def put(self, *chunks: Chunk) -> None:
        self.shelf |= {chunk.id: chunk for chunk in chunks}
        self.writes += 1

    async def generation(self) -> int:
        return self.writes

    async def search_text(self, query: str, where: CorpusFilter, limit: int) -> list[Hit]:
        self._ask("full_text", StoreUnavailable(store="postgresql"))
        asked = set(terms(query))
        chunks = [chunk for chunk in self.shelf.values() if where.language in (None, chunk.language)]
        hits = [Hit(chunk.id, float(len(asked & set(terms(chunk.text))))) for chunk in chunks]
        return sorted((hit for hit in hits if hit.score), key=lambda hit: -hit.score)[:limit]

    async def languages(self) -> set[Language]:
        return {chunk.language for chunk in self.shelf.values()}

    async def chunks(self, ids: Sequence[str]) -> dict[str, Chunk]:
        self._ask("chunks", StoreUnavailable(store="postgresql"))
        return {chunk_id: self.shelf[chunk_id] for chunk_id in ids if chunk_id in self.shelf}


@dataclass
class WordEmbedder(Breakable):
    """Vectors of the words' hashes: texts with shared words are near; `fixed` is every text's vector when set."""

    name: str = "words-64"
    dimensions: int = 64
    fixed: vectors.Vector | None = None

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        self._ask("embed", FAILURE)
        if self.fixed is not None:
            return np.stack([self.fixed] * len(texts))
        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for term in terms(text):
                row[sum(term.encode()) % self.dimensions] += 1
            row /= np.linalg.norm(row) or 1.0
        return rows


@dataclass
class ShelfVectors(Breakable):
    """Cosine search over the vectors of a shelf."""

    rows: dict[str, vectors.Vector] = field(default_factory=dict)

    async def search(
        self, index: str, vector: vectors.Vector, limit: int, where: vectors.VectorFilter
    ) -> list[vectors.Hit]:
        self._ask("dense", StoreUnavailable(store="milvus"))
        hits = [vectors.Hit(chunk_id, float(vector @ row)) for chunk_id, row in self.rows.items()]
        return sorted(hits, key=lambda hit: -hit.score)[:limit]


@dataclass
class ScriptedModel(Breakable):
    """A model that says what it is told, word by word; with a `gate`, it waits for it after `free_words` words."""

    name: str = "scripted"
    free: bool = False
    words: tuple[str, ...] = ("La réponse ", "est là [1].")
    free_words: int = 0
    gate: asyncio.Event | None = None
    usage: Usage | None = None
    stands_alone: str = ""
    translation: str = ""
    tasks: list[AnswerTask] = field(default_factory=list)

    def prompt_tokens(self, task: AnswerTask | QuizTask) -> int:
        return 40 + sum(count(source.text) for source in task.sources)

    async def answer(self, task: AnswerTask) -> AsyncGenerator[TextDelta | Finished]:
        self.tasks.append(task)
        self._ask("answer", FAILURE)
        for place, word in enumerate(self.words):
            if self.gate is not None and place == self.free_words:
                await self.gate.wait()
            if "answer_midway" in self.broken and place:
                raise FAILURE
            yield TextDelta(word)
        text = "".join(self.words)
        yield Finished(FinishReason.STOP, self.usage or Usage(self.prompt_tokens(task), count(text)), self.name)

    async def quiz(self, task: QuizTask) -> AsyncGenerator[DraftQuestion | Finished]:
        self._ask("quiz", FAILURE)
        yield Finished(FinishReason.STOP, Usage(0, 0), self.name)

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        self._ask("rerank", FAILURE)
        asked = set(terms(query))
        return [len(asked & set(terms(text))) / (1 + len(set(terms(text)))) for text in texts]

    async def translate(self, text: str, source: Language, target: Language) -> str:
        self._ask("translate", FAILURE)
        return self.translation

    async def standalone(self, question: str, history: Sequence[Turn]) -> str:
        self._ask("standalone", FAILURE)
        return self.stands_alone or question
