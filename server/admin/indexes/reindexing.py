"""The work of a reindex: make outdated search terms again; make or continue an index, fill it, compare it, declare it
ready."""

from collections.abc import Mapping
from typing import Any, Final

import structlog

from server.admin.indexes.recall import Recall, sample_recall
from server.admin.operation import Operation, Progress, Stopped
from server.corpus.catalogue import IndexCatalogue
from server.corpus.index import IndexState, VectorIndex
from server.corpus.passage import CorpusFilter
from server.corpus.service import CorpusService
from server.corpus.spaces import EmbedderOf, Space
from server.corpus.terms import SearchTerms
from server.corpus.vectors import VectorRefs
from server.database.pool import Database
from server.ingestion.filling import Filling
from server.refusal import Conflict, Refusal
from server.text.analysis import ANALYSIS_VERSION
from server.vectors.port import VectorStore

REINDEX: Final = "reindex"
"""The kind of these operations."""
TERMS: Final = "terms"
FILLING: Final = "filling"
COMPARING: Final = "comparing"
MOST_ROUNDS: Final = 5
STOPPED: Final = "stopped by a person"
BROKEN: Final = "a fault of the server"

log = structlog.get_logger(__name__)


class Reindexing:
    """Runs reindexes; run again after a crash, one goes on where the stores say it stands."""

    def __init__(
        self,
        database: Database,
        corpus: CorpusService,
        catalogue: IndexCatalogue,
        refs: VectorRefs,
        vectors: VectorStore,
        filling: Filling,
        terms: SearchTerms,
        embedder_of: EmbedderOf,
    ) -> None:
        self._database = database
        self._corpus = corpus
        self._catalogue = catalogue
        self._refs = refs
        self._vectors = vectors
        self._filling = filling
        self._terms = terms
        self._embedder_of = embedder_of

    async def __call__(self, operation: Operation, progress: Progress) -> Mapping[str, Any]:
        """Build the index of `operation.task`, or bring the one it names up to date; the result tells of it."""
        task = operation.task
        # A release that noted none had version 1.
        if task.get("analyser_version", 1) != ANALYSIS_VERSION:
            raise Conflict("A worker of another release took this reindex: replace all servers and workers first.")
        renewed = await self._renew_terms(task["namespace"], progress)
        return {**await self._index(operation, progress), "renewed_terms": renewed}

    async def _index(self, operation: Operation, progress: Progress) -> Mapping[str, Any]:
        task = operation.task
        if task.get("index"):
            index = await self._catalogue.read(task["index"])
            if task["namespace"]:
                async with self._database.transaction() as connection:
                    await self._refs.forget_namespace(connection, index.name, task["namespace"])
            return await self._fill(index, task["namespace"], progress)
        index = await self._catalogue.claim(task["model"], task["dimensions"], task["namespace"], operation.id)
        try:
            return await self._fill(index, index.namespace, progress)
        except Stopped:
            await self._catalogue.end(index, IndexState.FAILED, problem=STOPPED)
            raise
        except Exception as error:
            problem = str(error) if isinstance(error, Refusal) else BROKEN
            await self._catalogue.end(index, IndexState.FAILED, problem=problem)
            raise

    async def _renew_terms(self, namespace: str, progress: Progress) -> int:
        done, total = 0, await self._terms.outdated(namespace)

        async def report(renewed: int) -> None:
            nonlocal done
            done += renewed
            await progress.report(TERMS, done, max(done, total))

        return await self._terms.renew(report, namespace)

    async def _fill(self, index: VectorIndex, namespace: str, progress: Progress) -> Mapping[str, Any]:
        space = Space(index.name, self._embedder_of(index.model, index.dimensions))
        await self._vectors.create_index(index.name, index.dimensions)
        await self._complete(index, space, namespace, progress)
        expected = await self._corpus.count_chunks(CorpusFilter(namespace=namespace))
        await progress.report(COMPARING, expected, expected)
        recall = await self._recall(space, namespace)
        # A part of the library is no index to search, but one to be continued.
        ended = IndexState.BUILDING if index.namespace else IndexState.READY
        await self._catalogue.end(index, ended, sample_recall=recall.share)
        result = {
            "index": index.name,
            "embedding_model": index.model,
            "dimensions": index.dimensions,
            "namespace": namespace,
            "expected_count": expected,
            "actual_count": await self._vectors.count(index.name, namespace),
            "sample_recall": recall.share,
            "sample_queries": recall.queries,
        }
        log.info("reindexed", **result)
        return result

    async def _complete(self, index: VectorIndex, space: Space, namespace: str, progress: Progress) -> None:
        """Fill the index until the searched one holds nothing that it lacks."""
        done = total = 0

        async def report(written: int) -> None:
            nonlocal done
            done += written
            await progress.report(FILLING, done, max(done, total))

        for _ in range(MOST_ROUNDS):
            done = await self._refs.count(index.name, namespace=namespace)
            total = await self._corpus.count_chunks(CorpusFilter(namespace=namespace))
            await report(0)
            await self._filling.complete(index, space.embedder, report, namespace)
            if not await self._lacking(index, namespace):
                return
        raise Conflict("The library changes faster than this index can be filled.", index=index.name)

    async def _lacking(self, index: VectorIndex, namespace: str) -> int:
        searched = await self._catalogue.require_active()
        async with self._database.transaction() as connection:
            return await self._refs.lacking(connection, index.name, searched.name, namespace)

    async def _recall(self, space: Space, namespace: str) -> Recall:
        searched = await self._catalogue.require_active()
        if searched.name == space.index:
            return Recall(None, 0)
        before = Space(searched.name, self._embedder_of(searched.model, searched.dimensions))
        return await sample_recall(self._corpus, self._vectors, before, space, namespace)
