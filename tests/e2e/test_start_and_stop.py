"""How a server starts, refuses to start, and stops."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import psycopg
import pytest

from server.database.embedded import EmbeddedPostgres
from tests.e2e.conftest import alive, children, command, settings, start


def run(folder, *words, **more):
    """Run a command that must end by itself."""
    return subprocess.run(
        command(*words), env=settings(folder, **more), capture_output=True, text=True, timeout=90, cwd=folder
    )


def gone(pids, seconds=30):
    """Wait until none of the processes runs any more."""
    ends = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < ends:
        time.sleep(0.05)
    return alive(pids) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_and_all_its_children(folder, how):
    server = start(folder)
    family = children(server.process.pid)
    code = server.stop(how)
    assert len(family) >= 2
    assert code == 0
    assert gone(family)


def test_killing_the_server_leaves_no_children_and_the_next_start_works(folder):
    server = start(folder)
    family = children(server.process.pid)
    server.process.kill()
    server.process.wait()
    assert gone(family)
    again = start(folder)
    assert again.stop() == 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("BACMR_GRPC_LISTEN", "nowhere"),
        ("BACMR_WELCOME_TOKENS", "-1"),
        ("BACMR_RESERVATION_TTL_SECONDS", "86400"),
        ("BACMR_MODEL_PROVIDERS", '[{"name": "x"}]'),
        ("BACMR_MODEL_PROVIDERS", "[{"),
        ("BACMR_BLOB_URL", "ftp://files"),
        ("BACMR_EMBEDDING_MODEL", "local-2048"),
    ],
)
def test_a_bad_setting_is_named_in_one_line_and_nothing_is_left(folder, setting, value):
    ended = run(folder, "serve", **{setting: value})
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert setting in ended.stderr
    assert value not in ended.stderr or setting == "BACMR_BLOB_URL"
    assert not (folder / "data" / "postgres").exists()


def test_a_bad_setting_starts_nothing(folder):
    run(folder, "serve", BACMR_GRPC_LISTEN="nowhere")
    assert not (folder / "data").exists()


@pytest.mark.parametrize("setting", ["BACMR_GRPC_LISTEN", "BACMR_HTTP_LISTEN"])
def test_a_taken_port_is_named_and_nothing_is_started(folder, setting):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = run(folder, "serve", **{setting: f"127.0.0.1:{taken.getsockname()[1]}"})
    assert ended.returncode == 2
    assert setting in ended.stderr
    assert not (folder / "data").exists()


@pytest.mark.parametrize("setting", ["BACMR_GRPC_LISTEN", "BACMR_HTTP_LISTEN"])
def test_an_address_that_others_reach_without_tls_is_refused_and_nothing_is_started(folder, setting):
    ended = run(folder, "serve", **{setting: "0.0.0.0:0"})
    assert ended.returncode == 2
    assert setting in ended.stderr
    assert not (folder / "data").exists()


def test_a_folder_that_cannot_be_used_is_named(folder):
    (folder / "file").write_text("")
    ended = run(folder, "serve", BACMR_DATA_DIR=str(folder / "file" / "data"))
    assert ended.returncode == 2
    assert "BACMR_DATA_DIR" in ended.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_right_is_named(folder):
    (folder / "data").mkdir(mode=0o500)
    ended = run(folder, "serve")
    assert ended.returncode == 2
    assert "BACMR_DATA_DIR" in ended.stderr


def test_a_second_server_on_the_same_folder_is_refused_and_the_first_goes_on(folder):
    first = start(folder)
    second = run(folder, "serve")
    assert second.returncode == 2
    assert "folder" in second.stderr
    assert first.process.poll() is None
    assert first.stop() == 0


def test_reconcile_runs_beside_a_server_and_without_one(folder):
    server = start(folder)
    beside = run(folder, "reconcile")
    server.stop()
    alone = run(folder, "reconcile")
    assert (beside.returncode, alone.returncode) == (0, 0)
    assert '"ok": true' in beside.stdout
    assert '"ok": true' in alone.stdout


def test_reconcile_tells_what_it_found_by_its_exit_code_its_output_and_a_file(folder):
    assert start(folder).stop() == 0
    postgres = EmbeddedPostgres(folder / "data" / "postgres").start()
    try:
        with psycopg.connect(postgres.connection.owner_url(), options="-c search_path=bacmr") as owner:
            owner.execute(
                "INSERT INTO model_usage (reservation_id, user_id, purpose, used_tokens, owed_tokens)"
                " SELECT gen_random_uuid(), id, 'ask', 5, 5 FROM app_user"
            )
    finally:
        postgres.stop()
    found = run(folder, "reconcile", "--folder", str(folder))
    [file] = folder.glob("wallet_discrepancies_*.json")
    report = json.loads(found.stdout)
    assert found.returncode == 1
    assert report == json.loads(file.read_text())
    assert [check["name"] for check in report["checks"] if not check["ok"]] == ["charges_match_usage"]
    assert re.fullmatch(r"wallet_discrepancies_\d{8}T\d{6}Z\.json", file.name)


def test_a_report_that_cannot_be_written_is_told_in_one_line(folder):
    ended = run(folder, "reconcile", "--folder", str(folder / "nowhere"))
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "nowhere" in ended.stderr
