"""From a query to passages: understand, search twice, fuse, rerank, read. Each step may fail and is then named."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from server import caller
from server.cache.flight import FlightCache
from server.caller import Caller, Role, Tier
from server.corpus.passage import Chunk, CorpusFilter
from server.models.port import Embedder, ProviderFailure, Purpose, TutorModel
from server.refusal import NoPassages, Refusal, StoreUnavailable
from server.retrieval.passage import Degraded, Passage, SearchResult, SearchTrace, Step
from server.retrieval.query import Query, Understanding
from server.retrieval.ranking import Ranked, Scored, fuse, merge, pairs, reorder, shortlist
from server.telemetry.metrics import record_cache, record_degraded_step
from server.vectors.port import Vector, VectorFilter, VectorStore

CANDIDATES = 30
"""Hits taken from each store and passages that are reranked."""
CHANCE_COSINE = 0.12
"""Texts without a word in common reach this by chance in the local embedder's space (99th percentile, `evals`)."""
RESULT_TTL_SECONDS = 15 * 60
RESULT_CACHE_SIZE = 2_000
RERANK_CACHE_SIZE = 5_000
EMBEDDING_TTL_SECONDS = 60 * 60
EMBEDDING_CACHE_SIZE = 5_000
EMBED_SECONDS = 8.0
STORE_SECONDS = 8.0
RERANK_SECONDS = 8.0
"""A step that takes longer has failed: a late answer is worse than a plainer one."""

FAILURES = (ProviderFailure, Refusal, TimeoutError)
"""What a failing model or store raises; anything else is a bug and is not hidden."""


@dataclass(frozen=True, slots=True)
class LiveIndex:
    """The vector index that is searched and the embedder of its vector space.

    `semantic`: the embedder knows meanings, not only words (any but the local one).
    """

    name: str
    embedder: Embedder
    semantic: bool = False


class Library(Protocol):
    """What the search needs of the corpus."""

    async def search_text(self, query: str, where: CorpusFilter, limit: int) -> Sequence[Scored]:
        """Return the best full-text hits that the caller may see."""

    async def chunks(self, ids: Sequence[str]) -> Mapping[str, Chunk]:
        """Return the chunks that exist and that the caller may see."""

    async def generation(self) -> int:
        """Return a number that changes whenever documents come or go."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Ranked candidates of a query; everything of a result but the texts."""

    query: Query
    ranked: tuple[tuple[str, float], ...]
    degraded: tuple[Degraded, ...]
    trace: SearchTrace


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What both stores answered to one variant of the query."""

    dense: Sequence[Scored]
    full_text: Sequence[Scored]
    degraded: tuple[Degraded, ...]


class _Partial(Exception):
    """Carries a result past the cache: one that misses a step must not be kept."""

    def __init__(self, found: _Found) -> None:
        super().__init__()
        self.found = found


class RetrievalService:
    """Finds passages for whoever calls; used by Search, Ask and GenerateQuiz alike."""

    def __init__(
        self,
        library: Library,
        vectors: VectorStore,
        model: TutorModel,
        understanding: Understanding,
        live: Callable[[], Awaitable[LiveIndex | None]],
        caps: Mapping[Tier, int],
    ) -> None:
        """`caps` are the most passages per tier; `live` names the index to search, None while there is none."""
        self._library = library
        self._vectors = vectors
        self._model = model
        self._understanding = understanding
        self._live = live
        self._caps = caps
        self._results: FlightCache[object, _Found] = FlightCache(
            RESULT_CACHE_SIZE, RESULT_TTL_SECONDS, "result", on_event=record_cache
        )
        self._scores: FlightCache[str, dict[str, float]] = FlightCache(RERANK_CACHE_SIZE, RESULT_TTL_SECONDS, "rerank")
        self._embeddings: FlightCache[tuple[str, str], Vector] = FlightCache(
            EMBEDDING_CACHE_SIZE, EMBEDDING_TTL_SECONDS, "embedding", on_event=record_cache
        )

    async def search(self, query: str, where: CorpusFilter, limit: int = 0) -> SearchResult:
        """Return the best passages the caller may see: at most `limit`, never more than the tier's cap (0: the cap).

        Raises NoPassages when nothing fits and StoreUnavailable when neither store answers.
        """
        who = caller.current()
        cap = self._caps[Tier.PREMIUM if who.role in (Role.ADMIN, Role.SERVICE) else who.tier]
        live = await self._live()
        sees_all = who.role in (Role.ADMIN, Role.SERVICE)
        generation = await self._library.generation()
        key = (query, where, None if sees_all else who.user_id, sees_all, live.name if live else "", generation)
        cached = True

        async def load(_: object) -> _Found:
            nonlocal cached
            cached = False
            found = await self._find(query, where, who, live)
            if found.degraded:
                raise _Partial(found)
            return found

        try:
            found = await self._results.get(key, load)
        except _Partial as partial:
            found = partial.found
            for degraded in found.degraded:
                record_degraded_step(degraded.step.value)
        passages = await self._read(found.ranked, min(limit or cap, cap))
        return SearchResult(
            passages=passages,
            detected_language=found.query.language,
            degraded=found.degraded,
            terms=found.query.terms,
            trace=replace(found.trace, cached=cached),
        )

    async def _read(self, ranked: Sequence[tuple[str, float]], limit: int) -> tuple[Passage, ...]:
        chunks = await self._library.chunks([chunk_id for chunk_id, _ in ranked])
        visible = [(chunks[chunk_id], score) for chunk_id, score in ranked if chunk_id in chunks]
        if not visible:
            raise NoPassages
        return tuple(_passage(chunk, score) for chunk, score in visible[:limit])

    async def _find(self, query: str, where: CorpusFilter, who: Caller, live: LiveIndex | None) -> _Found:
        async with asyncio.TaskGroup() as group:
            # The query as asked is searched while a model may still be translating it.
            asked = group.create_task(self._both(query, where, who, live))
            understood = await self._understanding.understand(query, where.language)
            others = [
                group.create_task(self._both(words, replace(where, language=language), who, live))
                for language, words in understood.others
            ]
        outcomes = [task.result() for task in (asked, *others)]
        degraded = dict.fromkeys(understood.degraded)
        for outcome in outcomes:
            degraded |= dict.fromkeys(outcome.degraded)
        semantic = live is not None and live.semantic
        variants = [
            shortlist(fuse(each.dense, each.full_text, semantic=semantic), each.dense, CANDIDATES) for each in outcomes
        ]
        fused = merge(variants, CANDIDATES)
        if not fused:
            if {each.step for each in degraded} >= {Step.DENSE, Step.FULL_TEXT}:
                raise StoreUnavailable(store="milvus, postgresql")
            raise NoPassages
        ranked, failure = await self._rerank(understood, fused)
        if failure:
            degraded[failure] = None
        trace = SearchTrace(
            language_confidence=understood.confidence,
            translation=understood.translation,
            dense=pairs(hit for outcome in outcomes for hit in outcome.dense),
            full_text=pairs(hit for outcome in outcomes for hit in outcome.full_text),
            ranked=tuple(ranked),
            reranked=failure is None,
            cached=False,
        )
        return _Found(understood, tuple(ranked), tuple(degraded), trace)

    async def _both(self, text: str, where: CorpusFilter, who: Caller, live: LiveIndex | None) -> _Outcome:
        dense, full_text = await asyncio.gather(
            self._dense(text, where, who, live), self._full_text(text, where), return_exceptions=True
        )
        degraded = []
        if isinstance(dense, BaseException):
            degraded.append(_failed(dense, Step.DENSE, "The vector search did not answer; full-text search was used."))
            dense = []
        if isinstance(full_text, BaseException):
            degraded.append(_failed(full_text, Step.FULL_TEXT, "Full-text search failed; the vector search was used."))
            full_text = []
        return _Outcome(dense, full_text, tuple(degraded))

    async def _dense(self, text: str, where: CorpusFilter, who: Caller, live: LiveIndex | None) -> Sequence[Scored]:
        if live is None:
            return []
        vector = await self._embedding(text, live.embedder)
        visible = VectorFilter(
            namespace=where.namespace,
            subject=where.subject,
            grade=where.grade,
            language=where.language.value if where.language else "",
            document_ids=where.document_ids,
            viewer_id=who.user_id,
            everything=who.role in (Role.ADMIN, Role.SERVICE),
        )
        async with asyncio.timeout(STORE_SECONDS):
            hits = await self._vectors.search(live.name, vector, CANDIDATES, visible)
        return hits if live.semantic else [hit for hit in hits if hit.score >= CHANCE_COSINE]

    async def _full_text(self, text: str, where: CorpusFilter) -> Sequence[Scored]:
        async with asyncio.timeout(STORE_SECONDS):
            return await self._library.search_text(text, where, CANDIDATES)

    async def _embedding(self, text: str, embedder: Embedder) -> Vector:
        async def load(_: object) -> Vector:
            async with asyncio.timeout(EMBED_SECONDS):
                vector: Vector = (await embedder.embed([text], Purpose.QUERY))[0]
            return vector

        return await self._embeddings.get((embedder.name, text), load)

    async def _rerank(self, query: Query, fused: Ranked) -> tuple[Ranked, Degraded | None]:
        """Return the candidates in their final order, and why it is only the fused one if reranking failed."""
        if len(fused) < 2:
            return list(fused), None
        ids = sorted(chunk_id for chunk_id, _ in fused)

        async def load(_: object) -> dict[str, float]:
            chunks = await self._library.chunks(ids)
            known = [chunk_id for chunk_id in ids if chunk_id in chunks]
            async with asyncio.timeout(RERANK_SECONDS):
                scores = await self._model.rerank(query.widened, [chunks[chunk_id].text for chunk_id in known])
            return dict(zip(known, scores, strict=True))

        key = hashlib.sha256("\0".join([self._model.name, query.widened, *ids]).encode()).hexdigest()
        try:
            scores = await self._scores.get(key, load)
        except FAILURES:
            return list(fused), Degraded(Step.RERANK, "Reranking failed; the order of the searches was kept.")
        return reorder(fused, scores), None


def _failed(error: BaseException, step: Step, reason: str) -> Degraded:
    if not isinstance(error, FAILURES):
        raise error
    return Degraded(step, reason)


def _passage(chunk: Chunk, score: float) -> Passage:
    return Passage(
        chunk_id=chunk.id,
        document_id=chunk.document_id,
        document_title=chunk.document_title,
        page=chunk.page,
        text=chunk.text,
        score=score,
        language=chunk.language,
        start=chunk.start,
        end=chunk.end,
        token_count=chunk.token_count,
    )
