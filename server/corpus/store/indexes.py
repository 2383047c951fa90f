"""SQL of the catalogue of vector indexes."""

from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.corpus.index import IndexState, VectorIndex

COLUMNS = (
    "name, model, dimensions, analyser_version, state, namespace, operation_id, batch_after, batch_until,"
    " sample_recall, problem, created_at, updated_at, retired_at"
)
# Whoever changes states waits here for the others; readers do not.
LOCK = text("LOCK TABLE vector_index IN SHARE ROW EXCLUSIVE MODE")
INSERT = text(
    "INSERT INTO vector_index (name, model, dimensions, analyser_version, state, namespace, operation_id)"
    " VALUES (:name, :model, :dimensions, :analyser_version, :state, :namespace, :operation_id)"
    f" ON CONFLICT DO NOTHING RETURNING {COLUMNS}"
)
GET = text(f"SELECT {COLUMNS} FROM vector_index WHERE name = :name")
ACTIVE = text(f"SELECT {COLUMNS} FROM vector_index WHERE state = 'active'")
LISTED = text(f"SELECT {COLUMNS} FROM vector_index WHERE state <> 'dropped' ORDER BY created_at DESC, name")
FOLLOWING = text(
    f"SELECT {COLUMNS} FROM vector_index WHERE state IN ('building', 'ready') AND namespace = '' ORDER BY created_at"
)
UNFINISHED = text(
    f"SELECT {COLUMNS} FROM vector_index WHERE state IN ('building', 'ready', 'failed') AND model = :model"
    " AND dimensions = :dimensions AND analyser_version = :analyser_version ORDER BY created_at DESC LIMIT 1"
)
LAST_VERSION = text(
    "SELECT coalesce(max(CAST(substring(name FROM '__v([0-9]+)$') AS integer)), 0) FROM vector_index"
    " WHERE starts_with(name, :prefix)"
)
EMPTY = text("SELECT NOT EXISTS (SELECT FROM chunk)")
PREVIOUS = text(f"SELECT {COLUMNS} FROM vector_index WHERE state = 'retired' ORDER BY retired_at DESC LIMIT 1")
DROPPED = text("SELECT name FROM vector_index WHERE state = 'dropped'")
TAKE = text(
    "UPDATE vector_index SET state = 'building', operation_id = :operation_id, namespace = :namespace, problem = '',"
    f" updated_at = clock_timestamp() WHERE name = :name RETURNING {COLUMNS}"
)
RETIRED_FOR = text(
    "SELECT extract(epoch FROM clock_timestamp() - retired_at)::float8 FROM vector_index WHERE name = :name"
)
BATCH = text(
    "UPDATE vector_index SET batch_after = :after, batch_until = :until, updated_at = clock_timestamp()"
    " WHERE name = :name AND operation_id = :operation_id AND state = 'building' RETURNING true"
)
END = text(
    "UPDATE vector_index SET state = :state, operation_id = NULL, batch_after = '', batch_until = '',"
    " sample_recall = coalesce(:sample_recall, sample_recall), problem = :problem, updated_at = clock_timestamp()"
    f" WHERE name = :name AND operation_id = :operation_id AND state = 'building' RETURNING {COLUMNS}"
)
MOVE = text(
    "UPDATE vector_index SET state = :state, updated_at = clock_timestamp(),"
    " retired_at = CASE :state WHEN 'retired' THEN clock_timestamp() WHEN 'dropped' THEN retired_at END"
    f" WHERE name = :name RETURNING {COLUMNS}"
)


class IndexStore:
    """Reads and writes the table `vector_index`; for background work and operators only."""

    async def lock(self, connection: AsyncConnection) -> None:
        """Let nobody else change the catalogue until the transaction ends."""
        await connection.execute(LOCK)

    async def insert(
        self,
        connection: AsyncConnection,
        *,
        name: str,
        model: str,
        dimensions: int,
        analyser_version: int,
        state: IndexState,
        namespace: str = "",
        operation_id: UUID | None = None,
    ) -> VectorIndex | None:
        """Add an index; None when there is one of this name, or another active one."""
        values = {
            "name": name,
            "model": model,
            "dimensions": dimensions,
            "analyser_version": analyser_version,
            "state": state,
            "namespace": namespace,
            "operation_id": operation_id,
        }
        return _index((await connection.execute(INSERT, values)).mappings().one_or_none())

    async def get(self, connection: AsyncConnection, name: str) -> VectorIndex | None:
        """Return an index."""
        return _index((await connection.execute(GET, {"name": name})).mappings().one_or_none())

    async def active(self, connection: AsyncConnection) -> VectorIndex | None:
        """Return the index that answers searches."""
        return _index((await connection.execute(ACTIVE)).mappings().one_or_none())

    async def previous(self, connection: AsyncConnection) -> VectorIndex | None:
        """Return the index that answered searches before."""
        return _index((await connection.execute(PREVIOUS)).mappings().one_or_none())

    async def listed(self, connection: AsyncConnection) -> list[VectorIndex]:
        """Return all indexes that were not dropped, newest first."""
        return [_made(row) for row in (await connection.execute(LISTED)).mappings()]

    async def following(self, connection: AsyncConnection) -> list[VectorIndex]:
        """Return the indexes of the whole library that are on their way to be searched."""
        return [_made(row) for row in (await connection.execute(FOLLOWING)).mappings()]

    async def unfinished(
        self, connection: AsyncConnection, model: str, dimensions: int, analyser_version: int
    ) -> VectorIndex | None:
        """Return the newest index of a vector space that was never searched."""
        asked = {"model": model, "dimensions": dimensions, "analyser_version": analyser_version}
        return _index((await connection.execute(UNFINISHED, asked)).mappings().one_or_none())

    async def last_version(self, connection: AsyncConnection, prefix: str) -> int:
        """Return the highest number that an index whose name begins like this ever had, 0 if there was none."""
        return int((await connection.execute(LAST_VERSION, {"prefix": prefix})).scalar_one())

    async def library_is_empty(self, connection: AsyncConnection) -> bool:
        """Say whether there is no chunk at all."""
        return bool((await connection.execute(EMPTY)).scalar_one())

    async def dropped(self, connection: AsyncConnection) -> list[str]:
        """Return the names of all dropped indexes."""
        return list((await connection.execute(DROPPED)).scalars())

    async def retired_for_seconds(self, connection: AsyncConnection, name: str) -> float | None:
        """Return how long an index has not been searched; None when it never was."""
        return (await connection.execute(RETIRED_FOR, {"name": name})).scalar_one_or_none()

    async def take(
        self, connection: AsyncConnection, name: str, operation_id: UUID, namespace: str
    ) -> VectorIndex | None:
        """Let an operation fill an index."""
        asked = {"name": name, "operation_id": operation_id, "namespace": namespace}
        return _index((await connection.execute(TAKE, asked)).mappings().one_or_none())

    async def note_batch(
        self, connection: AsyncConnection, name: str, operation_id: UUID, after: str, until: str
    ) -> bool:
        """Note which chunks are about to be written; False when the operation no longer fills the index."""
        asked = {"name": name, "operation_id": operation_id, "after": after, "until": until}
        return bool((await connection.execute(BATCH, asked)).scalar_one_or_none())

    async def end(
        self,
        connection: AsyncConnection,
        name: str,
        operation_id: UUID,
        state: IndexState,
        sample_recall: float | None,
        problem: str,
    ) -> VectorIndex | None:
        """End the filling; None when the operation no longer fills the index."""
        asked = {
            "name": name,
            "operation_id": operation_id,
            "state": state,
            "sample_recall": sample_recall,
            "problem": problem,
        }
        return _index((await connection.execute(END, asked)).mappings().one_or_none())

    async def move(self, connection: AsyncConnection, name: str, state: IndexState) -> VectorIndex:
        """Set the state of an index."""
        return _made((await connection.execute(MOVE, {"name": name, "state": state})).mappings().one())


def _index(row: RowMapping | None) -> VectorIndex | None:
    return None if row is None else _made(row)


def _made(row: RowMapping) -> VectorIndex:
    return VectorIndex(**{**row, "state": IndexState(row["state"])})
