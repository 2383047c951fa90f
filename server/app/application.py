"""The running server: everything started in order, and stopped in the reverse order whatever happens."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from server.admin.operations import Operations
from server.admin.service import AdminService
from server.app import models, rooms
from server.app.edge import Edge, Listens, open_probes
from server.app.failure import StartupError
from server.app.figures import stored_figures
from server.app.models import Models
from server.app.operations import furnish_indexes, furnish_operations, furnish_syncs
from server.app.recovery import Recovery, furnish_recovery
from server.app.rooms import Rooms
from server.app.schedule import long_schedule, schedule, tasks
from server.app.services import overview, services
from server.app.startup import clearly, tune_interpreter
from server.app.stores import Stores, embedded_are_served, open_stores
from server.app.upkeep import chores, keep_up
from server.caller import acting_as, system
from server.config import Settings
from server.database.cancellation import cancelled
from server.ingestion.healing import heal
from server.jobs.queue import DEFAULT_QUEUE, OPERATIONS_QUEUE
from server.jobs.worker import Worker
from server.refusal import Refusal
from server.telemetry import logs, metrics, traces
from server.telemetry.metrics.export import Figures

log = structlog.get_logger(__name__)


class App:
    """One process: `start`, then `stop`. The stores that no setting replaces run as its children.

    With a `metrics_dir` it is one of several on the same ports (`processes.py`), whose parent runs those stores.
    """

    def __init__(self, settings: Settings, metrics_dir: Path | None = None) -> None:
        self._settings = settings
        self._metrics_dir = metrics_dir
        self._stack = AsyncExitStack()
        self._edge: Edge | None = None
        self._greeting = ""

    @property
    def grpc_address(self) -> str:
        """Where the gRPC port listens; the port is the real one when the setting said 0."""
        return self._edge.grpc_address if self._edge else ""

    def greeting(self) -> str:
        """Return one line for whoever started the server."""
        if self._edge is None:
            return self._greeting
        return f"BacMR serves gRPC on {self._edge.grpc_address} and HTTP on {self._edge.http_address}."

    async def start(self) -> None:
        """Start everything. Raises StartupError; call `stop` then as well."""
        one_of_several = self._metrics_dir is not None
        with clearly():
            listens = Listens(self._settings, shared=one_of_several)
        stores, chosen, furnished = await self._foundation(listens.http_url, attached=one_of_several)
        recovery = self._recovery(stores, furnished)
        admin, operations = _admin(stores, furnished), furnish_operations(stores, furnished, recovery)
        figures = self._figures(furnished, admin)
        with clearly():
            await self._bootstrap(stores, furnished)
            edge = Edge(self._settings, listens, stores, furnished.auth, figures)
            indexes = furnish_indexes(stores, furnished, operations)
            told = overview(self._settings, chosen, furnished, edge.serving, edge.store_health, figures, indexes)
            syncs = furnish_syncs(stores, furnished, operations)
            served = services(furnished, admin, operations, syncs, indexes, recovery.imports, told)
            await edge.start(served, furnished.credit)
        self._edge = edge
        metrics.count_process()
        self._stack.push_async_callback(edge.drain, self._settings.drain_seconds)
        if self._settings.worker_concurrency:
            self._work(stores, furnished, admin, operations, recovery)
        healing = asyncio.create_task(_heal(stores, furnished), name="heal")
        self._stack.push_async_callback(cancelled, healing)

    async def start_worker(self) -> None:
        """Start the worker only, on stores of its own where no server runs. Raises StartupError."""
        if not self._settings.worker_concurrency:
            raise StartupError("BACMR_WORKER_CONCURRENCY: a worker needs at least 1.")
        attached = await asyncio.to_thread(embedded_are_served, self._settings)
        stores, _, furnished = await self._foundation("", attached=attached)
        admin = _admin(stores, furnished)
        with clearly():
            probes = await open_probes(self._settings, stores, self._figures(furnished, admin), self._stack)
        self._greeting = f"BacMR works on queued and scheduled jobs{probes}."
        recovery = self._recovery(stores, furnished)
        operations = furnish_operations(stores, furnished, recovery)
        self._work(stores, furnished, admin, operations, recovery)

    async def stop(self) -> None:
        """Drain and stop everything that was started; money under way is settled first."""
        await self._stack.aclose()

    async def _foundation(self, http_url: str, *, attached: bool) -> tuple[Stores, Models, Rooms]:
        logs.configure(self._settings.log_level)
        if self._settings.otlp_endpoint:
            traces.configure(self._settings.otlp_endpoint)
            self._stack.callback(traces.shutdown)
        breakers = models.make_breakers(self._settings)
        chosen = models.choose(self._settings, breakers)
        stores = await open_stores(self._settings, http_url, breakers, self._stack, attached=attached)
        await models.warm(chosen)
        with clearly():
            furnished = await rooms.furnish(self._settings, stores, chosen)
        self._stack.callback(furnished.auth.close)
        self._stack.push_async_callback(furnished.caches.close)
        self._stack.push_async_callback(furnished.wallet.close)
        self._stack.push_async_callback(furnished.quiz_maker.close)
        self._stack.push_async_callback(furnished.retrieval.answers.close, self._settings.drain_seconds)
        keeping = asyncio.create_task(keep_up(chores(furnished)), name="upkeep")
        self._stack.push_async_callback(cancelled, keeping)
        tune_interpreter()
        return stores, chosen, furnished

    def _figures(self, furnished: Rooms, admin: AdminService) -> Figures:
        return Figures(self._metrics_dir, stored_figures(furnished.queue, furnished.wallet, admin))

    async def _bootstrap(self, stores: Stores, furnished: Rooms) -> None:
        with acting_as(system()):
            await furnished.retrieval.recovery.recover(others_are_dead=stores.alone)
        email = self._settings.bootstrap_admin_email
        if email:
            password = self._settings.bootstrap_admin_password.get_secret_value()
            await furnished.auth.directory.ensure_bootstrap_admin(email, password)

    def _recovery(self, stores: Stores, furnished: Rooms) -> Recovery:
        return furnish_recovery(self._settings, stores, furnished.library.embedders.of)

    def _work(
        self, stores: Stores, furnished: Rooms, admin: AdminService, operations: Operations, recovery: Recovery
    ) -> None:
        syncs = furnish_syncs(stores, furnished, operations)
        indexes = furnish_indexes(stores, furnished, operations)
        # Both know all tasks: a release before this one put operations among the other jobs.
        known = tasks(furnished, operations)
        workers = {
            DEFAULT_QUEUE: Worker(
                stores.database,
                stores.database_url,
                known,
                schedule(furnished, admin, syncs, indexes),
                concurrency=self._settings.worker_concurrency,
                stop_seconds=self._settings.drain_seconds,
            ),
            OPERATIONS_QUEUE: Worker(
                stores.database,
                stores.database_url,
                known,
                long_schedule(recovery),
                queue=OPERATIONS_QUEUE,
                concurrency=self._settings.operations_concurrency,
                stop_seconds=self._settings.drain_seconds,
            ),
        }
        working = [asyncio.create_task(worker.work(), name=f"worker {queue}") for queue, worker in workers.items()]
        self._stack.push_async_callback(_all_cancelled, working)


async def _all_cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.gather(*map(cancelled, tasks))


def _admin(stores: Stores, furnished: Rooms) -> AdminService:
    return AdminService(stores.database, furnished.wallet, furnished.retrieval.conversations)


async def _heal(stores: Stores, furnished: Rooms) -> None:
    """Give the vector store back what it lost while this server was away; searches go on by full text meanwhile."""
    with acting_as(system()):
        try:
            space = await furnished.library.spaces.live()
            if space is not None:
                await heal(furnished.library.refs, stores.vectors, space.index)
        except Refusal as refusal:
            log.warning("healing_failed", reason=refusal.reason)
