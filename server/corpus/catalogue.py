"""The catalogue of vector indexes: the table that says which one answers searches, and which are on their way."""

from uuid import UUID

from server.corpus.index import IndexState, VectorIndex
from server.corpus.store import IndexStore
from server.database.pool import Connection, Database
from server.refusal import Conflict, IllegalState, NotFound
from server.text.analysis import ANALYSIS_VERSION
from server.vectors.filters import index_name

SWITCHABLE = (IndexState.READY, IndexState.RETIRED)


class IndexCatalogue:
    """Reads and moves indexes, as the system or an administrator. Moves take the caller's open transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._store = IndexStore()

    async def ensure_active(self, model: str, dimensions: int) -> VectorIndex:
        """Return the index that answers searches; while the library is empty, that is one of `model`."""
        async with self._database.transaction() as connection:
            await self._store.lock(connection)
            active = await self._store.active(connection)
            if active is not None:
                if active.model == model or not await self._store.library_is_empty(connection):
                    return active
                await self._store.move(connection, active.name, IndexState.DROPPED)
            made = await self._store.insert(
                connection,
                name=await self._new_name(connection, model, dimensions),
                model=model,
                dimensions=dimensions,
                analyser_version=ANALYSIS_VERSION,
                state=IndexState.ACTIVE,
            )
        if made is None:
            raise Conflict
        return made

    async def _new_name(self, connection: Connection, model: str, dimensions: int) -> str:
        prefix = index_name(model, dimensions, 0).removesuffix("0")
        return f"{prefix}{1 + await self._store.last_version(connection, prefix)}"

    async def active(self) -> VectorIndex | None:
        """Return the index that answers searches, None before the first start."""
        async with self._database.transaction() as connection:
            return await self._store.active(connection)

    async def require_active(self) -> VectorIndex:
        """Return the index that answers searches; raises NotFound when there is none."""
        active = await self.active()
        if active is None:
            raise NotFound("There is no search index yet.")
        return active

    async def get(self, connection: Connection, name: str) -> VectorIndex:
        """Return an index. Raises NotFound, also for a dropped one."""
        found = await self._store.get(connection, name)
        if found is None or found.state is IndexState.DROPPED:
            raise NotFound("There is no such index.", index=name)
        return found

    async def read(self, name: str) -> VectorIndex:
        """Return an index in a transaction of its own. Raises NotFound."""
        async with self._database.transaction() as connection:
            return await self.get(connection, name)

    async def listed(self) -> list[VectorIndex]:
        """Return all indexes, newest first."""
        async with self._database.transaction() as connection:
            return await self._store.listed(connection)

    async def written(self) -> tuple[VectorIndex | None, list[VectorIndex]]:
        """Return the index that answers searches, and those on their way that must hold what it holds."""
        async with self._database.transaction() as connection:
            return await self._store.active(connection), await self._store.following(connection)

    async def dropped(self) -> list[str]:
        """Return the names of dropped indexes."""
        async with self._database.transaction() as connection:
            return await self._store.dropped(connection)

    async def claim(self, model: str, dimensions: int, namespace: str, operation_id: UUID) -> VectorIndex:
        """Return the index of a vector space that this operation fills from now on: an unfinished one, or a new one.

        An operation that filled it before meets Conflict at its next batch. Raises Conflict when the name is taken.
        """
        async with self._database.transaction() as connection:
            await self._store.lock(connection)
            found = await self._store.unfinished(connection, model, dimensions, ANALYSIS_VERSION)
            if found is not None:
                # A part of what is there already would make it less than it is.
                whole = not namespace or (not found.namespace and found.state is not IndexState.FAILED)
                taken = await self._store.take(connection, found.name, operation_id, "" if whole else namespace)
            else:
                taken = await self._store.insert(
                    connection,
                    name=await self._new_name(connection, model, dimensions),
                    model=model,
                    dimensions=dimensions,
                    analyser_version=ANALYSIS_VERSION,
                    state=IndexState.BUILDING,
                    namespace=namespace,
                    operation_id=operation_id,
                )
            if taken is None:
                raise Conflict
            return taken

    async def note_batch(self, connection: Connection, index: VectorIndex, after: str, until: str) -> None:
        """Note which chunks are about to be written. Raises Conflict when the operation no longer fills the index."""
        if index.operation_id is None:
            return
        if not await self._store.note_batch(connection, index.name, index.operation_id, after, until):
            raise Conflict("This index is no longer filled by this operation.", index=index.name)

    async def end(
        self, index: VectorIndex, state: IndexState, *, sample_recall: float | None = None, problem: str = ""
    ) -> VectorIndex | None:
        """End the filling of an index that `claim` gave; None when somebody else fills it by now."""
        if index.operation_id is None:
            return None
        async with self._database.transaction() as connection:
            return await self._store.end(connection, index.name, index.operation_id, state, sample_recall, problem)

    async def lock(self, connection: Connection) -> VectorIndex:
        """Let nobody else change the catalogue in this transaction; returns the active index. Raises NotFound."""
        await self._store.lock(connection)
        active = await self._store.active(connection)
        if active is None:
            raise NotFound("There is no search index yet.")
        return active

    async def previous(self) -> VectorIndex | None:
        """Return the index that answered searches before, if it is kept."""
        async with self._database.transaction() as connection:
            return await self._store.previous(connection)

    async def switch(self, connection: Connection, active: VectorIndex, to: VectorIndex) -> VectorIndex:
        """Let `to` answer searches and keep `active` for a way back. Raises IllegalState."""
        if to.state not in SWITCHABLE or to.namespace:
            whole = f"holds only the namespace {to.namespace}" if to.namespace else f"is {to.state}"
            raise IllegalState(
                f"This index {whole}; only a ready or a retired one can answer searches.",
                state=to.state,
                allowed=", ".join(SWITCHABLE),
            )
        await self._store.move(connection, active.name, IndexState.RETIRED)
        return await self._store.move(connection, to.name, IndexState.ACTIVE)

    async def drop(self, connection: Connection, index: VectorIndex) -> None:
        """Forget an index. Raises IllegalState for the one that answers searches."""
        if index.state is IndexState.ACTIVE:
            raise IllegalState("The index that answers searches cannot be dropped.", state=index.state)
        await self._store.move(connection, index.name, IndexState.DROPPED)

    async def retired_for_seconds(self, name: str) -> float | None:
        """Return how long ago an index stopped answering searches; None when it never did."""
        async with self._database.transaction() as connection:
            return await self._store.retired_for_seconds(connection, name)
