"""Recovery's SQL, as the schema's owner: a snapshot of every table, and one transaction that fills an empty system."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import errors, sql

from server.admin.recovery.manifest import Ledger
from server.admin.recovery.tables import EXPORTED, OWN_OF_AN_EMPTY_SYSTEM, REPLACED
from server.database.errors import translated
from server.refusal import IllegalState

CONNECT_TIMEOUT_SECONDS = 10
NO_OWNER = "This needs a database login that may act as bacmr_owner; set BACMR_DATABASE_OWNER_URL to one."
SESSION = "SET search_path = bacmr, pg_temp; SET timezone = 'UTC'; SET datestyle = 'ISO'; SET bytea_output = 'hex'"
READ_ONLY = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
AS_SYSTEM = "SELECT set_config('app.role', 'service', true)"
MOMENT = "SELECT clock_timestamp()"
REVISION = "SELECT version_num FROM alembic_version"
TOTALS = "SELECT accounts, head FROM wallet_totals()"
COLUMNS = (
    "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
    " AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"
)
KEY = (
    "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)"
    " WHERE indrelid = %s::regclass AND indisprimary ORDER BY array_position(indkey::int2[], attnum)"
)
# A separator and a quote that JSON text cannot hold keep COPY from quoting.
ROWS: LiteralString = (
    "COPY (SELECT row_to_json(t)::text FROM (SELECT {columns} FROM {table} ORDER BY {key}) AS t) TO STDOUT"
    " (FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01')"
)
FILES = (
    "COPY (SELECT row_to_json(t)::text FROM (SELECT blob_key AS key, min(size_bytes) AS size_bytes,"
    " min(sha256) AS sha256 FROM document GROUP BY blob_key ORDER BY blob_key) AS t) TO STDOUT"
    " (FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01')"
)
INSERT: LiteralString = (
    "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values}"
    " FROM unnest(%s::text[]) AS line, json_populate_record(NULL::{table}, line::json) AS restored"
)
# JSON travels as text: as it was written, and JSON's null is not taken for NULL.
READ: Mapping[str, LiteralString] = {"json": "{column}::text AS {column}", "jsonb": "{column}::text AS {column}"}
WRITE: Mapping[str, LiteralString] = {
    "json": "(line::json ->> {name})::json",
    "jsonb": "(line::json ->> {name})::jsonb",
}
SEQUENCES = (
    "SELECT attname, pg_get_serial_sequence(%s, attname) AS sequence FROM pg_attribute WHERE attrelid = %s::regclass"
    " AND attnum > 0 AND NOT attisdropped AND pg_get_serial_sequence(%s, attname) IS NOT NULL"
)
NEXT: LiteralString = "SELECT setval(%s, coalesce(max({column}), 0) + 1, false) FROM {table}"
IS_OWN: Mapping[str, LiteralString] = {
    "app_user": "id = %s AND role = 'admin'",
    "wallet": "user_id = %s",
    "ledger_entry": "user_id = %s AND kind = 'grant'",
}
FOREIGN: LiteralString = "SELECT EXISTS (SELECT FROM {table} WHERE NOT ({own}))"
ANY: LiteralString = "SELECT EXISTS (SELECT FROM {table})"
FREE_LOGIN = "UPDATE app_user SET email = NULL, phone = NULL WHERE id = %s"
REMOVE: Sequence[LiteralString] = (
    "UPDATE operation SET actor_id = NULL WHERE actor_id = %s",
    "UPDATE audit_event SET actor_id = NULL WHERE actor_id = %s",
    "DELETE FROM refresh_token WHERE user_id = %s",
    "DELETE FROM session WHERE user_id = %s",
    "DELETE FROM ledger_entry WHERE user_id = %s",
    "DELETE FROM wallet WHERE user_id = %s",
    "DELETE FROM app_user WHERE id = %s",
)
# Only the index that answers searches is built again.
ONE_INDEX = (
    "UPDATE vector_index SET state = 'dropped', operation_id = NULL WHERE state <> 'active'",
    "DELETE FROM embedding_ref WHERE index_name IN (SELECT name FROM vector_index WHERE state <> 'active')",
)
RECORD = (
    "INSERT INTO audit_event (action, object, before, after, request_id)"
    " VALUES ('data.import', %s, 'null', %s::jsonb, %s)"
)
RECORDED = "SELECT EXISTS (SELECT FROM audit_event WHERE action = 'data.import' AND object = %s AND request_id = %s)"
ENTRIES_SINCE = "SELECT count(*) FROM ledger_entry WHERE created_at > %s"
INDEX = (
    "SELECT index_name, model, dimensions FROM embedding_ref GROUP BY index_name, model, dimensions"
    " ORDER BY index_name IN (SELECT name FROM vector_index WHERE state = 'active') DESC, count(*) DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class RestoredIndex:
    """The index that the library's vectors belong to."""

    name: str
    model: str
    dimensions: int


class Snapshot:
    """Everything as it was at `taken_at`, however long the reading takes."""

    def __init__(self, connection: psycopg.AsyncConnection, taken_at: datetime, revision: str, ledger: Ledger) -> None:
        self._connection = connection
        self.taken_at = taken_at
        self.revision = revision
        self.ledger = ledger

    async def rows(self, table: str) -> AsyncIterator[bytes]:
        """Yield the rows of a table in the order of its key, each a line of JSON."""
        columns = await _columns(self._connection, table)
        key = [name for (name,) in await _all(self._connection, KEY, [table])]
        statement = sql.SQL(ROWS).format(
            columns=_list(_column(READ.get(kind, "{column}"), name) for name, kind in columns),
            table=sql.Identifier(table),
            key=_list(map(sql.Identifier, key or [name for name, _ in columns])),
        )
        async for line in self._copied(statement):
            yield line

    async def files(self) -> AsyncIterator[bytes]:
        """Yield key, size and hash of every uploaded file, each a line of JSON."""
        async for line in self._copied(sql.SQL(FILES)):
            yield line

    async def _copied(self, statement: sql.SQL | sql.Composed) -> AsyncIterator[bytes]:
        async with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            async for line in copy:
                yield bytes(line)


@asynccontextmanager
async def snapshot(owner_url: str) -> AsyncIterator[Snapshot]:
    """Lend a consistent view of the whole database. Raises IllegalState when the login may not act as the owner."""
    async with _owner(owner_url) as connection:
        await connection.execute(READ_ONLY)
        await connection.execute(AS_SYSTEM)
        taken_at: datetime = (await _row(connection, MOMENT))[0]
        yield Snapshot(connection, taken_at, (await _row(connection, REVISION))[0], await _ledger(connection))
        await connection.rollback()


class Restoration:
    """One transaction that fills an empty system."""

    def __init__(self, connection: psycopg.AsyncConnection, administrator: UUID | None) -> None:
        self._connection = connection
        self._administrator = administrator

    async def insert(self, table: str, lines: Sequence[bytes]) -> None:
        """Insert rows, each a line of JSON; generated columns come out of the others."""
        columns = await _columns(self._connection, table)
        statement = sql.SQL(INSERT).format(
            table=sql.Identifier(table),
            columns=_list(sql.Identifier(name) for name, _ in columns),
            values=_list(_column(WRITE.get(kind, "restored.{column}"), name) for name, kind in columns),
        )
        await self._connection.execute(statement, [[line.decode() for line in lines]])

    async def continue_numbers(self, table: str) -> None:
        """Let the sequences of a table go on after its highest number."""
        for column, sequence in await _all(self._connection, SEQUENCES, [table, table, table]):
            statement = sql.SQL(NEXT).format(column=sql.Identifier(column), table=sql.Identifier(table))
            await self._connection.execute(statement, [sequence])

    async def finish(self, export_id: UUID, request_id: UUID, story: Mapping[str, Any]) -> Ledger:
        """Let what was restored take the place of the empty system's own, note it, and return the books as they are."""
        for statement in REMOVE if self._administrator else ():
            await self._connection.execute(statement, [self._administrator])
        for statement in ONE_INDEX:
            await self._connection.execute(statement)
        await _set_triggers(self._connection, sql.SQL("ENABLE"))
        await self._connection.execute(RECORD, [f"export/{export_id}", json.dumps(story), request_id])
        return await _ledger(self._connection)


@asynccontextmanager
async def restoration(owner_url: str) -> AsyncIterator[Restoration]:
    """Lend the transaction; it commits at the end, and any exception leaves the system as it was.

    Raises IllegalState when the system holds more than its bootstrap administrator, and when the login may not act as
    the owner.
    """
    async with _owner(owner_url) as connection, connection.transaction():
        await connection.execute(AS_SYSTEM)
        # Rows come as they were, with what triggers made of them. It locks the tables too: nobody signs up meanwhile.
        await _set_triggers(connection, sql.SQL("DISABLE"))
        administrator = await _only_administrator(connection)
        if administrator is not None:
            await connection.execute(FREE_LOGIN, [administrator])
        for table in REPLACED:
            await connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        yield Restoration(connection, administrator)


async def require_empty(owner_url: str) -> None:
    """Refuse (IllegalState) a system that holds more than its bootstrap administrator."""
    async with _owner(owner_url) as connection, connection.transaction():
        await _only_administrator(connection)


async def was_imported(owner_url: str, export_id: UUID, request_id: UUID) -> bool:
    """Say whether this request imported this export before."""
    async with _owner(owner_url) as connection:
        return bool((await _row(connection, RECORDED, [f"export/{export_id}", request_id]))[0])


async def revision(owner_url: str) -> str:
    """Return the schema's revision."""
    async with _owner(owner_url) as connection:
        return str((await _row(connection, REVISION))[0])


async def entries_since(owner_url: str, moment: datetime) -> int:
    """Count the ledger entries that were written after a moment."""
    async with _owner(owner_url) as connection:
        return int((await _row(connection, ENTRIES_SINCE, [moment]))[0])


async def restored_index(owner_url: str) -> RestoredIndex | None:
    """Return the index that the library's vectors belong to, None for an empty library."""
    async with _owner(owner_url) as connection, connection.cursor() as cursor:
        await cursor.execute(INDEX)
        found = await cursor.fetchone()
        return RestoredIndex(*found) if found else None


async def _set_triggers(connection: psycopg.AsyncConnection, how: sql.SQL) -> None:
    for table in EXPORTED:
        await connection.execute(sql.SQL("ALTER TABLE {} {} TRIGGER USER").format(sql.Identifier(table), how))


async def _only_administrator(connection: psycopg.AsyncConnection) -> UUID | None:
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT id FROM app_user ORDER BY role = 'admin' DESC LIMIT 1")
        found = await cursor.fetchone()
    administrator: UUID | None = found[0] if found else None
    for table in EXPORTED:
        if table in OWN_OF_AN_EMPTY_SYSTEM:
            continue
        own = IS_OWN.get(table)
        statement = (
            sql.SQL(FOREIGN).format(table=sql.Identifier(table), own=sql.SQL(own))
            if own and administrator
            else sql.SQL(ANY).format(table=sql.Identifier(table))
        )
        if (await _row(connection, statement, [administrator] if own and administrator else []))[0]:
            raise IllegalState(
                "This system is not empty; import into a new one that holds nothing but its bootstrap administrator.",
                table=table,
            )
    return administrator


@asynccontextmanager
async def _owner(owner_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """Lend an autocommit connection that acts as the owner of the schema."""
    with translated():
        async with await psycopg.AsyncConnection.connect(
            owner_url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS, application_name="bacmr-recovery"
        ) as connection:
            try:
                await connection.execute("SET ROLE bacmr_owner")
            except errors.InsufficientPrivilege:
                raise IllegalState(NO_OWNER, setting="BACMR_DATABASE_OWNER_URL") from None
            await connection.execute(SESSION)
            yield connection


async def _ledger(connection: psycopg.AsyncConnection) -> Ledger:
    accounts, head = await _row(connection, TOTALS)
    return Ledger(head, accounts)


async def _row(
    connection: psycopg.AsyncConnection, statement: LiteralString | sql.Composed, values: Sequence[object] = ()
) -> tuple[Any, ...]:
    found = await (await connection.execute(statement, values)).fetchone()
    if found is None:
        raise RuntimeError("a statement that always finds a row found none")
    return found


async def _all(
    connection: psycopg.AsyncConnection, statement: LiteralString, values: Sequence[object]
) -> list[tuple[Any, ...]]:
    return await (await connection.execute(statement, values)).fetchall()


async def _columns(connection: psycopg.AsyncConnection, table: str) -> list[tuple[str, str]]:
    """Return name and type of each column that is stored as it is given."""
    return [(name, kind) for name, kind in await _all(connection, COLUMNS, [table])]


def _column(form: LiteralString, name: str) -> sql.Composed:
    return sql.SQL(form).format(column=sql.Identifier(name), name=sql.Literal(name))


def _list(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)
