"""From a query to passages: understand, search twice, fuse, rerank, read. Each step may fail and is then named."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

import numpy as np

from server import caller
from server.cache.caches import Caches
from server.cache.flight import FlightCache
from server.caller import Caller, Role, Tier
from server.corpus.passage import Chunk, CorpusFilter
from server.models.port import Embedder, ProviderFailure, Purpose, TutorModel
from server.refusal import NoPassages, Refusal, StoreUnavailable
from server.retrieval.passage import Degraded, Passage, SearchResult, SearchTrace, Step
from server.retrieval.query import Query, Understanding
from server.retrieval.ranking import Ranked, Scored, fuse, merge, pairs, reorder, shortlist
from server.telemetry.metrics import record_cache, record_degraded_step
from server.text.language import Language
from server.vectors.port import Vector, VectorFilter, VectorStore

CANDIDATES = 30
"""Hits taken from each store, and most that any tier is shown."""
RERANKED = 12
"""Candidates that are reranked; the rest follow as they are. All 30 would gain 0.002 of MRR@10 (`make eval`)."""
CHANCE_COSINE = 0.12
"""Texts without a word in common reach this by chance in the local embedder's space (99th percentile, `evals`)."""
RESULT_TTL_SECONDS = 15 * 60
RESULT_CACHE_SIZE = 2_000
RERANK_CACHE_SIZE = 5_000
EMBEDDING_TTL_SECONDS = 60 * 60
EMBEDDING_CACHE_SIZE = 5_000
LANGUAGES_TTL_SECONDS = 60
EMBED_SECONDS = 8.0
STORE_SECONDS = 8.0
RERANK_SECONDS = 8.0
"""A step that takes longer has failed: a late answer is worse than a plainer one."""

NO_DENSE = Degraded(Step.DENSE, "The vector search did not answer; full-text search was used.")
NO_FULL_TEXT = Degraded(Step.FULL_TEXT, "Full-text search did not answer; the vector search was used.")
NO_RERANK = Degraded(Step.RERANK, "Reranking failed; the order of the searches was kept.")
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

    async def languages(self) -> Collection[Language]:
        """Return the languages in which there is a chunk that the caller may see."""

    async def generation(self) -> int:
        """Return a number that changes whenever documents come or go."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Ranked candidates of a query; everything of a result but the texts."""

    query: Query
    ranked: Ranked
    degraded: tuple[Degraded, ...]
    trace: SearchTrace


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one search answered, or why it did not."""

    hits: Sequence[Scored] = ()
    degraded: Degraded | None = None


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
        caches: Caches,
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
        self._scores = caches.make(RERANK_CACHE_SIZE, RESULT_TTL_SECONDS, "rerank", encode=dict, decode=_scores)
        self._languages: FlightCache[UUID | None, Collection[Language]] = FlightCache(
            RESULT_CACHE_SIZE, LANGUAGES_TTL_SECONDS, "languages", on_event=record_cache
        )
        self._embeddings = caches.make(
            EMBEDDING_CACHE_SIZE, EMBEDDING_TTL_SECONDS, "embedding", encode=_numbers, decode=_vector
        )

    async def search(self, query: str, where: CorpusFilter, limit: int = 0) -> SearchResult:
        """Return the best passages the caller may see: at most `limit`, never more than the tier's cap (0: the cap).

        Raises NoPassages when nothing fits and StoreUnavailable when neither store answers.
        """
        who = caller.current()
        sees_all = _sees_all(who)
        cap = self._caps[Tier.PREMIUM if sees_all else who.tier]
        live = await self._live()
        generation = await self._library.generation()
        viewer = None if sees_all else who.user_id
        key = (query, where, viewer, sees_all, live.name if live else "", generation)
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

    async def _read(self, ranked: Ranked, limit: int) -> tuple[Passage, ...]:
        """Return the first passages that still exist and that the caller may still see."""
        passages: list[Passage] = []
        left = ranked
        while left and len(passages) < limit:
            wanted, left = left[: limit - len(passages)], left[limit - len(passages) :]
            chunks = await self._library.chunks([chunk_id for chunk_id, _ in wanted])
            passages += [_passage(chunks[chunk_id], score) for chunk_id, score in wanted if chunk_id in chunks]
        if not passages:
            raise NoPassages
        return tuple(passages)

    async def _find(self, query: str, where: CorpusFilter, who: Caller, live: LiveIndex | None) -> _Found:
        async with asyncio.TaskGroup() as group:
            # The query as asked is searched while it is being understood, which may take a model.
            dense = group.create_task(self._dense(query, where, who, live))
            full_text = group.create_task(self._full_text(query, where))
            await asyncio.sleep(0)
            understood = await self._understanding.understand(query, where.language)
            held = await self._held_languages(who) if understood.others else ()
            others = [
                group.create_task(self._full_text(words, replace(where, language=language)))
                for language, words in understood.others
                if language is where.language or language in held
            ]
        outcomes = [dense.result(), full_text.result(), *(task.result() for task in others)]
        degraded = dict.fromkeys([*understood.degraded, *(each.degraded for each in outcomes if each.degraded)])
        near, said, *elsewhere = [each.hits for each in outcomes]
        fused = fuse(near, said, semantic=live is not None and live.semantic)
        found = merge([shortlist(fused, near, RERANKED), *map(pairs, elsewhere)], CANDIDATES)
        if not found:
            if {each.step for each in degraded} >= {Step.DENSE, Step.FULL_TEXT}:
                raise StoreUnavailable(store="milvus, postgresql")
            raise NoPassages
        ranked, failure = await self.reranked(query, found)
        if failure:
            degraded[failure] = None
        trace = SearchTrace(
            language_confidence=understood.confidence,
            translation=understood.translation,
            dense=tuple(pairs(near)),
            full_text=tuple(pair for hits in (said, *elsewhere) for pair in pairs(hits)),
            ranked=tuple(ranked),
            reranked=failure is None,
            cached=False,
        )
        return _Found(understood, ranked, tuple(degraded), trace)

    async def _dense(self, text: str, where: CorpusFilter, who: Caller, live: LiveIndex | None) -> _Outcome:
        if live is None:
            return _Outcome()
        visible = VectorFilter(
            namespace=where.namespace,
            subject=where.subject,
            grade=where.grade,
            language=where.language.value if where.language else "",
            document_ids=where.document_ids,
            viewer_id=who.user_id,
            everything=_sees_all(who),
        )
        try:
            vector = await self._embedding(text, live.embedder)
            async with asyncio.timeout(STORE_SECONDS):
                hits = await self._vectors.search(live.name, vector, CANDIDATES, visible)
        except FAILURES:
            return _Outcome(degraded=NO_DENSE)
        return _Outcome(hits if live.semantic else [hit for hit in hits if hit.score >= CHANCE_COSINE])

    async def _full_text(self, text: str, where: CorpusFilter) -> _Outcome:
        try:
            async with asyncio.timeout(STORE_SECONDS):
                return _Outcome(await self._library.search_text(text, where, CANDIDATES))
        except FAILURES:
            return _Outcome(degraded=NO_FULL_TEXT)

    async def _held_languages(self, who: Caller) -> Collection[Language]:
        """Return the languages of what the caller may see, up to a minute behind; all when that is not known."""

        async def load(_: object) -> Collection[Language]:
            return await self._library.languages()

        try:
            return await self._languages.get(None if _sees_all(who) else who.user_id, load)
        except FAILURES:
            return tuple(Language)

    async def _embedding(self, text: str, embedder: Embedder) -> Vector:
        async def load(_: object) -> Vector:
            async with asyncio.timeout(EMBED_SECONDS):
                vector: Vector = (await embedder.embed([text], Purpose.QUERY))[0]
            return vector

        return await self._embeddings.get(f"{embedder.name}/{embedder.dimensions}/{text}", load)

    async def reranked(self, query: str, found: Ranked) -> tuple[Ranked, Degraded | None]:
        """Return the candidates in their final order, and why it is only the fused one if reranking failed."""
        if len(found) < 2:
            return found, None
        ids = sorted(chunk_id for chunk_id, _ in found[:RERANKED])

        async def load(_: object) -> dict[str, float]:
            chunks = await self._library.chunks(ids)
            known = [chunk_id for chunk_id in ids if chunk_id in chunks]
            async with asyncio.timeout(RERANK_SECONDS):
                scores = await self._model.rerank(query, [chunks[chunk_id].text for chunk_id in known])
            return dict(zip(known, scores, strict=True))

        key = hashlib.sha256("\0".join([self._model.name, query, *ids]).encode()).hexdigest()
        try:
            scores = await self._scores.get(key, load)
        except FAILURES:
            return found, NO_RERANK
        return reorder(found, scores), None


def _scores(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise TypeError("scores are an object")
    return {str(chunk_id): float(score) for chunk_id, score in value.items()}


def _numbers(vector: Vector) -> object:
    return vector.tolist()


def _vector(value: object) -> Vector:
    vector = np.asarray(value, dtype=np.float32)
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise ValueError("a vector is a list of numbers")
    return vector


def _sees_all(who: Caller) -> bool:
    return who.role in (Role.ADMIN, Role.SERVICE)


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
