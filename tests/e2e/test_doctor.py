"""`bacmr doctor` says in words what is wrong with a deployment, and changes nothing."""

import subprocess
from pathlib import Path

from psycopg import connect

from bacmr.client import BacmrClient
from server.database.embedded import EmbeddedPostgres
from tests.e2e.conftest import OPERATOR, Server, command, free_port, settings


def doctor(folder: Path, **more: str) -> tuple[int, dict[str, str]]:
    """Run it and return its exit code and its lines by their part."""
    ended = subprocess.run(
        command("doctor"), env=settings(folder, **more), capture_output=True, text=True, timeout=120, cwd=folder
    )
    assert ended.stdout, ended.stderr
    return ended.returncode, {line[2:17].strip(): line for line in ended.stdout.splitlines()}


def test_nothing_is_wrong_with_a_running_server(server: Server) -> None:
    code, said = doctor(server.folder, BACMR_HTTP_LISTEN=server.http)
    assert code == 0
    assert {said[part][0] for part in ("PostgreSQL", "schema", "money", "jobs", "Milvus", "files", "server")} == {"✓"}


async def test_files_that_are_gone_are_told(server: Server) -> None:
    lesson = server.folder / "lesson.txt"
    lesson.write_text("La masse est une grandeur.")
    async with BacmrClient(server.target) as operator:
        await operator.sign_in(OPERATOR, server.password)
        await operator.upload(lesson, "text/plain")
    assert doctor(server.folder)[1]["files"].startswith("✓")
    for file in (server.folder / "data" / "blobs" / "files").iterdir():
        file.unlink()
    code, said = doctor(server.folder)
    assert code == 1
    assert "1 of the newest 1 are gone" in said["files"]


def test_a_key_that_others_may_read_is_wrong(server: Server) -> None:
    key = next((server.folder / "data" / "keys").glob("*.pem"))
    key.chmod(0o644)
    try:
        code, said = doctor(server.folder)
    finally:
        key.chmod(0o600)
    assert code == 1
    assert key.name in said["secrets"]


def test_endpoints_that_do_not_answer_are_named(folder: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    code, said = doctor(
        folder,
        BACMR_MODEL_PROVIDERS=f'[{{"name": "gone", "base_url": "http://{nowhere}/v1", "model": "m"}}]',
        BACMR_REDIS_URL=f"redis://{nowhere}",
        BACMR_DATABASE_URL=f"postgresql://bacmr@{nowhere}/bacmr",
    )
    assert code == 1
    assert said["model gone"].startswith("✗")
    assert said["Redis"].startswith("!")
    assert said["PostgreSQL"].startswith("✗")
    assert not (folder / "data").exists()


def test_a_database_without_our_schema_is_told_to_migrate(folder: Path, postgres: EmbeddedPostgres) -> None:
    with connect(postgres.connection.owner_url("postgres"), autocommit=True) as admin:
        admin.execute("CREATE DATABASE unmigrated")
        try:
            code, said = doctor(folder, BACMR_DATABASE_URL=postgres.connection.url("unmigrated"))
        finally:
            admin.execute("DROP DATABASE unmigrated WITH (FORCE)")
    assert code == 1
    assert "run `bacmr migrate`" in said["schema"]


def test_a_misspelt_setting_is_told_with_the_one_that_is_meant(folder: Path) -> None:
    code, said = doctor(folder, BACMR_DATABSE_URL="postgresql://db/bacmr")
    assert code == 1
    assert "BACMR_DATABASE_URL" in said["settings"]
