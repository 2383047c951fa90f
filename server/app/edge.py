"""The two ports, from settings: who may call, how often, over which transport, and what health follows."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

from server.app.services import BLOBS, MILVUS, NEEDS, POSTGRES
from server.app.stores import Stores
from server.auth.room import AuthRoom
from server.blobs.door import Door
from server.blobs.port import BlobStore
from server.caller import Tier
from server.config import Settings
from server.database.cancellation import cancelled
from server.edge.health import Health, Probe
from server.edge.http import HttpPort
from server.edge.limits import Limits, Rates
from server.edge.limits.windows import windows
from server.edge.middleware import Middleware
from server.edge.policy import EdgeError
from server.edge.server import EdgeServer, Service, Tls, check_plaintext
from server.edge.topups import TopUpDoor
from server.edge.validation import Validation
from server.refusal import Refusal
from server.telemetry.metrics.export import Figures

WEB_APP = Path(__file__).parents[2] / "clients" / "web" / "dist"


class Edge:
    """The gRPC port and the HTTP port of one process."""

    def __init__(
        self, settings: Settings, listens: "Listens", stores: Stores, auth: AuthRoom, figures: Figures
    ) -> None:
        self._settings = settings
        self._listens = listens
        self._figures = figures
        self._stores = stores
        self._auth = auth
        self._health = Health(_probes(stores), NEEDS)
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

    async def start(self, services: Sequence[Service], top_ups: TopUpDoor) -> None:
        """Serve. Raises EdgeError."""
        settings, tls = self._settings, _tls(self._settings)
        limits = Limits(_rates(settings), self._windows)
        self._grpc = EdgeServer(
            self._listens.grpc,
            services,
            Middleware(
                self._auth.verifier.verify,
                limits,
                Validation(settings.limits_message_bytes),
                proxies=settings.trusted_proxies,
                max_streams=settings.limits_concurrent_streams,
            ),
            self._health,
            tls=tls,
            allow_plaintext=settings.allow_plaintext,
            streams_per_connection=settings.limits_concurrent_streams,
            reuse_port=self._listens.shared,
            channelz=settings.channelz,
        )
        self._http = HttpPort(
            self._listens.http,
            self._health,
            limits,
            jwks=self._auth.service.jwks,
            figures=self._figures,
            metrics_token=settings.metrics_token.get_secret_value(),
            blobs=Door(self._stores.blobs, self._stores.tickets),
            top_ups=top_ups,
            web_dir=WEB_APP if WEB_APP.is_dir() else None,
            upload_origin=await _upload_origin(self._stores.blobs),
            origins=settings.web_origins,
            tls=tls,
            allow_plaintext=settings.allow_plaintext,
            proxies=settings.trusted_proxies,
            message_bytes=settings.limits_message_bytes,
            reuse_port=self._listens.shared,
        )
        await self._grpc.start()
        await self._http.start(self._grpc.target)

    async def drain(self, grace_seconds: float) -> None:
        """Take nothing new, let running calls end for a while, close both ports."""
        if self._grpc is not None and self._http is not None:
            # What still came in would meet a gRPC server that takes nothing new.
            await asyncio.gather(self._http.close(grace_seconds), self._grpc.close(grace_seconds))
            await asyncio.gather(self._grpc.drain(grace_seconds), self._http.stop(grace_seconds))
        await self._windows.close()


async def _upload_origin(blobs: BlobStore) -> str:
    """Return the origin that upload tickets name; empty when the store cannot sign one now."""
    try:
        ticket = await blobs.sign_upload("origin", content_type="", max_bytes=0, ttl_seconds=1)
    except Refusal:
        return ""
    address = urlsplit(ticket.url)
    return f"{address.scheme}://{address.netloc}"


async def open_probes(settings: Settings, stores: Stores, figures: Figures, stack: AsyncExitStack) -> str:
    """Give a worker its HTTP port when it is to have one; returns where, for its greeting. Raises EdgeError."""
    if not settings.worker_listen:
        return ""
    health, counted = Health(_probes(stores), {}), windows()
    port = HttpPort(
        settings.worker_listen,
        health,
        Limits(_rates(settings), counted),
        figures=figures,
        metrics_token=settings.metrics_token.get_secret_value(),
        grpc_web=False,
        setting="BACMR_WORKER_LISTEN",
        tls=_tls(settings),
        allow_plaintext=settings.allow_plaintext,
    )
    await health.look()
    await port.start()
    stack.push_async_callback(port.stop, 0.0)
    watching = asyncio.create_task(health.watch(), name="health")
    stack.push_async_callback(cancelled, watching)
    return f" and shows metrics on {settings.worker_listen.rpartition(':')[0]}:{port.port}"


class Listens:
    """The addresses of both ports, checked before anything starts; port 0 becomes a free one.

    `shared` ports are those of a parent, which has checked them: other processes listen there too.
    """

    def __init__(self, settings: Settings, *, shared: bool = False) -> None:
        """Raises EdgeError when an address is taken, not of this machine, or open to others without TLS."""
        for setting, listen in (
            ("BACMR_GRPC_LISTEN", settings.grpc_listen),
            ("BACMR_HTTP_LISTEN", settings.http_listen),
        ):
            check_plaintext(setting, listen, _tls(settings), settings.allow_plaintext)
        self.shared = shared
        self.grpc = settings.grpc_listen if shared else _free("BACMR_GRPC_LISTEN", settings.grpc_listen)
        self.http = settings.http_listen if shared else _free("BACMR_HTTP_LISTEN", settings.http_listen)
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


def _probes(stores: Stores) -> Mapping[str, Probe]:
    return {POSTGRES: stores.database.healthy, MILVUS: stores.vectors.healthy, BLOBS: stores.blobs.healthy}


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
