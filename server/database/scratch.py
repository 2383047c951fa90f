"""A database of its own beside the real one, for the length of a rehearsal."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql
from sqlalchemy import make_url

from server.database import migrate
from server.database.errors import translated
from server.refusal import IllegalState

PREFIX = "bacmr_scratch_"
FORGOTTEN_SECONDS = 3_600
NOT_ALLOWED = (
    "This needs a database login that may create databases;"
    " give the one of BACMR_DATABASE_OWNER_URL the right (ALTER ROLE … CREATEDB)."
)
FORGOTTEN = (
    "SELECT datname FROM pg_database d WHERE datname LIKE %s"
    " AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datname = d.datname)"
)


@dataclass(frozen=True, slots=True)
class ScratchDatabase:
    """How a server and its migrator reach it."""

    url: str
    owner_url: str


@asynccontextmanager
async def scratch_database(url: str, owner_url: str) -> AsyncIterator[ScratchDatabase]:
    """Lend a new, migrated database of the cluster that both addresses name; it is dropped whatever happens.

    What a killed rehearsal left is dropped as well. Raises IllegalState when the owner may not create databases.
    """
    name = f"{PREFIX}{int(time.time())}_{secrets.token_hex(4)}"
    made = ScratchDatabase(_moved(url, name), _moved(owner_url, name))
    async with _session(owner_url) as session:
        await _drop_forgotten(session)
        try:
            await session.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name))
            )
        except errors.InsufficientPrivilege:
            raise IllegalState(NOT_ALLOWED, setting="BACMR_DATABASE_OWNER_URL") from None
    try:
        await asyncio.to_thread(migrate.upgrade, made.owner_url)
        yield made
    finally:
        await asyncio.shield(_drop(owner_url, name))


async def _drop(owner_url: str, name: str) -> None:
    async with _session(owner_url) as session:
        await session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


async def _drop_forgotten(session: psycopg.AsyncConnection) -> None:
    for (name,) in await (await session.execute(FORGOTTEN, [PREFIX.replace("_", r"\_") + "%"])).fetchall():
        if int(name.removeprefix(PREFIX).partition("_")[0]) < time.time() - FORGOTTEN_SECONDS:
            await session.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


@asynccontextmanager
async def _session(owner_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    with translated():
        async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True, connect_timeout=10) as session:
            yield session


def _moved(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)
