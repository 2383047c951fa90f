"""Promises of the embedded PostgreSQL's launcher, with real processes."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from server.database import migrate, programs
from server.database.embedded import (
    SERVER,
    AlreadyServed,
    EmbeddedError,
    EmbeddedPostgres,
    attach_or_start,
)

PROJECT = Path(__file__).parents[3]
WAIT_SECONDS = 20.0
SUPERVISOR = """
import os, pwd, sys
from pathlib import Path
from server.database.embedded import EmbeddedPostgres

folder, speed, user = sys.argv[1:]
if user:
    # After the imports, since the interpreter may live where that user cannot read.
    os.setgroups([])
    os.setgid(pwd.getpwnam(user).pw_gid)
    os.setuid(pwd.getpwnam(user).pw_uid)
server = EmbeddedPostgres(Path(folder), durable=speed == "durable").start()
print(server.pid, flush=True)
sys.stdin.read()
server.stop()
"""
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="bacmr-test-"))
    made.chmod(0o711)
    yield made / "postgres"
    shutil.rmtree(made)


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    started = EmbeddedPostgres(folder, durable=False).start()
    yield started
    started.stop()


@contextlib.contextmanager
def supervised(folder: Path, speed: str = "fast", user: str = "") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the launcher in a process of its own; yields that process and the number of its postgres."""
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(folder), speed, user],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with supervisor:
        assert supervisor.stdout
        yield supervisor, int(supervisor.stdout.readline())


def until(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < ends_at, "it did not happen in time"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def answers(server: EmbeddedPostgres) -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(server.connection.url()):
        return True
    return False


def test_killing_the_parent_stops_postgres_cleanly(folder: Path) -> None:
    with supervised(folder) as (supervisor, pid):
        supervisor.kill()
    until(lambda: gone(pid))
    assert "database system is shut down" in (folder / "postgres.log").read_text()


def test_a_second_server_on_the_same_folder_is_refused_in_words(server: EmbeddedPostgres) -> None:
    with pytest.raises(AlreadyServed, match=r"Another server runs on .*BACMR_DATA_DIR"):
        EmbeddedPostgres(server.folder).start()


def test_a_command_beside_a_running_server_attaches_and_leaves_it_running(server: EmbeddedPostgres) -> None:
    beside = attach_or_start(server.folder)
    beside.stop()
    assert beside.connection == server.connection
    assert answers(server)


def test_a_command_without_a_running_server_starts_one(folder: Path) -> None:
    alone = attach_or_start(folder)
    assert answers(alone)
    alone.stop()
    assert not answers(alone)


def test_a_recycled_process_number_is_left_alone(server: EmbeddedPostgres) -> None:
    pid_file = server.folder / "data" / "postmaster.pid"
    content = pid_file.read_text().splitlines()
    server.stop()
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        pid_file.write_text("\n".join([str(bystander.pid), *content[1:]]))
        assert answers(server.start())
        server.stop()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_an_orphan_of_ours_is_stopped_before_the_start(server: EmbeddedPostgres) -> None:
    command = Path(f"/proc/{server.pid}/cmdline").read_bytes().split(b"\0")[:-1]
    user = programs.account()
    server.stop()
    switch = {"user": user.uid, "group": user.gid, "extra_groups": []} if user.switch else {}
    orphan = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=programs.PLAIN_ENVIRONMENT, cwd="/", **switch)
    until(lambda: answers(server))
    server.start()
    assert orphan.wait(WAIT_SECONDS) == 0
    assert answers(server)


def test_rows_survive_a_kill_of_both_processes(folder: Path) -> None:
    with supervised(folder, speed="durable") as (supervisor, pid):
        beside = EmbeddedPostgres(folder)
        until(beside.attach)
        with psycopg.connect(beside.connection.owner_url()) as session:
            session.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        supervisor.kill()
        os.kill(pid, signal.SIGKILL)
    again = EmbeddedPostgres(folder).start()
    try:
        with psycopg.connect(again.connection.owner_url()) as session:
            assert session.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
    finally:
        again.stop()


async def test_a_postgres_that_dies_is_started_again(server: EmbeddedPostgres) -> None:
    watching = asyncio.create_task(server.supervise())
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.to_thread(until, lambda: answers(server))
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching


@only_root
def test_an_ordinary_user_runs_it_as_themselves(folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    folder.mkdir()
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    with supervised(folder, user="nobody") as (supervisor, pid):
        assert Path(f"/proc/{pid}").stat().st_uid == nobody.pw_uid
        supervisor.communicate()
    assert supervisor.returncode == 0


@only_root
def test_root_serves_a_folder_that_an_ordinary_user_made(folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    folder.mkdir()
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    with supervised(folder, user="nobody") as (supervisor, _):
        supervisor.communicate()
    server = EmbeddedPostgres(folder, durable=False).start()
    assert Path(f"/proc/{server.pid}").stat().st_uid == nobody.pw_uid
    server.stop()


@only_root
def test_a_folder_that_the_database_user_cannot_reach_is_refused_in_words(folder: Path) -> None:
    folder.parent.chmod(0o700)
    with pytest.raises(EmbeddedError, match=r"cannot reach .*BACMR_DATA_DIR"):
        EmbeddedPostgres(folder).start()


@only_root
def test_programs_that_the_database_user_cannot_reach_are_copied(folder: Path) -> None:
    private = folder.parent / "private"
    private.mkdir(mode=0o700)
    wheel = next(programs.installed()).parents[1]
    for name in (wheel.name, f"{wheel.name}.libs"):
        (private / name).symlink_to(wheel.with_name(name))
    unreachable = private / wheel.name / "pginstall18" / "bin"
    found = programs.find(programs.account(), folder.parent / "copies", [unreachable])
    assert found.folder.is_relative_to(folder.parent / "copies")


def test_a_folder_that_cannot_be_made_is_refused_in_words(folder: Path) -> None:
    folder.write_text("not a folder")
    with pytest.raises(EmbeddedError, match="BACMR_DATA_DIR"):
        EmbeddedPostgres(folder / "postgres").start()


def test_a_deep_folder_gets_a_short_socket_path(folder: Path) -> None:
    server = EmbeddedPostgres(folder / ("deep" * 30), durable=False).start()
    host = Path(server.connection.host)
    try:
        assert answers(server)
        assert len(str(host)) < 60
    finally:
        server.stop()
        shutil.rmtree(host)


def test_passwords_are_for_us_only(server: EmbeddedPostgres) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in server.folder.glob("*.json")}
    assert modes == {"credentials.json": 0o600, "connection.json": 0o600}


def test_lost_passwords_are_named_instead_of_made_anew(server: EmbeddedPostgres) -> None:
    server.stop()
    (server.folder / "credentials.json").unlink()
    with pytest.raises(EmbeddedError, match=r"credentials\.json is missing"):
        server.start()


def test_an_interrupted_first_start_is_begun_again(folder: Path) -> None:
    (folder / "data.unfinished").mkdir(parents=True, mode=0o711)
    (folder / "data.unfinished" / "half").write_text("")
    server = EmbeddedPostgres(folder, durable=False).start()
    assert answers(server)
    server.stop()


def test_a_thread_that_may_end_early_cannot_start_it(folder: Path) -> None:
    failures = []

    def start() -> None:
        try:
            EmbeddedPostgres(folder).start()
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert len(failures) == 1


@pytest.mark.parametrize("major", sorted({int(path.parent.name) for path in Path("/usr/lib/postgresql").glob("*/bin")}))
def test_the_systems_postgresql_serves_and_takes_all_migrations(folder: Path, major: int) -> None:
    server = EmbeddedPostgres(folder, durable=False, major=major).start()
    try:
        migrate.upgrade(server.connection.owner_url(), app_login=SERVER)
        with psycopg.connect(server.connection.url(), options="-c role=bacmr_app") as session:
            assert session.info.server_version // 10_000 == major
    finally:
        server.stop()


def test_data_of_an_unknown_version_is_refused_in_words(server: EmbeddedPostgres) -> None:
    server.stop()
    (server.folder / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match="No PostgreSQL 9, which made this data folder"):
        server.start()


@only_root
def test_data_that_a_copy_gave_to_root_is_refused_in_words(server: EmbeddedPostgres) -> None:
    server.stop()
    os.chown(server.folder / "data", 0, 0)
    with pytest.raises(EmbeddedError, match="chown -R postgres"):
        server.start()
