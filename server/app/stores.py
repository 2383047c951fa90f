"""The stores a server stands on: embedded ones started here, real ones by their addresses."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from server.app.startup import cancelled, clearly, data_folder
from server.blobs.objects import ObjectBlobs, open_blobs
from server.blobs.tickets import Tickets, secret_from
from server.config import Settings
from server.database import migrate
from server.database.embedded import SERVER, EmbeddedPostgres, attach_or_start
from server.database.pool import Database
from server.models.breakers import Breakers
from server.telemetry import logs, metrics
from server.vectors.hot import HotVectors
from server.vectors.lite import MilvusLite
from server.vectors.lite_rows import LiteRows
from server.vectors.milvus import MilvusStore
from server.vectors.port import VectorStore


@dataclass(frozen=True, slots=True)
class Stores:
    """What the rooms keep things in. `secret` (32 bytes) is this installation's own, `alone` says that no other
    process can be using these stores, because the database was started by this one."""

    database: Database
    database_url: str
    vectors: VectorStore
    blobs: ObjectBlobs
    tickets: Tickets
    secret: bytes
    alone: bool


async def open_stores(settings: Settings, http_url: str, breakers: Breakers, stack: AsyncExitStack) -> Stores:
    """Start or reach every store; `stack` closes them in the reverse order. Raises StartupError."""
    folder = data_folder(settings.data_dir)
    with clearly():
        url = await _postgres(settings, stack)
        database = Database(url, settings.database_pool_size)
        await database.open()
        stack.push_async_callback(database.close)
        vectors = await _milvus(settings, breakers, stack)
        secret = secret_from(folder / "secret")
        tickets = Tickets(secret, http_url)
        blobs = open_blobs(settings.blob_url or (folder / "blobs").absolute().as_uri(), tickets)
    alone = not settings.database_url.get_secret_value()
    return Stores(database, url, vectors, blobs, tickets, secret, alone)


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


def migrate_database(settings: Settings, revision: str) -> str:
    """Bring the schema to `revision` and return where it stands."""
    with clearly():
        if settings.database_url.get_secret_value():
            owner_url = _owner_url(settings)
            migrate.upgrade(owner_url, revision)
            return migrate.current(owner_url) or "base"
        postgres = attach_or_start(data_folder(settings.data_dir) / "postgres")
        try:
            owner_url = postgres.connection.owner_url()
            migrate.upgrade(owner_url, revision, app_login=SERVER)
            return migrate.current(owner_url) or "base"
        finally:
            postgres.stop()


async def _postgres(settings: Settings, stack: AsyncExitStack) -> str:
    """Return the running server's address, its schema brought up to date."""
    url = settings.database_url.get_secret_value()
    if url:
        # A login without the right to migrate is enough where somebody else has done so.
        if await asyncio.to_thread(migrate.current, url) != migrate.head():
            await asyncio.to_thread(migrate.upgrade, _owner_url(settings))
        return url
    postgres = EmbeddedPostgres(settings.data_dir / "postgres").start()
    stack.callback(postgres.stop)
    watching = asyncio.create_task(postgres.supervise(), name="postgres")
    stack.push_async_callback(cancelled, watching)
    await asyncio.to_thread(migrate.upgrade, postgres.connection.owner_url(), app_login=SERVER)
    return postgres.connection.url()


async def _milvus(settings: Settings, breakers: Breakers, stack: AsyncExitStack) -> VectorStore:
    if settings.milvus_uri:
        token = settings.milvus_token.get_secret_value()
        vectors: MilvusStore | HotVectors = MilvusStore(
            settings.milvus_uri, token, observe=_observe, guard=breakers.call
        )
    else:
        lite = MilvusLite(settings.data_dir / "milvus")
        await lite.start()
        stack.push_async_callback(lite.stop)
        rows = LiteRows(lite.uri, lite.counter_file)
        vectors = HotVectors(MilvusStore(lite.uri, observe=_observe, guard=breakers.call), rows, observe=_observe)
    stack.push_async_callback(vectors.close)
    await vectors.open()
    return vectors


def _owner_url(settings: Settings) -> str:
    return settings.database_owner_url.get_secret_value() or settings.database_url.get_secret_value()


def _observe(operation: str, namespace: str, seconds: float, rows: int) -> None:
    if operation == "upsert":
        metrics.record_milvus_upsert(namespace, seconds, rows)
    elif operation == "search":
        metrics.record_milvus_query(namespace, seconds)
