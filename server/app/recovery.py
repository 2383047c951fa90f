"""Recovery put together: for the running server, and for commands beside it or without it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

from server.admin.recovery.drill import Drill, EmbedderOf, Original
from server.admin.recovery.export import Exporter
from server.admin.recovery.import_ import Importer, Target
from server.admin.recovery.place import Places
from server.admin.recovery.service import Drills, Exports, Imports
from server.app import models
from server.app.startup import clearly, data_folder
from server.app.stores import Stores, blob_url, embedded_are_served, open_vectors, postgres_addresses
from server.blobs.objects import open_blobs
from server.blobs.tickets import Tickets, secret_from
from server.config import Settings
from server.database.pool import Database
from server.models.embedders import Embedders
from server.telemetry import logs

COMMAND_CONNECTIONS = 2


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a running server recovers by. `exports_by_itself`: it knows the login that the weekly export takes."""

    exports: Exports
    imports: Imports
    drills: Drills
    exports_by_itself: bool


def furnish_recovery(settings: Settings, stores: Stores, embedder_of: EmbedderOf) -> Recovery:
    """Return the running server's recovery."""
    original = Original(stores.database_url, stores.owner_url, stores.blobs)
    places = Places(stores.blobs, blob_url(settings), stores.tickets)
    target = Target(stores.owner_url, stores.database, stores.blobs, stores.vectors)
    owns = not settings.database_url.get_secret_value() or bool(settings.database_owner_url.get_secret_value())
    return Recovery(
        _exports(settings, original, places),
        _imports(settings, target, places),
        _drills(settings, original, places, embedder_of),
        owns,
    )


@asynccontextmanager
async def attached_exports(settings: Settings) -> AsyncIterator[Exports]:
    """Lend exports to one command; PostgreSQL and the blobs are enough. Raises StartupError."""
    async with AsyncExitStack() as stack:
        attached = await _attach(settings, stack)
        yield _exports(settings, attached.original, attached.places)


@asynccontextmanager
async def attached_drills(settings: Settings) -> AsyncIterator[Drills]:
    """Lend drills to one command; they bring their own vector store. Raises StartupError."""
    async with AsyncExitStack() as stack:
        attached = await _attach(settings, stack)
        chosen = models.choose(settings, models.make_breakers(settings))
        embedders = Embedders(chosen.embedder, chosen.remote)
        yield _drills(settings, attached.original, attached.places, embedders.of)


@asynccontextmanager
async def attached_imports(settings: Settings) -> AsyncIterator[Imports]:
    """Lend imports to one command; all stores take part. Raises StartupError."""
    async with AsyncExitStack() as stack:
        attached = await _attach(settings, stack)
        original = attached.original
        with clearly():
            database = Database(original.url, COMMAND_CONNECTIONS)
            await database.open()
            stack.push_async_callback(database.close)
            breakers = models.make_breakers(settings)
            vectors = await open_vectors(settings, breakers, stack, attached=attached.served)
        yield _imports(settings, Target(original.owner_url, database, original.blobs, vectors), attached.places)


@dataclass(frozen=True, slots=True)
class _Attached:
    """`served`: another process of ours serves the embedded stores."""

    original: Original
    places: Places
    served: bool


async def _attach(settings: Settings, stack: AsyncExitStack) -> _Attached:
    logs.configure("error", sys.stderr)
    folder = data_folder(settings.data_dir)
    with clearly():
        tickets = Tickets(secret_from(folder / "secret"), "")
        blobs = open_blobs(blob_url(settings), tickets)
        served = await asyncio.to_thread(embedded_are_served, settings)
        url, owner_url = await postgres_addresses(settings, stack, attached=served)
    return _Attached(Original(url, owner_url, blobs), Places(blobs, blob_url(settings), tickets), served)


def _exporter(settings: Settings, original: Original) -> Exporter:
    return Exporter(original.owner_url, original.blobs, settings.export_key.get_secret_value(), version("bacmr"))


def _exports(settings: Settings, original: Original, places: Places) -> Exports:
    return Exports(_exporter(settings, original), places)


def _imports(settings: Settings, target: Target, places: Places) -> Imports:
    return Imports(Importer(target), places, settings.export_key.get_secret_value())


def _drills(settings: Settings, original: Original, places: Places, embedder_of: EmbedderOf) -> Drills:
    key = settings.export_key.get_secret_value()
    return Drills(Drill(original, _exporter(settings, original), places, embedder_of, key), places)
