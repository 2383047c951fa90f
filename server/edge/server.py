"""The gRPC server: ports, TLS, limits of the transport, and the services behind one middleware."""

import asyncio
import contextlib
import contextvars
import ipaddress
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_channelz.v1 import channelz, channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2_grpc

from server.caller import Role
from server.edge import health, listening, reflection
from server.edge.health import Health
from server.edge.middleware import Handler, Middleware
from server.edge.policy import DISCOVERY, PROBE, EdgeError, Policy, policies
from server.telemetry import calls

RECEIVE_FACTOR: Final = 4
"""Messages are received up to this many times the limit, so that it is our own refusal, with its details, that callers
get; what is larger still is cut off by the transport before it takes more memory."""
STREAMS_PER_CONNECTION: Final = 2_000
METADATA_BYTES: Final = 2 * 1024 * 1024
"""Large enough that an absurd token reaches our own refusal instead of breaking the connection of all other calls."""
TICK_SECONDS: Final = 0.1
"""How often deadlines are looked at and ended calls are logged."""
SETTLE_SECONDS: Final = 0.5
"""A handshake and a call take less, also on a phone's link."""
OPERATORS: Final = Policy(roles=frozenset({Role.ADMIN}), internal=True)


class Service(NamedTuple):
    """A service to serve: the generated `add_…_to_server`, our servicer, and the service's descriptor."""

    add: Callable[..., None]
    servicer: object
    descriptor: ServiceDescriptor


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM form; with `client_ca_file` callers must show a certificate of it (mTLS)."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None


class EdgeServer:
    """Serves the services until drained. `target` is where in-process clients reach it, `port` where others do."""

    def __init__(
        self,
        listen: str,
        services: Sequence[Service],
        middleware: Middleware,
        health: Health,
        *,
        tls: Tls | None = None,
        allow_plaintext: bool = False,
        streams_per_connection: int = STREAMS_PER_CONNECTION,
        reuse_port: bool = False,
        channelz: bool = False,
    ) -> None:
        """Build the server; nothing listens before `start`. Raises EdgeError for settings that cannot be served."""
        check_plaintext("BACMR_GRPC_LISTEN", listen, tls, allow_plaintext)
        self._listen = listen
        self._tls = tls
        self._health = health
        self._middleware = middleware
        self._tasks: list[asyncio.Task[None]] = []
        self._folder = contextlib.ExitStack()
        self.port = 0
        self.target = ""
        self._server = grpc.aio.server(
            options=_options(middleware.message_bytes, streams_per_connection, reuse_port, channelz)
        )
        handlers = _handlers(services, health, channelz)
        known = _known_policies(services)
        wrapped = {path: middleware.wrap(path, handler, known[path]) for path, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((_Router(wrapped, middleware.unknown()),))

    async def start(self) -> None:
        """Listen on the address and on a private socket for our own HTTP port. Raises EdgeError when it is taken."""
        await self._health.look()
        self.port = self._bind()
        folder = self._folder.enter_context(tempfile.TemporaryDirectory(prefix="bacmr-edge-"))
        self.target = f"unix:{folder}/edge.sock"
        self._server.add_insecure_port(self.target)
        # Calls inherit the context of whoever starts the server: an empty one, so that nobody's rights leak into them.
        await asyncio.create_task(self._server.start(), context=contextvars.Context())
        self._tasks = [
            asyncio.create_task(self._health.watch(), name="health"),
            asyncio.create_task(self._tick(), name="edge"),
        ]

    async def close(self, grace_seconds: float, settle_seconds: float = SETTLE_SECONDS) -> None:
        """Say NOT_SERVING and take no new connections, before `drain`; both waits end with `grace_seconds`.

        gRPC cancels the calls that reach it between its stop and its telling so. A connection made in the last moment
        has `settle_seconds` for its first call, so that none of these meets the stop.
        """
        await self._health.drain()
        await listening.close(self.port, grace_seconds)
        await asyncio.sleep(min(settle_seconds, grace_seconds))

    async def drain(self, grace_seconds: float) -> None:
        """Say NOT_SERVING, take no new calls, and let running ones end for a while."""
        await self._health.drain()
        await self._server.stop(grace_seconds)
        for task in self._tasks:
            task.cancel()
        calls.flush()
        self._folder.close()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._middleware.sweep()
            calls.flush()

    def _bind(self) -> int:
        try:
            if self._tls is None:
                return self._server.add_insecure_port(self._listen)
            return self._server.add_secure_port(self._listen, _credentials(self._tls))
        except RuntimeError:
            raise EdgeError(f"BACMR_GRPC_LISTEN: {self._listen} is taken, or not an address of this machine.") from None


class _Router(grpc.GenericRpcHandler):
    """Finds the handler of a method; one that nobody knows gets a refusal of ours."""

    def __init__(self, handlers: Mapping[str, Handler], unknown: Handler) -> None:
        self._handlers = handlers
        self._unknown = unknown

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        return self._handlers.get(handler_call_details.method, self._unknown)


class _Collector:
    """What generated code takes for a server: keeps the handlers it registers."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, _: object) -> None:
        """Registered by name below."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        self.handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


def check_plaintext(setting: str, listen: str, tls: Tls | None, allowed: bool) -> None:
    """Raise EdgeError for an address that others can reach without TLS, unless that is allowed."""
    if tls is None and not allowed and not is_loopback(listen):
        raise EdgeError(
            f"{setting}: {listen} is reachable by others; set BACMR_TLS_CERT_FILE and BACMR_TLS_KEY_FILE, or "
            "BACMR_ALLOW_PLAINTEXT=true behind a proxy that ends TLS."
        )


def is_loopback(listen: str) -> bool:
    """Say whether `host:port` can be reached from this machine alone."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _handlers(services: Sequence[Service], health: Health, with_channelz: bool) -> dict[str, Handler]:
    collector = _Collector()
    for service in services:
        service.add(service.servicer, collector)
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, collector)  # type: ignore[arg-type]
    names = [service.descriptor.full_name for service in services]
    if with_channelz:
        channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.aio.ChannelzServicer(), collector)
    return collector.handlers | reflection.handlers([*names, _HEALTH])


def _known_policies(services: Sequence[Service]) -> dict[str, Policy]:
    operators = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"]
    return {
        **policies(service.descriptor for service in services),
        **{f"/{_HEALTH}/{name}": PROBE for name in ("Check", "List", "Watch")},
        **{f"/{name}/ServerReflectionInfo": DISCOVERY for name in (reflection.V1ALPHA, reflection.V1)},
        **{f"/{operators.full_name}/{method.name}": OPERATORS for method in operators.methods},
    }


_HEALTH: Final = health.SERVICE


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    try:
        pair = (tls.key_file.read_bytes(), tls.cert_file.read_bytes())
        roots = tls.client_ca_file.read_bytes() if tls.client_ca_file else None
    except OSError as error:
        raise EdgeError(f"BACMR_TLS_…_FILE: {error.filename} cannot be read.") from None
    return grpc.ssl_server_credentials([pair], root_certificates=roots, require_client_auth=roots is not None)


def _options(message_bytes: int, streams: int, reuse_port: bool, channelz: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", message_bytes * RECEIVE_FACTOR),
        ("grpc.max_send_message_length", message_bytes),
        ("grpc.max_concurrent_streams", streams),
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Chatty mobile clients would otherwise be sent away with GOAWAY too_many_pings.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_connection_age_ms", 3_600_000),
        ("grpc.max_connection_age_grace_ms", 600_000),
        # Off unless wanted: a second server on the same port would otherwise start without an error.
        ("grpc.so_reuseport", int(reuse_port)),
        ("grpc.enable_channelz", int(channelz)),
    ]
