"""The drill: an export is restored into scratch stores and tried, and what a real loss would cost is measured."""

import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np

from server.admin.operation import Progress
from server.admin.recovery import store
from server.admin.recovery.export import Exporter, Wish
from server.admin.recovery.import_ import Importer, Source, Target, open_export
from server.admin.recovery.place import Places
from server.blobs.objects import open_blobs
from server.blobs.port import BlobStore
from server.blobs.tickets import Tickets
from server.caller import acting_as, system
from server.corpus.passage import Chunk, CorpusFilter
from server.corpus.service import CorpusService
from server.corpus.vectors import VectorRefs
from server.database.pool import Database
from server.database.scratch import scratch_database
from server.models.port import Embedder, ProviderFailure, Purpose
from server.refusal import Refusal
from server.vectors.lite import MilvusLite
from server.vectors.milvus import MilvusStore
from server.vectors.port import Vector, VectorFilter, VectorStore
from server.wallet.report import Check

SAMPLE = 20
SAME_VECTOR = 0.99
"""Cosine of a text's stored vector with one made now; services of models do not answer to the last bit."""
FOUND_SHARE = 0.5
"""Of a sample: lessons repeat each other, so another page may come first; half of them only go missing when a search is
broken."""
FOUND_AMONG = 10
QUERY_CHARACTERS = 300

EmbedderOf = Callable[[str, int], Embedder]
"""Returns the embedder of a model and its dimensions; raises a Refusal when it is not to be had."""


@dataclass(frozen=True, slots=True)
class Drilled:
    """What was found. RPO: age of the newest state that the export holds, with `lost_entries` ledger entries written
    since; RTO: time from nothing to a proven, searchable system."""

    location: str
    checks: tuple[Check, ...]
    recovery_point_seconds: float
    recovery_time_seconds: float
    lost_entries: int
    rows: int
    vectors: int

    @property
    def ok(self) -> bool:
        """Say whether the export restores."""
        return all(check.ok for check in self.checks)


@dataclass(frozen=True, slots=True)
class Original:
    """The running system: its database by both addresses, and its files. A drill only reads them."""

    url: str
    owner_url: str
    blobs: BlobStore


class Drill:
    """Restores into a scratch database beside the real one, a Milvus Lite and a folder of its own."""

    def __init__(
        self, original: Original, exporter: Exporter, places: Places, embedder_of: EmbedderOf, secret: str
    ) -> None:
        self._original = original
        self._exporter = exporter
        self._places = places
        self._embedder_of = embedder_of
        self._secret = secret

    async def run(self, location: str, progress: Progress) -> Drilled:
        """Try the export at `location`, or a fresh one when it is empty.

        Raises ExportInvalid for an export that cannot be imported; what was made is deleted whatever happens.
        """
        with tempfile.TemporaryDirectory(prefix="bacmr-drill-") as name:
            folder = Path(name)
            if not location:
                wish = Wish(uuid4(), compress=True)
                await self._exporter.export(wish, self._places.to(str(folder / "export")), progress)
            place = self._places.existing(location or str(folder / "export"))
            source = await open_export(place, self._secret)
            snapshot_at = source.manifest.snapshot_at
            point = (datetime.now(UTC) - snapshot_at).total_seconds()
            lost = await store.entries_since(self._original.owner_url, snapshot_at)
            started_at = time.monotonic()
            await progress.report("making scratch stores")
            async with _scratch(self._original, source, folder) as target:
                imported = await Importer(target).run(source, uuid4(), progress)
                took = time.monotonic() - started_at
                await progress.report("searching")
                tried = await self._try(target)
        checks = (*imported.checks, *tried)
        rows, vectors = source.manifest.rows, imported.vectors
        return Drilled(location or "a fresh export", checks, point, took, lost, rows, vectors)

    async def _try(self, target: Target) -> list[Check]:
        index = await store.restored_index(target.owner_url)
        if index is None:
            return [Check("searches_find", True, "the library is empty")]
        with acting_as(system()):
            sample = await VectorRefs(target.database).stored(index.name, "", SAMPLE)
            by_text = await _found_by_text(CorpusService(target.database), [chunk for chunk, _ in sample])
            by_vector = await _found_by_vector(target.vectors, index.name, [vector for _, vector in sample])
        return [
            await self._embedded_again(index.model, index.dimensions, sample),
            _enough("full_text_finds", by_text, len(sample)),
            _enough("vectors_find", by_vector, len(sample)),
        ]

    async def _embedded_again(self, model: str, dimensions: int, sample: list[tuple[Chunk, Vector]]) -> Check:
        """Make the vectors of a sample anew: an export of vectors that nobody can make queries for is worth little."""
        name = "vectors_can_be_made_again"
        try:
            embedder = self._embedder_of(model, dimensions)
            made = await embedder.embed([chunk.text for chunk, _ in sample], Purpose.PASSAGE)
        except (ProviderFailure, Refusal):
            return Check(name, False, f"the model {model} does not answer", len(sample))
        same = sum(float(np.dot(new, old)) >= SAME_VECTOR for new, (_, old) in zip(made, sample, strict=True))
        return _enough(name, same, len(sample), share=1.0)


@asynccontextmanager
async def _scratch(original: Original, source: Source, folder: Path) -> AsyncIterator[Target]:
    """Lend empty stores; files are only looked for where the export does not bring them."""
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(scratch_database(original.url, original.owner_url))
        database = Database(made.url, pool_size=2)
        await database.open()
        stack.push_async_callback(database.close)
        lite = MilvusLite(folder / "milvus")
        stack.push_async_callback(lite.stop)
        await lite.start()
        vectors = MilvusStore(lite.uri)
        stack.push_async_callback(vectors.close)
        blobs = original.blobs
        if source.manifest.copies_files:
            blobs = open_blobs((folder / "files").as_uri(), Tickets(b"", ""))
        yield Target(made.owner_url, database, blobs, vectors)


async def _found_by_text(corpus: CorpusService, sample: list[Chunk]) -> int:
    found = 0
    for chunk in sample:
        hits = await corpus.search_text(chunk.text[:QUERY_CHARACTERS], CorpusFilter(), FOUND_AMONG)
        found += chunk.id in {hit.chunk_id for hit in hits}
    return found


async def _found_by_vector(vectors: VectorStore, index: str, sample: list[Vector]) -> int:
    found = 0
    for vector in sample:
        hits = await vectors.search(index, vector, 1, VectorFilter(everything=True))
        found += bool(hits) and hits[0].score >= SAME_VECTOR
    return found


def _enough(name: str, found: int, tried: int, share: float = FOUND_SHARE) -> Check:
    return Check(name, found >= share * tried, f"{found} of {tried}", tried - found)
