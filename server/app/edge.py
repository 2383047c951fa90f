"""The two ports, from settings: who may call, how often, over which transport, and what health follows."""

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from server.app.services import BLOBS, MILVUS, NEEDS, POSTGRES
from server.app.stores import Stores
from server.blobs.door import Door
from server.caller import Tier
from server.config import Settings
from server.edge.health import Health
from server.edge.http import HttpPort
from server.edge.limits import Limits, Rates
from server.edge.limits.windows import windows
from server.edge.middleware import Middleware, Verify
from server.edge.policy import EdgeError
from server.edge.server import EdgeServer, Service, Tls
from server.edge.validation import Validation

WEB_APP = Path(__file__).parents[2] / "clients" / "web" / "dist"


class Edge:
    """The gRPC port and the HTTP port of one process."""

    def __init__(self, settings: Settings, listens: "Listens", stores: Stores, verify: Verify) -> None:
        self._settings = settings
        self._listens = listens
        self._stores = stores
        self._verify = verify
        probes = {POSTGRES: stores.database.healthy, MILVUS: stores.vectors.healthy, BLOBS: stores.blobs.healthy}
        self._health = Health(probes, NEEDS)
        self._windows = windows(settings.redis_url.get_secret_value())
        self._grpc: EdgeServer | None = None
        self._http: HttpPort | None = None

    @property
    def grpc_address(self) -> str:
        """Where gRPC is served."""
        return self._listens.grpc

    @property
    def http_address(self) -> str:
        """Where HTTP is served."""
        return self._listens.http

    def serving(self) -> bool:
        """Say whether the server as a whole can do its work."""
        return self._health.serving()

    def store_health(self) -> Mapping[str, bool]:
        """Return which stores answered when they were last asked."""
        return self._health.stores()

    async def start(self, services: Sequence[Service]) -> None:
        """Serve. Raises EdgeError."""
        settings, tls = self._settings, _tls(self._settings)
        limits = Limits(_rates(settings), self._windows)
        self._grpc = EdgeServer(
            self._listens.grpc,
            services,
            Middleware(self._verify, limits, Validation(), max_streams=settings.limits_concurrent_streams),
            self._health,
            tls=tls,
            allow_plaintext=settings.allow_plaintext,
            message_bytes=settings.limits_message_bytes,
            streams_per_connection=settings.limits_concurrent_streams,
            channelz=settings.channelz,
        )
        self._http = HttpPort(
            self._listens.http,
            self._health,
            limits,
            blobs=Door(self._stores.blobs, self._stores.tickets),
            web_dir=WEB_APP if WEB_APP.is_dir() else None,
            origins=settings.web_origins,
            tls=tls,
            allow_plaintext=settings.allow_plaintext,
            message_bytes=settings.limits_message_bytes,
        )
        await self._grpc.start()
        await self._http.start(self._grpc.target)

    async def drain(self, grace_seconds: float) -> None:
        """Take nothing new, let running calls end for a while, close both ports."""
        if self._grpc is not None:
            await self._grpc.drain(grace_seconds)
        if self._http is not None:
            await self._http.stop(grace_seconds)
        await self._windows.close()


class Listens:
    """The addresses of both ports, checked before anything starts; port 0 becomes a free one."""

    def __init__(self, settings: Settings) -> None:
        """Raises EdgeError when an address is taken or not of this machine."""
        self.grpc = _free("BACMR_GRPC_LISTEN", settings.grpc_listen)
        self.http = _free("BACMR_HTTP_LISTEN", settings.http_listen)
        scheme = "https" if settings.tls_cert_file else "http"
        self.http_url = settings.http_public_url or f"{scheme}://{self.http}"


def _free(setting: str, listen: str) -> str:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            raise EdgeError(f"{setting}: {listen} is taken, or not an address of this machine.") from None
        bound: int = probe.getsockname()[1]
    return f"{listen.rpartition(':')[0]}:{bound}"


def _rates(settings: Settings) -> Rates:
    return Rates(
        paid_per_minute={
            Tier.FREE: settings.limits_paid_per_minute_free,
            Tier.STANDARD: settings.limits_paid_per_minute_standard,
            Tier.PREMIUM: settings.limits_paid_per_minute_premium,
        },
        calls_per_minute=settings.limits_calls_per_minute,
        sign_in_per_15_minutes=settings.limits_sign_in_per_15_minutes,
    )


def _tls(settings: Settings) -> Tls | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return Tls(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
