"""A deployment gives its servers a login that may not migrate: they serve with it, start again, and say what they miss."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bacmr.client import BacmrClient
from bacmr.v1 import ingestion_pb2
from server.database import migrate
from server.database.embedded import EmbeddedPostgres
from tests.cluster import address, cluster_with_roles
from tests.e2e.conftest import OPERATOR, Server, command, settings, start
from tests.e2e.test_main_job import FRENCH, SAMPLES, ingest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")]


@pytest.fixture
def cluster() -> Iterator[EmbeddedPostgres]:
    with cluster_with_roles() as server:
        yield server


def run(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = settings(folder, **more)
    return subprocess.run(command(*words), env=environment, capture_output=True, text=True, timeout=120, cwd=folder)


async def learned(server: Server) -> ingestion_pb2.Job:
    async with BacmrClient(server.target) as operator:
        await operator.sign_in(OPERATOR, server.password)
        return await ingest(operator, SAMPLES / "physique_newton.pdf")


async def asked(server: Server) -> list[str]:
    async with BacmrClient(server.target) as operator:
        await operator.sign_in(OPERATOR, server.password)
        return [event.WhichOneof("event") async for event in operator.ask(FRENCH)]


async def test_servers_serve_and_start_again_with_a_login_that_may_not_migrate(
    cluster: EmbeddedPostgres, folder: Path
) -> None:
    url, owner = address(cluster, "server"), address(cluster, "migrator")
    assert f"at {migrate.head()}" in run(folder, "migrate", BACMR_DATABASE_URL=owner).stderr
    first = await asyncio.to_thread(start, folder, BACMR_DATABASE_URL=url)
    try:
        assert (await learned(first)).state == ingestion_pb2.JOB_STATE_READY
        assert (await asked(first))[-1] == "completed"
        doctor = run(folder, "doctor", BACMR_DATABASE_URL=url, BACMR_HTTP_LISTEN=first.http)
        assert f"at {migrate.head()}, the newest" in doctor.stdout
    finally:
        assert await asyncio.to_thread(first.stop) == 0
    again = await asyncio.to_thread(
        start, folder, BACMR_DATABASE_URL=url, BACMR_DATABASE_OWNER_URL=owner, password=first.password
    )
    try:
        assert (await asked(again))[-1] == "completed"
    finally:
        assert await asyncio.to_thread(again.stop) == 0
    assert run(folder, "reconcile", BACMR_DATABASE_URL=url).returncode == 0
    move_to_a_new_cluster(folder, BACMR_DATABASE_URL=url, BACMR_DATABASE_OWNER_URL=owner)


def move_to_a_new_cluster(folder: Path, **logins: str) -> None:
    """Export with the owner's login and import with that of another cluster."""
    exported, data = str(folder / "export"), str(folder / "new")
    assert run(folder, "export", exported, "--with-files", **logins).returncode == 0
    with cluster_with_roles() as new:
        there = {"BACMR_DATABASE_URL": address(new, "server"), "BACMR_DATABASE_OWNER_URL": address(new, "migrator")}
        assert run(folder, "migrate", BACMR_DATA_DIR=data, **there).returncode == 0
        imported = run(folder, "import", exported, BACMR_DATA_DIR=data, **there)
        assert imported.returncode == 0, imported.stderr + imported.stdout


def test_a_login_that_may_not_migrate_is_told_who_may(cluster: EmbeddedPostgres, folder: Path) -> None:
    url, owner = address(cluster, "server"), address(cluster, "migrator")
    empty = run(folder, "serve", BACMR_DATABASE_URL=url)
    run(folder, "migrate", "0018_answer_end", BACMR_DATABASE_URL=owner)
    older = run(folder, "serve", BACMR_DATABASE_URL=url)
    for refused in (empty, older, run(folder, "migrate", BACMR_DATABASE_URL=url)):
        assert refused.returncode == 2
        assert "`bacmr migrate` with BACMR_DATABASE_OWNER_URL" in " ".join(refused.stderr.split())
        assert "Traceback" not in refused.stderr


async def test_the_release_before_serves_on_the_schema_of_the_next(cluster: EmbeddedPostgres, folder: Path) -> None:
    owner = address(cluster, "migrator")
    run(folder, "migrate", BACMR_DATABASE_URL=owner)
    with psycopg.connect(cluster.connection.owner_url(), autocommit=True) as admin:
        admin.execute("UPDATE bacmr.alembic_version SET version_num = 'of_the_next_release'")
    server = await asyncio.to_thread(
        start, folder, BACMR_DATABASE_URL=address(cluster, "server"), BACMR_DATABASE_OWNER_URL=owner
    )
    try:
        assert (await learned(server)).state == ingestion_pb2.JOB_STATE_READY
        assert (await asked(server))[-1] == "completed"
    finally:
        assert await asyncio.to_thread(server.stop) == 0
    assert "of_the_next_release" in run(folder, "migrate", BACMR_DATABASE_URL=owner).stderr
    assert "newer than this release" in run(folder, "doctor", BACMR_DATABASE_URL=owner).stdout
