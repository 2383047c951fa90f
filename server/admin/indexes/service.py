"""What operators do with vector indexes: build one, search it instead of the other, go back, drop one."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from server.admin.audit import Audit
from server.admin.indexes.reindexing import REINDEX
from server.admin.operation import Operation
from server.admin.operations import Operations
from server.corpus.catalogue import SWITCHABLE, IndexCatalogue
from server.corpus.index import IndexState, VectorIndex
from server.corpus.passage import CorpusFilter
from server.corpus.service import CorpusService
from server.corpus.spaces import FOLLOW_SECONDS, Spaces
from server.corpus.vectors import VectorRefs
from server.database.once import Once
from server.database.pool import Connection, Database
from server.models.embedders import Embedders, UnknownModel
from server.models.port import ProviderFailure, Purpose
from server.refusal import (
    Conflict,
    IllegalState,
    Invalid,
    ModelUnavailable,
    NotFound,
    Refusal,
    StoreUnavailable,
    Violation,
)
from server.text.analysis import ANALYSIS_VERSION
from server.vectors.port import VectorStore

UNKNOWN = -1
"""Stands for a count that the vector store does not tell now."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """An index with the chunks that PostgreSQL has and the vectors that the store has."""

    index: VectorIndex
    expected_count: int
    actual_count: int


class IndexService:
    """Changes which index is searched. The catalogue decides, in one transaction; the store's alias follows it."""

    def __init__(
        self,
        database: Database,
        once: Once,
        audit: Audit,
        operations: Operations,
        corpus: CorpusService,
        catalogue: IndexCatalogue,
        refs: VectorRefs,
        vectors: VectorStore,
        spaces: Spaces,
        embedders: Embedders,
    ) -> None:
        self._database = database
        self._once = once
        self._audit = audit
        self._operations = operations
        self._corpus = corpus
        self._catalogue = catalogue
        self._refs = refs
        self._vectors = vectors
        self._spaces = spaces
        self._embedders = embedders

    async def start(self, namespace: str, model: str, request_id: UUID) -> Operation:
        """Build an index of `model` (empty: the configured one) beside the searched one.

        With a namespace only that part of the library goes into it, for comparing: such an index is not searched until
        a reindex without a namespace completes it. With the namespace and the model of the searched index, that part
        of the searched index is written again. Raises Invalid, NotFound for a namespace without chunks, Conflict.
        """
        try:
            task, problem = await self._task(namespace, model), None
        except Refusal as refusal:
            task, problem = {}, refusal

        async def effect(connection: Connection) -> UUID:
            # Only now: a request that is repeated gets its operation, whatever became of model and namespace since.
            if problem is not None:
                raise problem
            return await self._operations.add(connection, REINDEX, task)

        asked = {"namespace": namespace, "model": model}
        return await self._operations.get(await self._once.run("StartReindex", request_id, asked, UUID, effect))

    async def activate(self, name: str, request_id: UUID) -> IndexStatus:
        """Let an index answer searches from now on; the one before is kept for `rollback`.

        Raises NotFound, IllegalState for an index that is not ready or lacks vectors, ModelUnavailable when its model
        does not answer, StoreUnavailable.
        """
        problem = await self._problem(name)

        async def effect(connection: Connection) -> str:
            # Only now: a request that is repeated is answered as it was, whatever became of the index since.
            if problem is not None:
                raise problem
            return await self._switch(connection, name, "activate")

        await self._once.run("ActivateIndex", request_id, name, str, effect)
        await self.settle()
        return await self.status(name)

    async def rollback(self, request_id: UUID) -> IndexStatus:
        """Let the index before answer searches again; what was added since then follows at once.

        Raises IllegalState when there is none, ModelUnavailable, StoreUnavailable.
        """

        previous = await self._catalogue.previous()
        problem = await self._problem(previous.name) if previous else None

        async def effect(connection: Connection) -> str:
            if previous is None:
                raise IllegalState("There is no index to go back to.", state="none")
            if problem is not None:
                raise problem
            return await self._switch(connection, previous.name, "rollback")

        name = await self._once.run("RollbackIndex", request_id, None, str, effect)
        await self.settle()
        return await self.status(name)

    async def drop(self, name: str, request_id: UUID) -> None:
        """Drop an index with its vectors. Raises NotFound, IllegalState for the searched one or one being filled."""

        filled = await self._being_filled()

        async def effect(connection: Connection) -> None:
            await self._catalogue.lock(connection)
            index = await self._catalogue.get(connection, name)
            if name in filled:
                raise IllegalState("This index is being filled; cancel its operation first.", state=index.state)
            await self._catalogue.drop(connection, index)
            await self._refs.drop(connection, name)
            await self._audit.record(connection, "index.drop", f"index/{name}", {"state": index.state}, None)

        await self._once.run("DropIndex", request_id, name, type(None), effect)
        since = await self._catalogue.retired_for_seconds(name)
        if since is not None and since < FOLLOW_SECONDS:
            await asyncio.sleep(FOLLOW_SECONDS - since)  # other processes may still search it
        await self._vectors.drop_index(name)
        log.info("index_dropped", index=name)

    async def statuses(self) -> list[IndexStatus]:
        """Return all indexes, newest first; their counts are -1 while the vector store is away."""
        expected = await self._corpus.count_chunks(CorpusFilter())
        return [await self._status(index, expected) for index in await self._catalogue.listed()]

    async def status(self, name: str) -> IndexStatus:
        """Return one index. Raises NotFound."""
        index = await self._catalogue.read(name)
        return await self._status(index, await self._corpus.count_chunks(CorpusFilter()))

    async def settle(self) -> int:
        """Let the store follow the catalogue: its alias, and indexes that were dropped; returns how many of these.

        For the schedule as well: a process may die, or the store be away, just after the catalogue changed.
        """
        self._spaces.look_again()
        try:
            searched = await self._catalogue.require_active()
            if await self._vectors.live() != searched.name:
                await self._vectors.activate(searched.name)
            left = set(await self._catalogue.dropped()) & set(await self._vectors.indexes())
            for name in left:
                await self._vectors.drop_index(name)
        except StoreUnavailable as problem:
            log.warning("indexes_not_settled", problem=str(problem))
            return 0
        return len(left)

    async def _task(self, namespace: str, model: str) -> dict[str, Any]:
        try:
            embedder = self._embedders.asked(model)
        except UnknownModel as unknown:
            raise Invalid(violations=[Violation("embedding_model", str(unknown), "known_model")]) from None
        if namespace and not await self._corpus.count_chunks(CorpusFilter(namespace=namespace)):
            raise NotFound("There is nothing in this namespace.", namespace=namespace)
        searched = await self._catalogue.require_active()
        again = bool(namespace) and embedder.name == searched.model
        return {
            "model": embedder.name,
            "dimensions": embedder.dimensions,
            "namespace": namespace,
            "index": searched.name if again else "",
            "analyser_version": ANALYSIS_VERSION,
        }

    async def _switch(self, connection: Connection, name: str, action: str) -> str:
        searched = await self._catalogue.lock(connection)
        chosen = await self._catalogue.get(connection, name)
        if chosen.name == searched.name:
            return name
        lacking = await self._refs.lacking(connection, chosen.name, searched.name)
        if lacking and chosen.state is IndexState.READY:
            raise IllegalState(
                f"{lacking} chunks have no vector in this index yet; start the reindex again to add them.",
                state=chosen.state,
                lacking=lacking,
            )
        await self._catalogue.switch(connection, searched, chosen)
        if lacking:
            await self._catch_up(connection, chosen)
        before, after = {"searched": searched.name}, {"searched": chosen.name}
        await self._audit.record(connection, f"index.{action}", f"index/{name}", before, after)
        return name

    async def _catch_up(self, connection: Connection, index: VectorIndex) -> None:
        task = {
            "model": index.model,
            "dimensions": index.dimensions,
            "namespace": "",
            "index": index.name,
            "analyser_version": ANALYSIS_VERSION,
        }
        try:
            await self._operations.add(connection, REINDEX, task, object=f"index/{index.name}")
        except Conflict:
            log.info("index_is_being_filled", index=index.name)

    async def _problem(self, name: str) -> Refusal | None:
        """Return why searches would get nothing from an index, if so."""
        try:
            index = await self._catalogue.read(name)
            if index.state not in SWITCHABLE:
                return None  # the switch itself says so
            lost = await self._refs.count(name) - await self._vectors.count(name)
            await self._embedders.of(index.model, index.dimensions).embed(["…"], Purpose.QUERY)
        except ProviderFailure:
            return ModelUnavailable(
                f"The embedding model {index.model} does not answer; check its settings.", model=index.model
            )
        except Refusal as refusal:
            return refusal
        if lost > 0:
            return IllegalState(f"The vector store lacks {lost} vectors of this index; reindex.", state=index.state)
        return None

    async def _being_filled(self) -> set[str]:
        filling = {index.name: index.operation_id for index in await self._catalogue.listed()}
        return {
            name
            for name, operation_id in filling.items()
            if operation_id and not (await self._operations.get(operation_id)).state.ended
        }

    async def _status(self, index: VectorIndex, expected: int) -> IndexStatus:
        try:
            actual = await self._vectors.count(index.name)
        except NotFound:
            actual = 0
        except StoreUnavailable:
            actual = UNKNOWN
        return IndexStatus(index, expected, actual)
