"""Crashes at any point lose no token and charge nothing twice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from server.database.pool import SESSION_OPTIONS

CRASHES = 50
GRANT = 100_000
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def server(addresses):
    """The forking process; its end ends all that it forked and forgot."""
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("crashing_server.py"), addresses.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    yield process
    process.stdin.close()
    process.stdout.close()
    process.wait(10)


def wait_for_no_other_connection(owner):
    """Until PostgreSQL has noticed that the killed process is gone, and ended what it was doing."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + 20
    while owner.execute(others).fetchone()[0]:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_for_a_delivery(owner):
    """Until a hold that is still open has delivered something."""
    delivered = "SELECT EXISTS (SELECT FROM reservation WHERE status = 'held' AND delivered_tokens > 0)"
    deadline = time.monotonic() + 20
    while not owner.execute(delivered).fetchone()[0]:
        assert time.monotonic() < deadline


def read_until_ready(server, seen):
    for line in server.stdout:
        word, *rest = line.split()
        if word == "ready":
            return int(rest[0])
        seen[rest[0]] = int(rest[1])
    raise AssertionError("the server process ended by itself")


def expire_everything(owner):
    owner.execute(
        "UPDATE reservation SET created_at = created_at - interval '1 hour',"
        " expires_at = expires_at - interval '1 hour'"
        " WHERE status = 'held'"
    )
    owner.execute("SELECT wallet_expire(1000, %s)", [uuid4()])


@pytest.mark.slow
def test_fifty_kills_at_random_points_change_no_sum(server, owner, make_user, books):
    chance, receipts = random.Random(20_260_501), {}
    users = [make_user(tokens=GRANT) for _ in range(4)]
    for crash in range(CRASHES):
        print(crash, *(user.user_id for user in users), file=server.stdin, flush=True)
        worker = read_until_ready(server, receipts)
        if crash % 2:
            time.sleep(chance.uniform(0, 0.06))
        else:
            wait_for_a_delivery(owner)
        os.kill(worker, signal.SIGKILL)
        wait_for_no_other_connection(owner)
        expire_everything(owner)
        assert [books.balance(user.user_id)[1] for user in users] == [0, 0, 0, 0]
        charged = owner.execute("SELECT coalesce(sum(charged_tokens), 0) FROM reservation").fetchone()[0]
        assert sum(books.balance(user.user_id)[0] for user in users) + charged == 4 * GRANT
        assert books.problems() == {}
    crashed = "SELECT count(*), count(*) FILTER (WHERE actual_tokens <> delivered_tokens) FROM reservation"
    crashed += " WHERE status = 'expired' AND delivered_tokens > 0"
    after_delivery, charged_otherwise = owner.execute(crashed).fetchone()
    assert after_delivery > 0 == charged_otherwise
    stored = dict(owner.execute("SELECT id::text, charged_tokens FROM reservation WHERE status <> 'held'").fetchall())
    assert receipts
    assert {reservation_id: stored[reservation_id] for reservation_id in receipts} == receipts


STEPS = {
    "reserve": "SELECT wallet_reserve({user}, 50, 'ask', 300, {new}, {new}, {new})",
    "finalize": "SELECT wallet_finalize({held}, 70, {new}, {new}, {new})",
    "release": "SELECT wallet_release({held}, {new}, {new}, {new})",
    "deliver": "SELECT wallet_deliver({held}, 30)",
    "begin an answer": (
        "SELECT answer_begin({new}, {user}, {new}, '', 'Ask', {new}, '', '?', 'fr', {new}, 50, {new}, 30, 3, '[]', 300,"
        " {new})"
    ),
    "expire": "SELECT wallet_expire(10, {new})",
    "redeem": "SELECT wallet_redeem({user}, sha256('a code'), {new}, {new})",
    "top up": "SELECT wallet_top_up({user}, 'bankily', {new}::text, 5, {new}, {new})",
    "adjust": "SELECT wallet_adjust({user}, -5, 'because', {new}, {new})",
}


@pytest.mark.parametrize("end", ["cancelled", "killed"])
@pytest.mark.parametrize("step", STEPS)
def test_a_connection_that_dies_before_the_commit_changes_nothing(addresses, owner, make_user, books, step, end):
    user = make_user(tokens=200)
    row = owner.execute(
        "SELECT (r).id FROM wallet_reserve(%s, 50, 'ask', 300, %s, %s, %s)", [user.user_id, uuid4(), uuid4(), uuid4()]
    ).fetchone()
    if step == "redeem":
        with owner.transaction():
            owner.execute("SELECT set_config('app.role', 'admin', true)")
            owner.execute("DELETE FROM voucher_failure")
            owner.execute(
                "SELECT wallet_issue_vouchers(gen_random_uuid(), 5, NULL, ARRAY[sha256('a code')], gen_random_uuid())"
                " WHERE NOT EXISTS (SELECT FROM voucher WHERE code_hash = sha256('a code'))"
            )
    if step == "expire":
        books.age(row[0], 301)
    before = books.balance(user.user_id), books.entries(user.user_id), books.status(row[0])
    names = {"user": sql.Literal(user.user_id), "held": sql.Literal(row[0]), "new": sql.SQL("gen_random_uuid()")}
    connection = psycopg.connect(addresses.url, options=f"{SESSION_OPTIONS} -c app.role=admin")
    connection.execute(sql.SQL(STEPS[step]).format(**names))
    if end == "killed":
        owner.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])
    connection.close()
    wait_for_no_other_connection(owner)
    assert (books.balance(user.user_id), books.entries(user.user_id), books.status(row[0])) == before
    assert books.problems() == {}
