"""Fixtures for every test: a real PostgreSQL per session, a migrated database of its own per module, and users."""

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from server.caller import Caller, Role, Tier
from server.database import migrate
from server.database.embedded import SERVER, EmbeddedPostgres
from server.database.pool import Database
from server.vectors.lite import MilvusLite

TEMPLATE = "bacmr"
_databases = count(1)


@dataclass(frozen=True, slots=True)
class Addresses:
    """One database: the running server's address (acts as bacmr_app) and the superuser's."""

    url: str
    owner_url: str


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of this session (of this worker under xdist), with a migrated template database.

    BACMR_TEST_POSTGRES=15 takes the system's PostgreSQL of that version instead of the bundled one.
    """
    # Not under pytest's own temporary folder: that one is private, and as root the server runs as another user.
    with tempfile.TemporaryDirectory(prefix="bacmr-test-") as folder:
        os.chmod(folder, 0o711)
        major = int(os.environ.get("BACMR_TEST_POSTGRES", "0")) or None
        server = EmbeddedPostgres(Path(folder) / "postgres", durable=False, major=major).start()
        try:
            migrate.upgrade(server.connection.owner_url(TEMPLATE), app_login=SERVER)
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def addresses(postgres: EmbeddedPostgres) -> Iterator[Addresses]:
    """A fresh database, copied from the migrated template, for this module only."""
    name = f"test_{next(_databases)}"
    connection = postgres.connection
    with psycopg.connect(connection.owner_url("postgres"), autocommit=True) as admin:
        identifiers = sql.Identifier(name), sql.Identifier(TEMPLATE)
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*identifiers))
        yield Addresses(connection.url(name), connection.owner_url(name))
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifiers[0]))


@pytest_asyncio.fixture(scope="module")
async def database(addresses: Addresses) -> AsyncIterator[Database]:
    """The running server's view of this module's database."""
    pool = Database(addresses.url, pool_size=8)
    await pool.open()
    yield pool
    await pool.close()


@pytest.fixture(scope="module")
def owner(addresses: Addresses) -> Iterator[psycopg.Connection]:
    """A superuser's connection (autocommit) to this module's database, for looking behind the server's back."""
    with psycopg.connect(addresses.owner_url, autocommit=True, options="-c search_path=bacmr") as connection:
        yield connection


@pytest.fixture(scope="module")
def make_user(owner: psycopg.Connection) -> Callable[..., Caller]:
    """A function that inserts a user with a wallet and returns who that is as a caller."""

    def make(role: str = "student", tier: str = "free", tokens: int = 0) -> Caller:
        user = Caller(user_id=uuid4(), role=Role(role), tier=Tier(tier), request_id=uuid4())
        insert_user(owner, user, tokens)
        return user

    return make


def insert_user(owner: psycopg.Connection, user: Caller, tokens: int) -> None:
    """Insert a user row and, as sign-up does, open the wallet with a welcome grant."""
    owner.execute(
        "INSERT INTO app_user (id, email, display_name, role, tier) VALUES (%s, %s, %s, %s, %s)",
        [user.user_id, f"{user.user_id}@example.org", "Test", user.role.value, user.tier.value],
    )
    owner.execute("SELECT wallet_open(%s, %s, %s, %s)", [user.user_id, tokens, user.request_id, user.request_id])


@pytest_asyncio.fixture(scope="session")
async def milvus_lite() -> AsyncIterator[MilvusLite]:
    """A Milvus Lite child of this session (of this worker under xdist)."""
    with tempfile.TemporaryDirectory(prefix="bacmr-test-") as folder:
        lite = MilvusLite(Path(folder) / "milvus")
        await lite.start()
        yield lite
        await lite.stop()


@pytest.fixture(scope="session")
def milvus_uri(milvus_lite: MilvusLite) -> str:
    """The address of the session's Milvus Lite."""
    return milvus_lite.uri
