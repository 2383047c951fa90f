"""The stores a server stands on: embedded ones started here, real ones by their addresses."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from server.app.failure import StartupError
from server.app.startup import clearly, data_folder
from server.blobs.objects import ObjectBlobs, open_blobs
from server.blobs.tickets import Tickets, secret_from
from server.config import Settings
from server.database import migrate
from server.database.backup import back_up
from server.database.cancellation import cancelled
from server.database.embedded import SERVER, EmbeddedPostgres, attach_or_start
from server.database.pool import Database
from server.models.breakers import Breakers
from server.telemetry import logs, metrics, traces
from server.vectors.hot import HotVectors
from server.vectors.lite import MilvusLite, running_uri
from server.vectors.lite_rows import LiteRows
from server.vectors.milvus import MilvusStore
from server.vectors.port import VectorStore

LEAST_CONNECTIONS = 100
SPARE_CONNECTIONS = 30
"""For commands and workers beside the server."""
WORKER_CONNECTIONS = 10
"""Connections of one process's two job queues."""


@dataclass(frozen=True, slots=True)
class Stores:
    """What the rooms keep things in. `secret` (32 bytes) is this installation's own, `alone` says that no other
    process can be using these stores, because the database was started by this one. `owner_url` is the address of the
    schema's owner, as far as the settings name one."""

    database: Database
    database_url: str
    owner_url: str
    vectors: VectorStore
    blobs: ObjectBlobs
    tickets: Tickets
    secret: bytes
    alone: bool


async def open_stores(
    settings: Settings, http_url: str, breakers: Breakers, stack: AsyncExitStack, *, attached: bool = False
) -> Stores:
    """Start or reach every store; `stack` closes them in the reverse order. Raises StartupError.

    `attached`: another process of ours serves the embedded ones; this one only connects to them.
    """
    folder = data_folder(settings.data_dir)
    with clearly():
        secret = secret_from(folder / "secret")
        tickets = Tickets(secret, http_url)
        blobs = open_blobs(blob_url(settings), tickets, breakers.enter)
        url, owner_url = await postgres_addresses(settings, stack, attached=attached)
        database = Database(url, settings.database_pool_size, traces.step)
        await database.open()
        stack.push_async_callback(database.close)
        vectors = await open_vectors(settings, breakers, stack, attached=attached)
    alone = not attached and not settings.database_url.get_secret_value()
    return Stores(database, url, owner_url, vectors, blobs, tickets, secret, alone)


@dataclass(frozen=True, slots=True)
class Migrated:
    """Where the schema stands, and the copy made before; None when there was nothing to copy or nobody asked."""

    revision: str
    backup: Path | None


@asynccontextmanager
async def attached_database(settings: Settings) -> AsyncIterator[Database]:
    """Lend the database for one command, beside a running server or without one; what it logs goes to stderr."""
    logs.configure("warning", sys.stderr)
    with clearly():
        url = settings.database_url.get_secret_value()
        if url:
            database = Database(url, pool_size=2)
            await database.open()
            try:
                yield database
            finally:
                await database.close()
            return
        postgres = attach_or_start(data_folder(settings.data_dir) / "postgres")
    try:
        with clearly():
            if postgres.pid:
                migrate.upgrade(postgres.connection.owner_url(), app_login=SERVER)
            database = Database(postgres.connection.url(), pool_size=2)
            await database.open()
        try:
            yield database
        finally:
            await database.close()
    finally:
        postgres.stop()


def migrate_database(settings: Settings, revision: str, backup_folder: Path | None) -> Migrated:
    """Bring the schema to `revision`, with a copy of the database made first if a folder for it is given."""
    with clearly():
        if settings.database_url.get_secret_value():
            return _migrated(_owner_url(settings), revision, backup_folder)
        postgres = attach_or_start(data_folder(settings.data_dir) / "postgres")
        try:
            return _migrated(postgres.connection.owner_url(), revision, backup_folder, app_login=SERVER)
        finally:
            postgres.stop()


def _migrated(owner_url: str, revision: str, backup_folder: Path | None, app_login: str = "") -> Migrated:
    has_data = migrate.current(owner_url) is not None
    backup = back_up(owner_url, backup_folder) if backup_folder and has_data else None
    migrate.upgrade(owner_url, revision, app_login)
    return Migrated(migrate.current(owner_url) or "base", backup)


def schema_revision(settings: Settings) -> str:
    """Return where the schema of a database that answers stands; empty when it was never migrated."""
    with clearly():
        url = settings.database_url.get_secret_value()
        if not url:
            postgres = EmbeddedPostgres(settings.data_dir / "postgres")
            url = postgres.connection.owner_url() if postgres.attach() else ""
        return (migrate.current(url) if url else None) or ""


async def keep_embedded(settings: Settings, stack: AsyncExitStack) -> None:
    """Start the stores that no setting replaces, for processes that attach to them. Raises StartupError."""
    folder = data_folder(settings.data_dir)
    with clearly():
        await postgres_addresses(settings, stack, attached=False)
        if not settings.milvus_uri:
            await _started_lite(folder, stack)


def embedded_are_served(settings: Settings) -> bool:
    """Say whether another process of ours serves the embedded stores of the data folder."""
    if not settings.database_url.get_secret_value():
        return EmbeddedPostgres(settings.data_dir / "postgres").attach()
    return not settings.milvus_uri and running_uri(settings.data_dir / "milvus") is not None


async def postgres_addresses(settings: Settings, stack: AsyncExitStack, *, attached: bool) -> tuple[str, str]:
    """Return the running server's address and that of the schema's owner, the schema brought up to date."""
    url = settings.database_url.get_secret_value()
    if url:
        owner_url = _owner_url(settings)
        # A login without the right to migrate is enough where somebody else has done so.
        if await asyncio.to_thread(migrate.current, owner_url) != migrate.head():
            await asyncio.to_thread(migrate.upgrade, owner_url)
        return url, owner_url
    postgres = EmbeddedPostgres(settings.data_dir / "postgres", max_connections=_connections(settings))
    if attached:
        if not await asyncio.to_thread(postgres.attach):
            raise StartupError(f"No PostgreSQL of ours answers in {postgres.folder}; start the server first.")
        return postgres.connection.url(), postgres.connection.owner_url()
    postgres.start()
    stack.callback(postgres.stop)
    watching = asyncio.create_task(postgres.supervise(), name="postgres")
    stack.push_async_callback(cancelled, watching)
    await asyncio.to_thread(migrate.upgrade, postgres.connection.owner_url(), app_login=SERVER)
    return postgres.connection.url(), postgres.connection.owner_url()


def _connections(settings: Settings) -> int:
    """Return how many connections our processes may come to need, with one more process while one is replaced."""
    each = settings.database_pool_size + max(2, settings.database_pool_size // 2) + WORKER_CONNECTIONS
    return max(LEAST_CONNECTIONS, (settings.processes + 1) * each + SPARE_CONNECTIONS)


async def open_vectors(settings: Settings, breakers: Breakers, stack: AsyncExitStack, *, attached: bool) -> VectorStore:
    """Start or reach the vector store."""
    if settings.milvus_uri:
        token = settings.milvus_token.get_secret_value()
        vectors: MilvusStore | HotVectors = MilvusStore(
            settings.milvus_uri, token, observe=_observe, guard=breakers.call
        )
    else:
        uri, counter_file = await _lite(settings.data_dir, stack, attached)
        store = MilvusStore(uri, observe=_observe, guard=breakers.call)
        vectors = HotVectors(store, LiteRows(uri, counter_file), observe=_observe)
    stack.push_async_callback(vectors.close)
    await vectors.open()
    return vectors


async def _lite(folder: Path, stack: AsyncExitStack, attached: bool) -> tuple[str, Path]:
    """Return where Milvus Lite answers, and where it counts writes."""
    if not attached:
        lite = await _started_lite(folder, stack)
        return lite.uri, lite.counter_file
    lite = MilvusLite(folder / "milvus")
    uri = running_uri(folder / "milvus")
    if uri is None:
        raise StartupError(f"No Milvus Lite of ours answers in {folder / 'milvus'}; start the server first.")
    return uri, lite.counter_file


async def _started_lite(folder: Path, stack: AsyncExitStack) -> MilvusLite:
    lite = MilvusLite(folder / "milvus")
    await lite.start()
    stack.push_async_callback(lite.stop)
    return lite


def blob_url(settings: Settings) -> str:
    """Return the address of the blob store."""
    return settings.blob_url or (settings.data_dir / "blobs").absolute().as_uri()


def _owner_url(settings: Settings) -> str:
    return settings.database_owner_url.get_secret_value() or settings.database_url.get_secret_value()


def _observe(operation: str, namespace: str, seconds: float, rows: int) -> None:
    if operation == "upsert":
        metrics.record_milvus_upsert(namespace, seconds, rows)
    elif operation == "search":
        metrics.record_milvus_query(namespace, seconds)
