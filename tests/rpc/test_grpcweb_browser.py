"""Official clients (connect-web, grpc-web) in a real browser, on another origin than the server, via both proxies."""

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest
import pytest_asyncio

from bacmr.v1 import retrieval_pb2, retrieval_pb2_grpc, wallet_pb2, wallet_pb2_grpc
from server.caller import Role
from server.refusal import InsufficientBalance
from tests.rpc.conftest import free_port

HARNESS = Path(__file__).parents[1] / "browser"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or shutil.which("node") is None, reason="needs chromium and node"),
    pytest.mark.skipif(
        not (HARNESS / "node_modules").is_dir(), reason="run `npm ci --ignore-scripts` in tests/browser once"
    ),
]


class Wallet(wallet_pb2_grpc.WalletServiceServicer):
    async def GetBalance(self, request, context):
        return wallet_pb2.GetBalanceResponse(available_tokens=20_000)

    async def Release(self, request, context):
        return wallet_pb2.ReleaseResponse()


class Retrieval(retrieval_pb2_grpc.RetrievalServiceServicer):
    def __init__(self) -> None:
        self.both_ended = asyncio.Event()
        self.ended: list[str] = []

    async def Ask(self, request, context):
        if request.question == "refused":
            raise InsufficientBalance(needed=2, available=1)
        try:
            for number in range(1, 4 if request.question == "three" else 1000):
                yield retrieval_pb2.AskEvent(sequence=number, delta=retrieval_pb2.AskDelta(text=f"صباح {number}"))
                await asyncio.sleep(0.06)
        except BaseException as error:
            self.ended.append(type(error).__name__)
            if len(self.ended) == 2:
                self.both_ended.set()
            raise


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, cwd=HARNESS, stdout=asyncio.subprocess.PIPE)
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 120)
    except BaseException:
        process.kill()
        raise
    assert process.returncode == 0
    return out.decode()


@pytest_asyncio.fixture(scope="module")
async def stubs() -> None:
    """The contract for JavaScript, generated from the protos of this tree."""
    buf = Path(sys.executable).with_name("buf")
    await run(str(buf), "generate")


@pytest.fixture(params=["pass-through", "envoy"])
async def seen(request, stubs, serve, serve_http, people):
    """What the page saw, and what the handlers saw of it."""
    retrieval, page_port = Retrieval(), free_port()
    servicers = {"WalletService": Wallet(), "RetrievalService": retrieval}
    if request.param == "envoy":
        envoy = request.getfixturevalue("envoy")
        await serve(listen=f"127.0.0.1:{envoy.backend_port}", **servicers)
        base = envoy.base
    else:
        port = await serve_http(await serve(**servicers), origins=[f"http://127.0.0.1:{page_port}"])
        base = f"http://127.0.0.1:{port.port}"
    token = people.add(Role.ADMIN).token
    page = json.loads(await run("node", "run.mjs", str(page_port), base, token, str(CHROMIUM)))
    return page, retrieval


def is_incremental(times: list[float]) -> bool:
    """The events were 60 ms apart; in one piece they would arrive together."""
    return times[-1] - times[0] > 60


async def test_official_clients_in_a_browser_see_what_every_client_sees(seen):
    page, retrieval = seen
    connect, official = page["connect"], page["official"]
    texts = ["صباح 1", "صباح 2", "صباح 3"]
    assert connect["available"] == official["balance"] == 20_000
    assert connect["requestId"]["header"] == connect["requestId"]["trailer"] == connect["requestId"]["mine"]
    for client in (connect, official):
        assert client["stream"]["texts"] == texts
        assert is_incremental(client["stream"]["times"])
    assert (connect["noToken"]["code"], official["noToken"]) == ("Unauthenticated", 16)
    assert connect["noToken"]["requestId"]
    assert connect["invalid"]["code"] == "InvalidArgument"
    assert set(connect["invalid"]["details"]) == {
        "google.rpc.ErrorInfo",
        "google.rpc.RequestInfo",
        "google.rpc.BadRequest",
    }
    assert connect["refusedStream"]["code"] == "FailedPrecondition"
    assert connect["deadline"]["code"] == "DeadlineExceeded"
    assert connect["cut"]["code"] == "Canceled"
    assert connect["admin"]["code"] == connect["internal"]["code"] == "PermissionDenied"
    await asyncio.wait_for(retrieval.both_ended.wait(), 5)
    assert set(retrieval.ended) <= {"CancelledError", "GeneratorExit"}
