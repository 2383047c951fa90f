"""Several server processes on the same ports: one server to whoever calls it, whatever becomes of a process."""

import asyncio
import json
import os
import re
import signal
import struct
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import httpx
import pytest_asyncio

from bacmr.client import BacmrClient
from bacmr.v1 import admin_pb2, auth_pb2, retrieval_pb2, wallet_pb2
from tests import openai_server
from tests.e2e.conftest import OPERATOR, Server, children, passable_folder, start
from tests.e2e.test_main_job import SAMPLES, ingest
from tests.e2e.test_start_and_stop import gone, run

QUESTION = "Quel est le principe d'inertie énoncé par Newton ?"
ANSWER = " ".join(f"mot{number}" for number in range(40)) + " [1]."
PAUSE_SECONDS = 0.1
DRAIN_SECONDS = 3
"""Less than an answer, so that a process that is told to end cuts the streams of those that have just begun; two of them
are half as much again as one, so that on a loaded machine too it ends."""
STREAMS = 4
WEB = 2
"""Pages that call over a kept HTTP connection each."""
CALLS_PER_MINUTE = 900
CALL_PAUSE_SECONDS = 4 * 60 / CALLS_PER_MINUTE
"""Two who call without end stay at half the limit, however long a restart takes."""
JOURNAL_SECONDS = 0.5
"""Calls that other processes answered are counted within a tenth of a second."""
FRESH = [("grpc.use_local_subchannel_pool", 1)]
"""A channel with a connection of its own, which any of the processes may get."""


@pytest_asyncio.fixture(scope="module")
async def model():
    async with openai_server.serving() as wire:
        wire.script = lambda _: ANSWER
        yield wire


@pytest_asyncio.fixture(scope="module")
async def server(redis_url, model):
    provider = {"name": "fake", "base_url": model.url, "model": f"m:gap={PAUSE_SECONDS}", "api_key": "x"}
    with passable_folder() as folder:
        more = {
            "BACMR_PROCESSES": "2",
            "BACMR_REDIS_URL": redis_url,
            "BACMR_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "BACMR_MODEL_PROVIDERS": json.dumps([provider]),
            "BACMR_LIMITS_CALLS_PER_MINUTE": str(CALLS_PER_MINUTE),
            "BACMR_LIMITS_PAID_PER_MINUTE_FREE": "600",
            "BACMR_LIMITS_OPEN_ANSWERS": str(2 * STREAMS),
            "BACMR_WELCOME_TOKENS": "5000000",
        }
        running = await asyncio.to_thread(start, folder, **more)
        try:
            async with BacmrClient(running.target) as operator:
                await operator.sign_in(OPERATOR, running.password)
                await ingest(operator, SAMPLES / "physique_newton.pdf")
            yield running
        finally:
            if running.process.poll() is None:
                await asyncio.to_thread(running.stop)


@pytest_asyncio.fixture
async def student(server):
    async with BacmrClient(server.target) as client:
        await client.sign_up(f"{uuid4()}@example.org", "a long enough password")
        yield client


def servers(server: Server) -> list[int]:
    """The server processes of a parent."""
    return [pid for pid in children(server.process.pid) if b"server.cli.process" in command_line(pid)]


def command_line(pid: int) -> bytes:
    """How a process was called; nothing of one that has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def until(condition, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.05)


async def renewed(server: Server) -> None:
    """Restart all processes, one at a time, and wait until that is done."""
    before = server.output.count('"renewed"')
    server.process.send_signal(signal.SIGHUP)
    await until(lambda: server.output.count('"renewed"') > before, 120)


async def whole_answer(client: BacmrClient) -> list[retrieval_pb2.AskEvent]:
    return [event async for event in client.ask(QUESTION)]


def text_of(events: list[retrieval_pb2.AskEvent]) -> str:
    return "".join(event.delta.text for event in events)


@asynccontextmanager
async def calling(server: Server, client: BacmrClient) -> AsyncIterator[list[str]]:
    """Call without pause: on a kept channel, on a new one each time and in streams; yields what failed."""
    failed: list[str] = []
    stopping = asyncio.Event()
    token = client.session.access_token
    metadata = (("authorization", f"Bearer {token}"),)

    async def repeat(call) -> None:
        while not stopping.is_set():
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                failed.append(f"{error.code().name}: {error.details()}")
            except AssertionError as error:
                failed.append(str(error))
            except httpx.TransportError as error:
                failed.append(f"UNAVAILABLE: {error!r}")
            await asyncio.sleep(CALL_PAUSE_SECONDS)

    async def on_a_new_channel() -> None:
        # A plain channel, without the client's retries.
        async with grpc.aio.insecure_channel(server.target, options=FRESH) as channel:
            balance = channel.unary_unary("/bacmr.v1.WalletService/GetBalance")
            await balance(wallet_pb2.GetBalanceRequest().SerializeToString(), metadata=metadata)

    async def on_the_kept_channel() -> None:
        await client.wallet.GetBalance(wallet_pb2.GetBalanceRequest())

    async def a_stream() -> None:
        events = await whole_answer(client)
        assert text_of(events) == ANSWER, f"an answer of {len(events)} events is not whole"

    async def on_a_kept_http_connection() -> None:
        # A connection that a process which ends does not close first is cut under a call now and then.
        body = struct.pack(">BI", 0, 0)
        sent = await http.post(
            "/bacmr.v1.AuthService/GetJwks",
            content=body,
            headers={"content-type": "application/grpc-web+proto"},
        )
        assert sent.content[:1] == b"\x00", f"{sent.status_code}: {sent.content!r}"

    calls = [on_a_new_channel, on_the_kept_channel, *[on_a_kept_http_connection] * WEB, *[a_stream] * STREAMS]
    http = httpx.AsyncClient(base_url=f"http://{server.http}")
    tasks = [asyncio.create_task(repeat(call)) for call in calls]
    try:
        yield failed
    finally:
        stopping.set()
        await asyncio.gather(*tasks)
        await http.aclose()


def calls_counted(server: Server) -> float:
    text = read(f"http://{server.http}/metrics/prometheus")
    return sum(float(value) for value in re.findall(r"^grpc_calls_total{.*} (\S+)$", text, flags=re.MULTILINE))


async def all_money_is_right(server: Server) -> bool:
    async with BacmrClient(server.target) as operator:
        await operator.sign_in(OPERATOR, server.password)
        return (await operator.admin.ReconcileWallets(admin_pb2.ReconcileWalletsRequest())).ok


async def figures_with(server: Server, name: str) -> dict[str, Any]:
    """Read the metrics, once one that comes with a scheduled job's first run is there."""
    async with asyncio.timeout(60):
        while True:
            metrics = json.loads(await asyncio.to_thread(read, f"http://{server.http}/metrics/json"))["metrics"]
            if name in metrics:
                return metrics
            await asyncio.sleep(0.2)


async def test_metrics_are_those_of_all_processes_whoever_is_asked(server, student):
    token = student.session.access_token
    asked_for = set()
    for _ in range(24):
        async with grpc.aio.insecure_channel(server.target, options=FRESH) as channel:
            call = channel.unary_unary("/bacmr.v1.AuthService/GetMe")(
                auth_pb2.GetMeRequest().SerializeToString(), metadata=(("authorization", f"Bearer {token}"),)
            )
            await call
    await asyncio.sleep(JOURNAL_SECONDS)
    for _ in range(6):
        text = await asyncio.to_thread(read, f"http://{server.http}/metrics/prometheus")
        asked_for |= set(re.findall(r'grpc_calls_total{.*GetMe".*} (\S+)', text))
    series = await figures_with(server, "job_last_success_timestamp_seconds")
    (times,) = [
        found
        for found in series["grpc_call_duration_seconds"]["series"]
        if found["labels"]["method"].endswith("/GetMe")
    ]
    async with BacmrClient(server.target) as operator:
        await operator.sign_in(OPERATOR, server.password)
        seen = json.loads((await operator.admin.GetMetrics(admin_pb2.GetMetricsRequest())).json)["metrics"]
    assert asked_for == {"24.0"}
    assert times["count"] == 24
    assert 0 < times["min"] <= times["p50"] <= times["p95"] <= times["p99"] <= times["max"]
    assert series["server_processes"]["series"][0]["value"] == 2
    assert seen["grpc_calls_total"]["series"]
    assert {"labels": {"queue": "default"}, "value": 0.0} in series["queue_depth"]["series"]
    assert {found["labels"]["job"] for found in series["job_last_success_timestamp_seconds"]["series"]}


async def test_a_limit_is_one_limit_for_all_processes(server, student):
    token = student.session.access_token

    async def some(number: int) -> int:
        passed = 0
        async with grpc.aio.insecure_channel(server.target, options=FRESH) as channel:
            call = channel.unary_unary("/bacmr.v1.WalletService/GetBalance")
            for _ in range(number):
                try:
                    await call(
                        wallet_pb2.GetBalanceRequest().SerializeToString(),
                        metadata=(("authorization", f"Bearer {token}"),),
                    )
                    passed += 1
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                        raise
        return passed

    async with asyncio.timeout(50):
        passed = sum(await asyncio.gather(*(some(CALLS_PER_MINUTE // 8) for _ in range(10))))
    assert passed == CALLS_PER_MINUTE


async def test_a_rolling_restart_fails_no_call_and_cuts_no_answer(server, student):
    before, calls_before = servers(server), await asyncio.to_thread(calls_counted, server)
    async with calling(server, student) as failed:
        await renewed(server)
    after, calls_after = servers(server), await asyncio.to_thread(calls_counted, server)
    assert failed == []
    assert calls_after > calls_before > 0
    assert len(after) == 2
    assert not set(before) & set(after)
    assert await all_money_is_right(server)


async def test_a_killed_process_is_replaced_and_its_callers_go_on_with_their_money_right(server, student):
    before = servers(server)
    async with calling(server, student) as failed:
        await asyncio.sleep(1)
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: len(servers(server)) == 2 and before[0] not in servers(server))
        await until(lambda: server.output.count('"process_started"') > 2 and len(servers(server)) == 2)
        await asyncio.sleep(1)
    assert before[1] in servers(server)
    # What ran on the killed one is cut; whatever was cut says that it may be tried again, or ends as interrupted.
    assert all(line.startswith("UNAVAILABLE") or "is not whole" in line for line in failed)
    assert text_of(await whole_answer(student)) == ANSWER
    assert await all_money_is_right(server)


def test_a_parent_that_is_told_to_end_leaves_nothing(server):
    family = children(server.process.pid)
    assert server.stop() == 0
    assert gone(family)


def test_a_killed_parent_leaves_nothing(folder):
    server = start(folder, BACMR_PROCESSES="2", BACMR_DRAIN_SECONDS="1")
    family = children(server.process.pid)
    assert len(servers(server)) == 2
    server.stop(signal.SIGKILL)
    assert gone(family)


def test_what_keeps_a_process_from_starting_is_told_in_one_line_and_nothing_is_left(folder):
    # Found out by a process of its own, not by the parent.
    ended = run(folder, "serve", "--processes", "2", BACMR_BLOB_URL="ftp://files")
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "BACMR_BLOB_URL" in ended.stderr


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as reply:
        return reply.read().decode()
