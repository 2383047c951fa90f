"""What the whole middleware costs: calls and streams through it, against a bare grpc.aio server of the same messages.

Server and client share one process and one uvloop. Slices of both are taken in turn, so that a busy machine slows both
down alike; the ratio is the median of the pairs'.
"""

import asyncio
import os
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, TextIO
from uuid import UUID, uuid4

import grpc

from bacmr.v1 import retrieval_pb2, retrieval_pb2_grpc, wallet_pb2, wallet_pb2_grpc
from benchmarks import Row
from server.caller import Role, Tier
from server.edge.health import Health
from server.edge.limits import Limits, Rates
from server.edge.limits.windows import MemoryWindows
from server.edge.middleware import Middleware
from server.edge.server import EdgeServer, Service
from server.edge.validation import Validation
from server.telemetry import logs

UNARY_PAIRS = 80
STREAM_PAIRS = 24
CALLS = 160
IN_FLIGHT = 16
STREAM_EVENTS = 200
UNARY_REACH = 0.75
STREAM_REACH = 0.7
TOKEN = "warm"
_BALANCE = wallet_pb2.GetBalanceResponse(available_tokens=20_000, held_tokens=500, posted_tokens=20_500)
_EVENT = retrieval_pb2.AskEvent(sequence=7, delta=retrieval_pb2.AskDelta(text=" la dérivée"))


@dataclass(frozen=True, slots=True)
class _Identity:
    user_id: UUID
    role: Role = Role.STUDENT
    tier: Tier = Tier.FREE
    session_id: UUID | None = None


class _Wallet(wallet_pb2_grpc.WalletServiceServicer):
    async def GetBalance(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the RPC
        return _BALANCE


class _Retrieval(retrieval_pb2_grpc.RetrievalServiceServicer):
    async def ResumeAsk(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - the name of the RPC
        for _ in range(STREAM_EVENTS):
            yield _EVENT


async def rows() -> list[Row]:
    """Measure both shapes; about half a minute."""
    async with AsyncExitStack() as stack:
        bare = await _bare(stack)
        edge = await _edge(stack)
        bare_unary, bare_times = _unary(bare)
        edge_unary, edge_times = _unary(edge)
        unary = await _pairs(edge_unary, bare_unary, UNARY_PAIRS)
        stream = await _pairs(_stream(edge), _stream(bare), STREAM_PAIRS)
    tail, bare_tail = _p99(edge_times.calls), _p99(bare_times.calls)
    cpu, bare_cpu = statistics.median(edge_times.cpu), statistics.median(bare_times.cpu)
    cpu_ratio = statistics.median(b / a for a, b in zip(edge_times.cpu, bare_times.cpu, strict=True))
    return [
        Row("unary call through the edge", unary[0], "calls/s", unary[1], unary[2], UNARY_REACH),
        Row("its CPU, the client's included", cpu * 1e6, "us/call", bare_cpu * 1e6, cpu_ratio, 0.0),
        Row("its p99", tail * 1000, "ms", bare_tail * 1000, bare_tail / tail, 0.0),
        Row("server stream through the edge", stream[0], "events/s", stream[1], stream[2], STREAM_REACH),
    ]


async def _bare(stack: AsyncExitStack) -> grpc.aio.Channel:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    wallet_pb2_grpc.add_WalletServiceServicer_to_server(_Wallet(), server)
    retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(_Retrieval(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, 0)
    return await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))


async def _edge(stack: AsyncExitStack) -> grpc.aio.Channel:
    known = {TOKEN: _Identity(uuid4())}

    async def verify(token: str) -> _Identity:
        return known[token]

    logs.configure("info", stack.enter_context(nowhere()))
    middleware = Middleware(
        verify,
        Limits(Rates(calls_per_minute=1_000_000), MemoryWindows()),
        Validation(),
    )
    services = [
        Service(
            wallet_pb2_grpc.add_WalletServiceServicer_to_server,
            _Wallet(),
            wallet_pb2.DESCRIPTOR.services_by_name["WalletService"],
        ),
        Service(
            retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server,
            _Retrieval(),
            retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"],
        ),
    ]
    server = EdgeServer("127.0.0.1:0", services, middleware, Health({}, {}))
    await server.start()
    stack.push_async_callback(server.drain, 0)
    return await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{server.port}"))


def nowhere() -> TextIO:
    """Every line is written, as in service, but nobody keeps it."""
    return Path(os.devnull).open("w", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Times:
    """Seconds: how long each call took, and the CPU per call of each slice."""

    calls: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def _unary(channel: grpc.aio.Channel) -> tuple[Callable[[], Awaitable[float]], _Times]:
    stub = wallet_pb2_grpc.WalletServiceStub(channel)
    request = wallet_pb2.GetBalanceRequest(user_id=str(uuid4()))
    metadata = (("authorization", f"Bearer {TOKEN}"), ("x-request-id", str(uuid4())))
    times = _Times()

    async def caller() -> None:
        for _ in range(CALLS // IN_FLIGHT):
            began = perf_counter()
            await stub.GetBalance(request, metadata=metadata)
            times.calls.append(perf_counter() - began)

    async def slice_() -> float:
        began, cpu = perf_counter(), process_time()
        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        times.cpu.append((process_time() - cpu) / CALLS)
        return CALLS / (perf_counter() - began)

    return slice_, times


def _stream(channel: grpc.aio.Channel) -> Callable[[], Awaitable[float]]:
    stub = retrieval_pb2_grpc.RetrievalServiceStub(channel)
    request = retrieval_pb2.ResumeAskRequest(answer_id=str(uuid4()))
    metadata = (("authorization", f"Bearer {TOKEN}"),)

    async def caller() -> None:
        async for _ in stub.ResumeAsk(request, metadata=metadata):
            pass

    async def slice_() -> float:
        began = perf_counter()
        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        return IN_FLIGHT * STREAM_EVENTS / (perf_counter() - began)

    return slice_


async def _pairs(
    ours: Callable[[], Awaitable[float]], reference: Callable[[], Awaitable[float]], count: int
) -> tuple[float, float, float]:
    """Return our median speed, the reference's, and the median of the pairs' ratios."""
    await ours(), await reference()
    pairs = [(await ours(), await reference()) for _ in range(count)]
    mine, theirs = zip(*pairs, strict=True)
    return statistics.median(mine), statistics.median(theirs), statistics.median(a / b for a, b in pairs)


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]
