"""Gauges whose truth is in the database: right in every process, whichever of them did the work."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from server.admin.service import AdminService
from server.admin.store.audit import AdminStore
from server.app import figures
from server.app.figures import stored_figures
from server.caller import acting_as, system
from server.database.pool import Database
from server.jobs.queue import JobQueue
from server.retrieval.conversations import ConversationService
from server.retrieval.store import ConversationStore
from server.telemetry import metrics
from server.telemetry.metrics.export import Figures
from server.wallet.meters import Meters
from server.wallet.report import Check
from server.wallet.service import ForeignCheck, WalletService


@pytest.fixture
def wallet(database):
    meters = Meters(metrics.record_wallet_reservation, metrics.set_active_reservations, metrics.set_stale_reservations)
    return WalletService(database, meters=meters)


@pytest.fixture
def shown(database, wallet) -> Figures:
    return Figures(refresh=stored_figures(JobQueue(database), wallet, administration(database)))


def administration(database: Database, *checks: ForeignCheck) -> AdminService:
    async def stop(answer_id: UUID) -> None:
        pass

    conversations = ConversationService(database, ConversationStore(), stop)
    return AdminService(database, WalletService(database, foreign_checks=checks), conversations)


async def series(shown: Figures, name: str) -> list[dict[str, Any]]:
    return (await shown.snapshot())["metrics"][name]["series"]


async def value(shown: Figures, name: str, **labels: str) -> float:
    return next(found["value"] for found in await series(shown, name) if found["labels"] == labels)


async def test_tasks_that_wait_are_shown_and_none_once_they_are_gone(database, shown, owner):
    with acting_as(system()):
        async with database.transaction() as connection:
            for _ in range(3):
                await JobQueue(database).enqueue(connection, "nobody_runs_this", {}, queue="papers")
    assert await value(shown, "queue_depth", queue="papers") == 3
    owner.execute("DELETE FROM procrastinate_jobs")
    assert await value(shown, "queue_depth", queue="papers") == 0
    assert await value(shown, "queue_depth", queue="default") == 0


async def test_a_job_that_another_process_ran_shows_its_success(shown, owner):
    owner.execute(
        "INSERT INTO job_run (name, scheduled_at, succeeded_at) VALUES ('elsewhere', now(), to_timestamp(1700000000))"
    )
    assert await value(shown, "job_last_success_timestamp_seconds", job="elsewhere") == 1_700_000_000


async def test_holds_are_those_of_all_processes(database, shown, make_user):
    student = make_user(tokens=1_000)
    elsewhere = WalletService(database)
    with acting_as(student):
        await elsewhere.reserve(student.user_id, 10, "ask", uuid4())
    assert await value(shown, "active_reservations") == 1


async def test_what_another_process_found_in_the_books_is_shown_until_it_finds_nothing(database, shown):
    found = [Check("leaks", False, "2 found: …", 2), Check("leaks", True, "0 found")]

    async def leaks(connection: Any) -> Check:
        return found.pop(0)

    elsewhere = administration(database, leaks)
    for problems in (2, 0):
        with acting_as(system()):
            await elsewhere.reconcile()
        assert await value(shown, "wallet_discrepancies", check="leaks") == problems
    assert await value(shown, "wallet_discrepancies", check="balances_match_ledger") == 0


async def test_an_earlier_look_that_is_kept_later_hides_nothing(database):
    store, now = AdminStore(), datetime.now(UTC)
    with acting_as(system()):
        async with database.transaction() as connection:
            await store.note_problems(connection, {"leaks": 3, "gone": 0}, now)
            await store.note_problems(connection, {"leaks": 0}, now - timedelta(seconds=5))
            assert await store.noted_problems(connection) == {"leaks": 3, "gone": 0}
            await store.note_problems(connection, {"leaks": 1}, now + timedelta(seconds=5))
            assert await store.noted_problems(connection) == {"leaks": 1}


async def test_metrics_are_shown_at_once_while_the_database_is_away(monkeypatch, wallet):
    monkeypatch.setattr(figures, "PATIENCE_SECONDS", 0.2)
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    shown = Figures(refresh=stored_figures(JobQueue(away), WalletService(away), administration(away)))
    async with asyncio.timeout(3):
        assert b"queue_depth" in await shown.exposition()
    await away.close()
