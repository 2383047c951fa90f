"""Health (grpc.health.v1): overall and per service, following the stores each needs."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2

from server.refusal import NotFound
from server.telemetry import metrics

Probe = Callable[[], Awaitable[bool]]
OVERALL: Final = ""
INTERVAL_SECONDS: Final = 2.0
PROBE_SECONDS: Final = 1.0
SERVICE: Final = health.SERVICE_NAME
_log = structlog.get_logger(__name__)


class _Servicer(health.aio.HealthServicer):
    """The stock servicer, but an unknown service is refused with the details that every refusal of ours carries."""

    def __init__(self, services: Collection[str]) -> None:
        super().__init__()
        self._known = frozenset(services)

    async def Check(  # noqa: N802 - the name of the RPC
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse],
    ) -> health_pb2.HealthCheckResponse:
        """Return the status of a service."""
        if request.service not in self._known:
            raise NotFound("There is no such service.")
        return await super().Check(request, context)


class Health:
    """Asks each store every few seconds and tells watchers when a service can, or can no longer, do its work."""

    def __init__(
        self,
        stores: Mapping[str, Probe],
        needs: Mapping[str, Collection[str]],
        interval_seconds: float = INTERVAL_SECONDS,
        probe_seconds: float = PROBE_SECONDS,
    ) -> None:
        """Take a probe per store and, per service by full name (`""`: the server), the stores it cannot do without.

        Everything is NOT_SERVING until the first look.
        """
        unknown = {store for names in needs.values() for store in names} - set(stores)
        if unknown:
            raise ValueError(f"no probe for {', '.join(sorted(unknown))}")
        self._stores = stores
        self._needs = {OVERALL: tuple(stores), **needs}
        self._interval_seconds = interval_seconds
        self._probe_seconds = probe_seconds
        self._up: dict[str, bool] = {}
        self._draining = False
        self.servicer = _Servicer(self._needs)

    def serving(self, service: str = OVERALL) -> bool:
        """Say whether a service can do its work now."""
        return not self._draining and all(self._up.get(store, False) for store in self._needs[service])

    def stores(self) -> Mapping[str, bool]:
        """Return what the last look at each store found."""
        return dict(self._up)

    async def look(self) -> None:
        """Ask every store once, all at the same time, and publish what follows from it."""
        answers = await asyncio.gather(*(self._ask(name, probe) for name, probe in self._stores.items()))
        for store, up in zip(self._stores, answers, strict=True):
            if self._up.get(store) is not up:
                _log.info("store_up" if up else "store_down", store=store)
            self._up[store] = up
            metrics.set_store_up(store, up)
        for service in self._needs:
            found = health_pb2.HealthCheckResponse
            await self.servicer.set(service, found.SERVING if self.serving(service) else found.NOT_SERVING)

    async def watch(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(self._interval_seconds)
            await self.look()

    async def drain(self) -> None:
        """Say NOT_SERVING from now on, whatever the stores do."""
        self._draining = True
        await self.servicer.enter_graceful_shutdown()

    async def _ask(self, store: str, probe: Probe) -> bool:
        try:
            async with asyncio.timeout(self._probe_seconds):
                return await probe()
        except Exception as error:  # noqa: BLE001 - a probe that fails in any way has found its store down
            _log.debug("probe_failed", store=store, error=type(error).__name__)
            return False
