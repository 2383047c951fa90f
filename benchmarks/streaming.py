"""What a streamed token costs from the model's socket to the gRPC message, all that an answer needs included.

Compared with the least that could be done: httpx reading the same server-sent events, and a bare grpc.aio server
writing a message for each token. The model and the callers run in another process.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc
import httpx

from bacmr.v1 import retrieval_pb2, retrieval_pb2_grpc
from benchmarks import Row
from benchmarks.edge import nowhere
from benchmarks.library import Bench, cpu_seconds, furnished
from benchmarks.provider import TOKENS
from server.caller import Role, Tier
from server.edge.health import Health
from server.edge.limits import Limits, Rates
from server.edge.limits.windows import MemoryWindows
from server.edge.middleware import Middleware
from server.edge.server import EdgeServer, Service
from server.edge.validation import Validation
from server.models.openai_compatible import OpenAITutor
from server.retrieval.servicer import RetrievalServicer
from server.telemetry import logs

CHUNKS = 1_000
CALLS = 16
ROUNDS = 3
REACH = 1.5
"""Most CPU per token, as a multiple of the bare server's."""


@dataclass(frozen=True, slots=True)
class _Student:
    user_id: UUID
    role: Role = Role.STUDENT
    tier: Tier = Tier.FREE
    session_id: UUID | None = None


class _Bare(retrieval_pb2_grpc.RetrievalServiceServicer):
    """Hands on each token as it comes."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ResumeAsk(self, request: Any, context: Any) -> AsyncIterator[retrieval_pb2.AskEvent]:  # noqa: N802
        body = {"model": "m", "messages": [], "stream": True}
        sequence = 0
        async with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    text = json.loads(line[6:])["choices"][0]["delta"].get("content", "")
                    sequence += 1
                    yield retrieval_pb2.AskEvent(sequence=sequence, delta=retrieval_pb2.AskDelta(text=text))


async def rows() -> list[Row]:
    """Measure both in turn; about half a minute."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(_provider())
        driver = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=120))
        bench = await furnished(stack, OpenAITutor("bench", f"{url}/v1", "m", "key"))
        await bench.grow(CHUNKS)
        ours, bare = await _edge(bench, stack), await _bare(driver, stack)
        await _asked(driver, ours, "Ask"), await _asked(driver, bare, "ResumeAsk")
        pairs = [(await _asked(driver, ours, "Ask"), await _asked(driver, bare, "ResumeAsk")) for _ in range(ROUNDS)]
    mine, all_in, theirs = min(p[0][0] for p in pairs), min(p[0][1] for p in pairs), min(p[1][0] for p in pairs)
    return [
        Row("CPU per streamed token, socket to message", mine, "us", theirs, theirs / mine, 1 / REACH),
        Row("the same with PostgreSQL's", all_in, "us", theirs, theirs / all_in, 0.0),
    ]


async def _asked(driver: httpx.AsyncClient, port: int, method: str) -> tuple[float, float]:
    """Return the microseconds of CPU per token: of this process, and with its PostgreSQL's."""
    before = cpu_seconds()
    reply = await driver.get(f"/ask/{port}/{method}/{CALLS}")
    if int(reply.text) < CALLS:
        raise RuntimeError(f"{method} brought no text")
    own, stores = (1e6 * (now - then) / (CALLS * TOKENS) for now, then in zip(cpu_seconds(), before, strict=True))
    return own, own + stores


async def _edge(bench: Bench, stack: AsyncExitStack) -> int:
    student = _Student(bench.students[0].user_id or UUID(int=0))

    async def verify(token: str) -> _Student:
        return student

    logs.configure("info", stack.enter_context(nowhere()))
    middleware = Middleware(
        verify,
        Limits(Rates(dict.fromkeys(Tier, 1_000_000), 1_000_000), MemoryWindows()),
        Validation(),
    )
    room = bench.rooms.retrieval
    service = Service(
        retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server,
        RetrievalServicer(room.searches, room.answers, room.conversations),
        retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"],
    )
    server = EdgeServer("127.0.0.1:0", [service], middleware, Health({}, {}))
    await server.start()
    stack.push_async_callback(server.drain, 0)
    return server.port


async def _bare(client: httpx.AsyncClient, stack: AsyncExitStack) -> int:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(_Bare(client), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, 0)
    return port


@asynccontextmanager
async def _provider() -> AsyncIterator[str]:
    """Run `benchmarks.provider` and return its address."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.provider", stdin=pipe, stdout=pipe)
    assert child.stdin
    assert child.stdout
    port = int(await child.stdout.readline())
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        child.stdin.close()
        await child.wait()
