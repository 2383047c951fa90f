"""Figures that the database alone knows, since any process on any machine may have changed them."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from server.admin.service import AdminService
from server.caller import acting_as, system
from server.jobs.queue import QUEUES, JobQueue
from server.refusal import Refusal
from server.telemetry import metrics
from server.wallet.service import WalletService

PATIENCE_SECONDS = 2.0
"""Metrics are shown without these figures rather than late."""

log = structlog.get_logger(__name__)


def stored_figures(queue: JobQueue, wallet: WalletService, admin: AdminService) -> Callable[[], Awaitable[None]]:
    """Return what brings the gauges of jobs, queues, holds and reconciliations up to date.

    It waits for no database that is away.
    """
    queues = set(QUEUES)

    async def read() -> None:
        for run in await queue.runs():
            if run.succeeded_at is not None:
                metrics.set_job_success(run.name, run.succeeded_at.timestamp())
        depths = {depth.queue: depth.waiting for depth in await queue.depths()}
        queues.update(depths)
        for name in queues:
            metrics.set_queue_depth(name, depths.get(name, 0))
        await wallet.show_holds()
        for check, problems in (await admin.problems()).items():
            metrics.set_wallet_discrepancies(check, problems)

    async def refresh() -> None:
        with acting_as(system()):
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await read()
            except (Refusal, TimeoutError) as error:
                log.warning("figures_not_read", error=type(error).__name__)

    return refresh
