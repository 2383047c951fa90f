"""Gauges whose truth is in the database: right in every process, whichever of them did the work."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from server.app import figures
from server.app.figures import stored_figures
from server.caller import acting_as, system
from server.database.pool import Database
from server.jobs.queue import JobQueue
from server.telemetry import metrics
from server.telemetry.metrics.export import Figures
from server.wallet.meters import Meters
from server.wallet.service import WalletService


@pytest.fixture
def wallet(database):
    meters = Meters(metrics.record_wallet_reservation, metrics.set_active_reservations, metrics.set_stale_reservations)
    return WalletService(database, meters=meters)


@pytest.fixture
def shown(database, wallet) -> Figures:
    return Figures(refresh=stored_figures(JobQueue(database), wallet))


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


async def test_metrics_are_shown_at_once_while_the_database_is_away(monkeypatch, wallet):
    monkeypatch.setattr(figures, "PATIENCE_SECONDS", 0.2)
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    shown = Figures(refresh=stored_figures(JobQueue(away), WalletService(away)))
    async with asyncio.timeout(3):
        assert b"queue_depth" in await shown.exposition()
    await away.close()
