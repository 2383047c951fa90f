"""The running server: everything started in order, and stopped in the reverse order whatever happens."""

import asyncio
from contextlib import AsyncExitStack

import structlog

from server.admin.operations import Operations
from server.admin.service import AdminService
from server.app import models, rooms
from server.app.edge import Edge, Listens
from server.app.models import Models
from server.app.operations import furnish_operations
from server.app.rooms import Rooms
from server.app.schedule import schedule, tasks
from server.app.services import overview, services
from server.app.startup import cancelled, clearly
from server.app.stores import Stores, open_stores
from server.caller import acting_as, system
from server.config import Settings
from server.ingestion.healing import heal
from server.jobs.worker import Worker
from server.refusal import Refusal
from server.telemetry import logs, traces

log = structlog.get_logger(__name__)


class App:
    """One process: `start`, then `stop`. The stores that no setting replaces run as its children."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._edge: Edge | None = None

    @property
    def grpc_address(self) -> str:
        """Where the gRPC port listens; the port is the real one when the setting said 0."""
        return self._edge.grpc_address if self._edge else ""

    def greeting(self) -> str:
        """Return one line for whoever started the server."""
        if self._edge is None:
            return "BacMR works on queued and scheduled jobs."
        return f"BacMR serves gRPC on {self._edge.grpc_address} and HTTP on {self._edge.http_address}."

    async def start(self) -> None:
        """Start everything. Raises StartupError; call `stop` then as well."""
        with clearly():
            listens = Listens(self._settings)
        stores, chosen, furnished = await self._foundation(listens.http_url)
        admin, operations = _admin(stores, furnished), furnish_operations(stores, furnished)
        with clearly():
            await self._bootstrap(stores, furnished)
            edge = Edge(self._settings, listens, stores, furnished.auth.verifier.verify)
            told = overview(self._settings, stores, chosen, furnished, edge.serving, edge.store_health)
            await edge.start(services(furnished, admin, operations, told))
        self._edge = edge
        self._stack.push_async_callback(edge.drain, self._settings.drain_seconds)
        self._work(stores, furnished, admin, operations)
        healing = asyncio.create_task(_heal(stores, furnished), name="heal")
        self._stack.push_async_callback(cancelled, healing)

    async def start_worker(self) -> None:
        """Start the stores and the worker only. Raises StartupError."""
        stores, _, furnished = await self._foundation("")
        self._work(stores, furnished, _admin(stores, furnished), furnish_operations(stores, furnished))

    async def stop(self) -> None:
        """Drain and stop everything that was started; money under way is settled first."""
        await self._stack.aclose()

    async def _foundation(self, http_url: str) -> tuple[Stores, Models, Rooms]:
        logs.configure(self._settings.log_level)
        if self._settings.otlp_endpoint:
            traces.configure(self._settings.otlp_endpoint)
            self._stack.callback(traces.shutdown)
        breakers = models.make_breakers(self._settings)
        stores = await open_stores(self._settings, http_url, breakers, self._stack)
        chosen = models.choose(self._settings, breakers)
        await models.warm(chosen)
        with clearly():
            furnished = await rooms.furnish(self._settings, stores, chosen)
        self._stack.callback(furnished.auth.close)
        self._stack.push_async_callback(furnished.wallet.close)
        self._stack.push_async_callback(furnished.quiz_maker.close)
        self._stack.push_async_callback(furnished.retrieval.answers.close, self._settings.drain_seconds)
        return stores, chosen, furnished

    async def _bootstrap(self, stores: Stores, furnished: Rooms) -> None:
        with acting_as(system()):
            await furnished.retrieval.recovery.recover(others_are_dead=stores.alone)
        email = self._settings.bootstrap_admin_email
        if email:
            password = self._settings.bootstrap_admin_password.get_secret_value()
            await furnished.auth.directory.ensure_bootstrap_admin(email, password)

    def _work(self, stores: Stores, furnished: Rooms, admin: AdminService, operations: Operations) -> None:
        worker = Worker(
            stores.database,
            stores.database_url,
            tasks(furnished, operations),
            schedule(furnished, admin),
            concurrency=self._settings.worker_concurrency,
            stop_seconds=self._settings.drain_seconds,
        )
        working = asyncio.create_task(worker.work(), name="worker")
        self._stack.push_async_callback(cancelled, working)


def _admin(stores: Stores, furnished: Rooms) -> AdminService:
    return AdminService(stores.database, furnished.wallet, furnished.retrieval.conversations)


async def _heal(stores: Stores, furnished: Rooms) -> None:
    """Give the vector store back what it lost while this server was away; searches go on by full text meanwhile."""
    with acting_as(system()):
        try:
            await heal(furnished.refs, stores.vectors, furnished.live.name)
        except Refusal as refusal:
            log.warning("healing_failed", reason=refusal.reason)
