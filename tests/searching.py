"""A search over a shelf of lessons, with every part breakable."""

from collections.abc import Iterable
from uuid import uuid4

from server.cache.caches import Caches
from server.caller import Caller, Role, Tier, acting_as
from server.corpus.passage import CorpusFilter
from server.models.port import Purpose
from server.retrieval.passage import SearchResult
from server.retrieval.query import Understanding
from server.retrieval.search import LiveIndex, RetrievalService
from server.text.detection import detect
from tests.fakes import ScriptedModel, ShelfLibrary, ShelfVectors, WordEmbedder, chunk_of

FORCE = "La force est égale à la masse multipliée par l'accélération du corps."
ENERGY = "L'énergie cinétique dépend de la vitesse du corps et de sa masse."
CELL = "La cellule vivante respire grâce aux mitochondries."
QUESTION = "Quelle relation entre la force, l'accélération et la masse du corps ?"
STUDENT = Caller(user_id=uuid4(), role=Role.STUDENT, tier=Tier.FREE)
CAPS = {Tier.FREE: 10, Tier.STANDARD: 20, Tier.PREMIUM: 30}


class Bench:
    """A search over a shelf, with every part breakable."""

    def __init__(self, texts: Iterable[str] = (FORCE, ENERGY, CELL), caches: Caches | None = None) -> None:
        caches = caches or Caches()
        self.library = ShelfLibrary()
        self.embedder = WordEmbedder()
        self.vectors = ShelfVectors()
        self.model = ScriptedModel(translation="العلاقة بين القوة والتسارع")
        self.index: LiveIndex | None = LiveIndex("chunks__words", self.embedder)
        self.texts = tuple(texts)
        self.service = RetrievalService(
            self.library, self.vectors, self.model, Understanding(self.model, caches), self._live, CAPS, caches
        )

    async def _live(self) -> LiveIndex | None:
        return self.index

    async def fill(self) -> "Bench":
        chunks = [
            chunk_of(number, text, language=detect(text).language) for number, text in enumerate(self.texts, start=1)
        ]
        self.library.put(*chunks)
        rows = await self.embedder.embed(self.texts, Purpose.PASSAGE)
        self.vectors.rows = {chunk.id: row for chunk, row in zip(chunks, rows, strict=True)}
        self.embedder.asked.clear()
        return self

    async def search(self, query: str = QUESTION, who: Caller = STUDENT, limit: int = 0) -> SearchResult:
        with acting_as(who):
            return await self.service.search(query, CorpusFilter(), limit)
