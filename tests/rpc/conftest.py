"""A real gRPC server on a free port, with the real edge around servicers that a test hands in."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
import pytest_asyncio

from server.edge.health import Health
from server.edge.limits import Limits, Rates
from server.edge.limits.windows import MemoryWindows, Windows
from server.edge.middleware import Middleware
from server.edge.server import EdgeServer
from server.edge.validation import Validation
from tests.rpc.served import Edge, People, services


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
            rates: Rates | None = None,
            windows: Windows | None = None,
            probes: Mapping[str, Any] | None = None,
            needs: Mapping[str, Sequence[str]] | None = None,
            max_streams: int = 100,
            verify: Any = None,
            options: Mapping[str, Any] | None = None,
            client: Sequence[tuple[str, Any]] = (),
            **servicers: object,
        ) -> Edge:
            middleware = Middleware(
                verify or people.verify,
                Limits(rates or Rates(), windows or MemoryWindows()),
                Validation(),
                max_streams=max_streams,
            )
            health = Health(probes or {}, needs or {}, interval_seconds=0.05)
            server = EdgeServer("127.0.0.1:0", services(**servicers), middleware, health, **(options or {}))
            await server.start()
            stack.push_async_callback(server.drain, 0.0)
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=[*client])
            await stack.enter_async_context(channel)
            return Edge(server, channel, people)

        yield start
