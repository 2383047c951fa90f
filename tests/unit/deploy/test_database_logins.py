"""The logins of a real PostgreSQL, as roles.sql makes them: enough for the server, and no more."""

import shutil
from collections.abc import Iterator

import psycopg
import pytest

from server.database import migrate
from server.database.embedded import EmbeddedPostgres
from server.database.pool import Database
from server.database.scratch import scratch_database
from tests.cluster import address, cluster_with_roles

pytestmark = pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedPostgres]:
    with cluster_with_roles() as server:
        yield server


async def test_the_migrator_makes_the_schema_and_the_server_works_on_it(cluster: EmbeddedPostgres) -> None:
    migrate.upgrade(address(cluster, "migrator"))
    database = Database(address(cluster, "server"), pool_size=2)
    await database.open()
    healthy = await database.healthy()
    await database.close()
    assert healthy
    assert migrate.current(address(cluster, "migrator")) == migrate.head()


async def test_the_migrator_makes_a_scratch_database_for_the_drill(cluster: EmbeddedPostgres) -> None:
    async with scratch_database(address(cluster, "server"), address(cluster, "migrator")) as scratch:
        database = Database(scratch.url, pool_size=2)
        await database.open()
        healthy = await database.healthy()
        await database.close()
    assert healthy


def test_the_migrator_may_migrate_again(cluster: EmbeddedPostgres) -> None:
    migrate.upgrade(address(cluster, "migrator"))
    migrate.upgrade(address(cluster, "migrator"))


def test_the_server_can_neither_become_the_owner_nor_change_the_schema(cluster: EmbeddedPostgres) -> None:
    migrate.upgrade(address(cluster, "migrator"))
    with psycopg.connect(address(cluster, "server"), autocommit=True) as session:
        for statement in ("SET ROLE bacmr_owner", "CREATE TABLE bacmr.mine (id int)", "DELETE FROM bacmr.ledger_entry"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)
