"""Ingestion and reindexing over one PostgreSQL and one Milvus Lite, wired as the server does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from server import caller
from server.admin.audit import Audit
from server.admin.indexes import REINDEX, IndexService, Reindexing
from server.admin.operation import Operation, OperationState, Runner
from server.admin.operations import Operations
from server.caller import Caller
from server.corpus.catalogue import IndexCatalogue
from server.corpus.index import VectorIndex
from server.corpus.passage import Chunk, CorpusFilter, NewDocument
from server.corpus.service import CorpusService
from server.corpus.spaces import Spaces
from server.corpus.terms import SearchTerms
from server.corpus.vectors import VectorRefs
from server.database.once import Once
from server.ingestion.filling import Filling
from server.ingestion.pipeline.indexing import Targets, vector_row
from server.jobs.queue import JobQueue
from server.models.embedders import Embedders
from server.models.port import Embedder, Purpose
from server.vectors.port import VectorFilter, VectorStore
from tests.fakes import WordEmbedder
from tests.service.ingestion.ingesting import House, pieces

EVERYTHING = VectorFilter(everything=True)
AGE = "UPDATE chunk SET terms = '', term_count = 0, analyser_version = 0"
"""What a release with another analyser left."""
OLD, NEW = "words-64", "words-96"


def models() -> dict[str, WordEmbedder]:
    """The model that the library is made of, and the one it moves to."""
    return {OLD: WordEmbedder(), NEW: WordEmbedder(name=NEW, dimensions=96)}


@dataclass
class IndexHouse(House):
    """A house whose chunks go where the catalogue says. `batch` is small, so that every reindex has several."""

    words: dict[str, Any] = field(default_factory=models)
    batch: int = 2

    def __post_init__(self) -> None:
        self.embedders = Embedders(self.words[OLD], lambda model, size: self.words[f"{model}-{size}"])
        self.embedders.of(NEW, 96)
        self.catalogue = IndexCatalogue(self.database)
        self.spaces = self.process()
        super().__post_init__()
        once, audit = Once(self.database), Audit(self.database)
        runners = {REINDEX: self.reindexing()}
        self.operations = Operations(self.database, once, audit, JobQueue(self.database), runners)
        self.indexes = IndexService(
            self.database,
            once,
            audit,
            self.operations,
            self.corpus,
            self.catalogue,
            self.refs,
            self.vectors,
            self.spaces,
            self.embedders,
        )

    def process(self) -> Spaces:
        """What another process follows the catalogue by."""
        return Spaces(self.catalogue, self.embedders.of, follow_seconds=0.2)

    def reindexing(self, vectors: Any = None, refs: Any = None, embedder: Embedder | None = None) -> Reindexing:
        store, noted, corpus = vectors or self.vectors, refs or VectorRefs(self.database), CorpusService(self.database)
        filling = Filling(self.database, noted, store, self.catalogue, batch=self.batch, first_wait_seconds=0.01)
        made = (
            self.embedders.of if embedder is None else lambda name, size: embedder if name == NEW else self.words[OLD]
        )
        terms = SearchTerms(self.database, batch=self.batch, wait_seconds=0.01)
        return Reindexing(self.database, corpus, self.catalogue, noted, store, filling, terms, made)

    def _targets(self, embedder: Embedder) -> Targets:
        return self.spaces.written

    async def open(self) -> None:
        """What a server does at its start."""
        with caller.acting_as(caller.system()):
            active = await self.catalogue.ensure_active(OLD, 64)
        await self.vectors.create_index(active.name, active.dimensions)
        await self.vectors.activate(active.name)
        self.index = active.name

    async def change(self, document_id: UUID, content: bytes) -> None:
        """Give a document another file, as a web source does."""
        key = f"files/{uuid4()}"
        await self.blobs.put(key, pieces(content))
        new = NewDocument("changed", "text/plain", len(content), sha256(content).hexdigest(), key)
        async with self.database.transaction() as connection:
            await self.corpus.replace_file(connection, document_id, new)

    async def reindex(self, who: Caller, model: str = NEW, namespace: str = "") -> Operation:
        """Ask for a reindex, run it as a worker does, and return how it stands then."""
        with caller.acting_as(who):
            started = await self.indexes.start(namespace, model, uuid4())
        return await self.run(started.id)

    async def run(self, operation_id: UUID, runner: Runner | None = None) -> Operation:
        """Run an operation in the place of the queue."""
        operations = self.operations
        if runner is not None:
            once, audit, queue = Once(self.database), Audit(self.database), JobQueue(self.database)
            operations = Operations(self.database, once, audit, queue, {REINDEX: runner})
        with caller.acting_as(caller.system()):
            try:
                await operations.run(operation_id)
            except Exception as error:
                await operations.give_up(operation_id, error)
                raise
            return await operations.get(operation_id)

    async def read(self, name: str) -> VectorIndex:
        with caller.acting_as(caller.system()):
            return await self.catalogue.read(name)

    async def all_chunks(self) -> set[str]:
        with caller.acting_as(caller.system()):
            return {chunk.id for chunk in await self.corpus.chunks_after(CorpusFilter(), "", 10_000)}

    async def outdated(self, namespace: str = "") -> int:
        """How many chunks have terms of another release."""
        with caller.acting_as(caller.system()):
            return await SearchTerms(self.database).outdated(namespace)

    async def first_of_batch(self, index: VectorIndex) -> Chunk:
        """The first chunk of the batch that was being written."""
        with caller.acting_as(caller.system()):
            (first,) = await self.corpus.chunks_after(CorpusFilter(), index.batch_after, 1)
        assert first.id <= index.batch_until
        return first

    async def put(self, index: str, chunk: Chunk) -> None:
        """Write a chunk's vector as a worker does that read the chunk some time ago."""
        (vector,) = await self.words[NEW].embed([chunk.text], Purpose.PASSAGE)
        await self.vectors.upsert(index, [vector_row(chunk, vector)])

    async def found(self, vectors: VectorStore, spaces: Spaces, question: str) -> str:
        """The chunk that a process finds first, through the index that it searches."""
        live = await spaces.live()
        assert live is not None
        (vector,) = await live.embedder.embed([question], Purpose.QUERY)
        return (await vectors.search(live.index, vector, 1, EVERYTHING))[0].chunk_id


def succeeded(operation: Operation) -> Mapping[str, Any]:
    """The result of an operation that must have done its work."""
    assert operation.state is OperationState.SUCCEEDED, operation.error
    return operation.result


def lesson(number: int) -> bytes:
    """A text of its own."""
    names = ("photosynthèse", "mitochondrie", "vecteur", "suite", "dérivée", "intégrale", "force", "énergie", "volcan")
    words = [names[(number * 7 + step * 5) % len(names)] for step in range(30)]
    return f"Leçon {number}. Le cours numéro {number} parle de {' et de '.join(words)}. Fin {number * 31}.".encode()
