"""gRPC-Web on the HTTP port: framing, trailers, deadlines, cancel, origins, and the rules of the edge behind it."""

import asyncio
import base64
import struct
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
import yaml

from bacmr.v1 import retrieval_pb2, retrieval_pb2_grpc, wallet_pb2, wallet_pb2_grpc
from server import caller as callers
from server.caller import Role
from server.edge.limits import Rates
from server.edge.policy import policies
from tests.rpc.served import services, web_call
from tests.rpc.stopping import Stopping, serving

ROOT = Path(__file__).parents[2]

BALANCE = "/bacmr.v1.WalletService/GetBalance"
ASK = "/bacmr.v1.RetrievalService/Ask"
APP = "https://app.example.org"
BINARY = {"content-type": "application/grpc-web+proto"}


class Wallet(wallet_pb2_grpc.WalletServiceServicer):
    def __init__(self) -> None:
        self.seen = []

    async def GetBalance(self, request, context):
        self.seen.append(callers.current())
        return wallet_pb2.GetBalanceResponse(available_tokens=5)


class Retrieval(retrieval_pb2_grpc.RetrievalServiceServicer):
    """Sends an event each time the test lets it."""

    def __init__(self) -> None:
        self.permits = asyncio.Semaphore(0)
        self.ended = asyncio.Event()

    async def Ask(self, request, context):
        try:
            for number in range(1, 4):
                await self.permits.acquire()
                yield retrieval_pb2.AskEvent(sequence=number, delta=retrieval_pb2.AskDelta(text="صباح"))
        finally:
            self.ended.set()


@dataclass(frozen=True, slots=True)
class Web:
    """A way from the web to a server, with the servicers behind it."""

    base: str
    wallet: Wallet
    retrieval: Retrieval


@pytest_asyncio.fixture(params=["pass-through", "envoy"])
async def web(request, serve, serve_http) -> Web:
    """The server behind either proxy: both keep the same promises."""
    wallet, retrieval = Wallet(), Retrieval()
    servicers = {"WalletService": wallet, "RetrievalService": retrieval}
    if request.param == "envoy":
        envoy = request.getfixturevalue("envoy")
        await serve(listen=f"127.0.0.1:{envoy.backend_port}", rates=Rates(calls_per_minute=20), **servicers)
        return Web(envoy.base, wallet, retrieval)
    edge = await serve(rates=Rates(calls_per_minute=20), **servicers)
    port = await serve_http(edge, origins=[APP])
    return Web(f"http://127.0.0.1:{port.port}", wallet, retrieval)


@pytest_asyncio.fixture
async def pass_through(serve, serve_http) -> Web:
    """The server behind its own HTTP port."""
    wallet, retrieval = Wallet(), Retrieval()
    edge = await serve(WalletService=wallet, RetrievalService=retrieval)
    port = await serve_http(edge, origins=[APP])
    return Web(f"http://127.0.0.1:{port.port}", wallet, retrieval)


def question() -> bytes:
    return retrieval_pb2.AskRequest(question="q", request_id=str(uuid4())).SerializeToString()


def framed(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
async def test_a_unary_call_in_both_framings(web, people, text):
    answer = await web_call(web.base, BALANCE, b"", people.add().metadata, text=text)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith(f"application/grpc-web{'-text' if text else ''}")
    assert [wallet_pb2.GetBalanceResponse.FromString(m).available_tokens for m in answer.messages] == [5]
    assert answer.code == 0


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
async def test_a_stream_in_both_framings(web, people, text):
    for _ in range(3):
        web.retrieval.permits.release()
    answer = await web_call(web.base, ASK, question(), people.add().metadata, text=text)
    events = [retrieval_pb2.AskEvent.FromString(message) for message in answer.messages]
    assert [(event.sequence, event.delta.text) for event in events] == [(n, "صباح") for n in (1, 2, 3)]
    assert answer.code == 0


async def test_a_stream_arrives_as_it_is_sent(web, people):
    headers = {**BINARY, **dict(people.add().metadata)}
    async with (
        httpx.AsyncClient(base_url=web.base) as client,
        client.stream("POST", ASK, content=framed(question()), headers=headers) as response,
    ):
        chunks = response.aiter_raw()
        for number in (1, 2, 3):
            web.retrieval.permits.release()
            chunk = await asyncio.wait_for(anext(chunks), 5)
            assert retrieval_pb2.AskEvent.FromString(chunk[5:]).sequence == number


async def test_the_request_id_is_kept_in_headers_and_trailers(web, people):
    mine = str(uuid4())
    answer = await web_call(web.base, BALANCE, b"", [*people.add().metadata, ("x-request-id", mine)])
    assert answer.headers["x-request-id"] == answer.trailers["x-request-id"] == mine


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
async def test_a_refusal_arrives_with_its_details(web, text):
    answer = await web_call(web.base, BALANCE, b"", text=text)
    assert (answer.code, answer.reason) == (16, "NOT_SIGNED_IN")


async def test_a_deadline_of_the_browser_is_kept(web, people):
    answer = await web_call(web.base, ASK, question(), [*people.add().metadata, ("grpc-timeout", "200m")])
    assert answer.code == 4
    await asyncio.wait_for(web.retrieval.ended.wait(), 5)


async def test_a_browser_that_leaves_ends_the_handler(web, people):
    headers = {**BINARY, **dict(people.add().metadata)}
    async with (
        httpx.AsyncClient(base_url=web.base) as client,
        client.stream("POST", ASK, content=framed(question()), headers=headers) as response,
    ):
        web.retrieval.permits.release()
        await anext(response.aiter_raw())
        assert not web.retrieval.ended.is_set()
    await asyncio.wait_for(web.retrieval.ended.wait(), 5)


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("/bacmr.v1.AdminService/GetServerInfo", Role.ADMIN),
        ("/bacmr.v1.WalletService/Reserve", Role.SERVICE),
        ("/bacmr.v1.WalletService/Finalize", Role.SERVICE),
        ("/bacmr.v1.WalletService/Release", Role.SERVICE),
    ],
)
async def test_internal_methods_are_refused_even_with_the_right_role(web, people, path, role):
    answer = await web_call(web.base, path, b"", people.add(role).metadata)
    assert (answer.code, answer.messages) == (7, [])


async def test_the_same_limits_hold(web, people):
    who = people.add().metadata
    for _ in range(20):
        assert (await web_call(web.base, BALANCE, b"", who)).code == 0
    answer = await web_call(web.base, BALANCE, b"", who)
    assert (answer.code, answer.reason) == (8, "RATE_LIMITED")


async def test_the_address_is_the_one_that_a_proxy_of_ours_saw(pass_through, people):
    await web_call(
        pass_through.base, BALANCE, b"", [*people.add().metadata, ("x-forwarded-for", "spoofed, 203.0.113.9")]
    )
    assert pass_through.wallet.seen[-1].address == "203.0.113.9"


async def test_envoy_does_not_pass_on_what_a_caller_says_about_its_address(serve, envoy, people):
    wallet = Wallet()
    await serve(listen=f"127.0.0.1:{envoy.backend_port}", WalletService=wallet)
    await web_call(envoy.base, BALANCE, b"", [*people.add().metadata, ("x-forwarded-for", "203.0.113.9")])
    assert wallet.seen[-1].address != "203.0.113.9"


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00\x00", b"\x01\x00\x00\x00\x00", b"\x00\x00\x00\x00\x09x", framed(b"") + framed(b""), b"\xff" * 40],
    ids=["empty", "short", "compressed", "cut", "two messages", "garbage"],
)
async def test_a_broken_frame_is_an_unreadable_message(pass_through, people, body):
    async with httpx.AsyncClient(base_url=pass_through.base) as client:
        response = await client.post(BALANCE, content=body, headers={**BINARY, **dict(people.add().metadata)})
        assert response.status_code == 200
        assert b"grpc-status: 3" in response.content
        again = await client.post(
            BALANCE,
            content=b"%%%",
            headers={"content-type": "application/grpc-web-text", **dict(people.add().metadata)},
        )
    assert b"grpc-status: 3" in base64.b64decode(again.content)


async def test_a_request_that_is_cut_off_is_not_passed_on(pass_through, people):
    (_, token), host = people.add().metadata[0], pass_through.base.removeprefix("http://")
    head = (
        f"POST {BALANCE} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/grpc-web+proto\r\n"
        f"authorization: {token}\r\ncontent-length: 100\r\n\r\n"
    )
    _, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(head.encode() + framed(b""))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await web_call(pass_through.base, BALANCE, b"", people.add().metadata)).code == 0
    assert len(pass_through.wallet.seen) == 1


async def test_a_body_above_the_limit_is_refused_before_it_is_read(serve, serve_http, people):
    edge = await serve(WalletService=Wallet())
    port = await serve_http(edge, message_bytes=1000)
    answer = await web_call(f"http://127.0.0.1:{port.port}", BALANCE, b"x" * 2000, people.add().metadata)
    assert (answer.code, answer.reason) == (8, "QUOTA_EXCEEDED")


async def test_only_allowed_origins_may_call(pass_through, people):
    async with httpx.AsyncClient(base_url=pass_through.base) as client:
        preflight = await client.options(BALANCE, headers={"origin": APP, "access-control-request-method": "POST"})
        assert preflight.headers["access-control-allow-origin"] == APP
        assert {"authorization", "grpc-timeout", "x-grpc-web"} <= set(
            preflight.headers["access-control-allow-headers"].split(",")
        )
        evil = await client.options(BALANCE, headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in evil.headers
    allowed = await web_call(pass_through.base, BALANCE, b"", [*people.add().metadata, ("origin", APP)])
    assert (allowed.code, allowed.headers["access-control-allow-origin"]) == (0, APP)
    assert "grpc-status" in allowed.headers["access-control-expose-headers"]
    own = await web_call(pass_through.base, BALANCE, b"", [*people.add().metadata, ("origin", pass_through.base)])
    assert own.code == 0
    foreign = await web_call(
        pass_through.base, BALANCE, b"", [*people.add().metadata, ("origin", "https://evil.example")]
    )
    assert (foreign.status, foreign.messages, len(pass_through.wallet.seen)) == (403, [], 2)


@pytest.mark.parametrize(("method", "kind"), [("GET", ""), ("POST", "application/json"), ("POST", "application/grpc")])
async def test_anything_but_grpc_web_is_not_understood(pass_through, method, kind):
    async with httpx.AsyncClient(base_url=pass_through.base) as client:
        response = await client.request(method, BALANCE, headers={"content-type": kind} if kind else {})
    assert response.status_code == 415


async def test_envoy_calls_again_what_reaches_a_server_as_it_stops(envoy):
    async with serving(Stopping(), f"127.0.0.1:{envoy.backend_port}") as (stopping, _):
        stopping.refusals = 2
        answer = await web_call(envoy.base, BALANCE, b"")
    assert [wallet_pb2.GetBalanceResponse.FromString(m).available_tokens for m in answer.messages] == [5]
    assert (answer.code, stopping.asked) == (0, 3)


async def test_envoy_refuses_exactly_the_internal_methods_of_the_contract(envoy):
    configuration = yaml.safe_load((ROOT / "deploy/envoy.yaml").read_text())
    manager = configuration["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    (rules,) = [f["typed_config"]["rules"] for f in manager["http_filters"] if f["name"].endswith(".rbac")]
    refused = [permission["url_path"]["path"] for permission in rules["policies"]["internal"]["permissions"]]

    def is_refused(path: str) -> bool:
        return any(path == rule.get("exact") or path.startswith(rule.get("prefix", "\0")) for rule in refused)

    found = policies([service.descriptor for service in services()])
    assert {path for path in found if is_refused(path)} == {path for path, policy in found.items() if policy.internal}
