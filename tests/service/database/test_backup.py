"""Promises of the copy that is made before a migration."""

import stat
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from server.database.backup import BackupError, back_up
from server.database.embedded import EmbeddedPostgres
from server.database.programs import installed
from tests.conftest import Addresses


@pytest.fixture
def empty(postgres: EmbeddedPostgres) -> Any:
    """Address of an empty database."""
    with psycopg.connect(postgres.connection.owner_url("postgres"), autocommit=True) as admin:
        admin.execute("CREATE DATABASE restored")
        yield postgres.connection.owner_url("restored")
        admin.execute("DROP DATABASE restored WITH (FORCE)")


def restore(dump: Path, url: str) -> None:
    """Restore as the recipes say, with the program of the server's own version."""
    with psycopg.connect(url) as session:
        server = f"(PostgreSQL) {session.info.server_version // 10_000}."
    programs = [folder / "pg_restore" for folder in installed() if (folder / "pg_restore").exists()]
    program = next(program for program in programs if server in said(program, "--version"))
    said(program, "--exit-on-error", "--dbname", url, str(dump))


def said(program: Path, *arguments: str) -> str:
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


def pg_dump(folder: Path, version: str) -> Path:
    """Write a pg_dump that only tells what it was given, as an error; return its folder."""
    folder.mkdir()
    program = folder / "pg_dump"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "pg_dump (PostgreSQL) {version}" && exit\n'
        f'echo "pg_dump: version {version} args $* PGPASSWORD=$PGPASSWORD" >&2\nexit 1\n'
    )
    program.chmod(0o755)
    return folder


def test_a_copy_restores_every_row_and_right(
    addresses: Addresses, empty: str, make_user: Any, owner: psycopg.Connection, tmp_path: Path
) -> None:
    make_user(tokens=70)
    dump = back_up(addresses.owner_url, tmp_path / "copies")
    restore(dump, empty)
    rows = "SELECT user_id, sequence, amount_tokens, hash FROM bacmr.ledger_entry ORDER BY user_id, sequence"
    rights = (
        "SELECT relname, coalesce(relacl, acldefault('r', relowner))::text, relforcerowsecurity FROM pg_class"
        " WHERE relnamespace = 'bacmr'::regnamespace AND relkind = 'r' ORDER BY relname"
    )
    with psycopg.connect(empty) as restored:
        assert restored.execute(rows).fetchall() == owner.execute(rows).fetchall() != []
        assert restored.execute(rights).fetchall() == owner.execute(rights).fetchall()
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600


def test_a_login_bound_by_row_level_security_makes_no_copy_and_leaves_no_file(
    addresses: Addresses, tmp_path: Path
) -> None:
    with pytest.raises(BackupError, match=r"pg_dump could not copy .* BYPASSRLS"):
        back_up(addresses.url, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(addresses: Addresses, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackupError, match="file"):
        back_up(addresses.owner_url, tmp_path / "file")


def test_a_password_is_never_an_argument(
    postgres: EmbeddedPostgres, addresses: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.database.backup.installed", lambda: iter([pg_dump(tmp_path / "bin", "99.0")]))
    monkeypatch.setattr("server.database.backup.shutil.which", lambda _: None)
    password = str(conninfo_to_dict(addresses.owner_url)["password"])
    with pytest.raises(BackupError) as error:
        back_up(addresses.owner_url, tmp_path / "copies")
    arguments, _, environment = str(error.value).partition("PGPASSWORD=")
    assert "--format=custom" in arguments
    assert password not in arguments
    assert environment == password


def test_of_many_programs_the_nearest_to_the_servers_version_that_is_not_older_makes_the_copy(
    addresses: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [pg_dump(tmp_path / version, version) for version in ("99.0", "14.9", "98.1", "98.0")]
    monkeypatch.setattr("server.database.backup.installed", lambda: iter(folders))
    monkeypatch.setattr("server.database.backup.shutil.which", lambda _: None)
    with pytest.raises(BackupError, match=r"version 98\.1 args"):
        back_up(addresses.owner_url, tmp_path / "copies")
