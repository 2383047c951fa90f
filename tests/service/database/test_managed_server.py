"""Promises on a managed PostgreSQL, where nobody of ours is superuser."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from server import caller
from server.database import migrate
from server.database.embedded import EmbeddedPostgres
from server.database.pool import Database


@pytest.fixture
def managed() -> Iterator[EmbeddedPostgres]:
    """A new server with a migrator (may make roles, owns the database `app`) and a plain login for the server."""
    with tempfile.TemporaryDirectory(prefix="bacmr-test-") as folder:
        os.chmod(folder, 0o711)
        server = EmbeddedPostgres(Path(folder) / "postgres", durable=False).start()
        try:
            with psycopg.connect(server.connection.owner_url("postgres"), autocommit=True) as admin:
                admin.execute("CREATE ROLE migrator LOGIN CREATEROLE PASSWORD 'migrator'")
                admin.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
                admin.execute("CREATE DATABASE app OWNER migrator")
            yield server
        finally:
            server.stop()


def address(server: EmbeddedPostgres, login: str) -> str:
    return f"postgresql://{login}:{login}@/app?host={server.connection.host}"


async def test_a_migrator_without_superuser_rights_is_enough(managed: EmbeddedPostgres) -> None:
    migrate.upgrade(address(managed, "migrator"), app_login="plain")
    database = Database(address(managed, "plain"))
    with caller.acting_as(caller.system()):
        async with database.transaction() as connection:
            who = (await connection.execute(text("SELECT current_user::text, count(*) FROM document"))).one()
    await database.close()
    assert tuple(who) == ("bacmr_app", 0)


async def test_one_login_may_migrate_and_serve(managed: EmbeddedPostgres) -> None:
    migrate.upgrade(address(managed, "migrator"), app_login="migrator")
    database = Database(address(managed, "migrator"))
    await database.open()
    healthy = await database.healthy()
    await database.close()
    assert healthy


def test_migrating_again_after_an_upgrade_works_without_superuser_rights(managed: EmbeddedPostgres) -> None:
    migrate.upgrade(address(managed, "migrator"), "0001_foundation", app_login="plain")
    migrate.upgrade(address(managed, "migrator"), app_login="plain")
    assert migrate.current(address(managed, "migrator")) == migrate.head()
