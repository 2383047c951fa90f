"""The Python client asks again where nothing was done, and nowhere else."""

import asyncio
import socket

import grpc
import pytest
import pytest_asyncio

from bacmr import client as client_module
from bacmr.client import WAITS_SECONDS, BacmrClient
from bacmr.refusals import refusal
from bacmr.v1 import retrieval_pb2, wallet_pb2, wallet_pb2_grpc
from server.refusal import InsufficientBalance, StoreUnavailable
from tests.rpc.stopping import Stopping, serving

TRIES = len(WAITS_SECONDS) + 1


class Wallet(wallet_pb2_grpc.WalletServiceServicer):
    """Fails as often as it is told to, then answers."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.asked = 0

    async def GetBalance(self, request, context):
        self.asked += 1
        if self.failures:
            raise self.failures.pop()
        return wallet_pb2.GetBalanceResponse(available_tokens=5)


@pytest_asyncio.fixture
async def wallet(serve, people, monkeypatch):
    monkeypatch.setattr(client_module, "WAITS_SECONDS", (0.01,) * len(WAITS_SECONDS))
    served = Wallet()
    edge = await serve(WalletService=served)
    async with BacmrClient(edge.address, access_token=people.add().token) as client:
        served.client = client
        yield served


async def balance(wallet, **options) -> int:
    reply = await wallet.client.wallet.GetBalance(wallet_pb2.GetBalanceRequest(), **options)
    return reply.available_tokens


async def test_a_store_that_was_away_for_a_moment_is_not_seen(wallet):
    wallet.failures = [StoreUnavailable(store="postgresql")] * 3
    assert await balance(wallet) == 5
    assert wallet.asked == 4


async def test_a_store_that_stays_away_is_told_in_the_end(wallet):
    wallet.failures = [StoreUnavailable(store="postgresql")] * 100
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await balance(wallet)
    assert refusal(error.value).reason == "STORE_UNAVAILABLE"
    assert wallet.asked == TRIES


async def test_a_refusal_is_final(wallet):
    wallet.failures = [InsufficientBalance(needed=2, available=1)]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await balance(wallet)
    assert refusal(error.value).reason == "INSUFFICIENT_BALANCE"
    assert wallet.asked == 1


async def test_all_tries_together_keep_the_callers_deadline(wallet, monkeypatch):
    monkeypatch.setattr(client_module, "WAITS_SECONDS", (10.0,))
    wallet.failures = [StoreUnavailable(store="postgresql")] * 100
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await balance(wallet, timeout=2.0)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert wallet.asked == 1


@pytest_asyncio.fixture
async def stopping(monkeypatch):
    monkeypatch.setattr(client_module, "WAITS_SECONDS", (0.01,) * len(WAITS_SECONDS))
    monkeypatch.setattr(client_module, "SERVICE_CONFIG", client_module.SERVICE_CONFIG.replace('"0.2s"', '"0.01s"'))
    async with serving(Stopping(), "127.0.0.1:0") as (served, port), BacmrClient(f"127.0.0.1:{port}") as client:
        served.client = client
        yield served


async def test_a_call_that_reaches_a_server_as_it_stops_is_made_again(stopping):
    stopping.refusals = 2
    assert await balance(stopping) == 5
    assert stopping.asked == 3


async def test_a_question_that_reaches_a_server_as_it_stops_is_asked_again(stopping):
    stopping.refusals = 2
    assert len([event async for event in stopping.client.ask("Pourquoi ?")]) == 1
    assert stopping.asked == 3


async def test_a_file_that_reaches_a_server_as_it_stops_is_sent_again_whole(stopping, tmp_path):
    file = tmp_path / "lesson.pdf"
    file.write_bytes(bytes(3 * client_module.UPLOAD_PART_BYTES))
    stopping.refusals = 2
    assert (await stopping.client.upload(file, "application/pdf")).size_bytes == file.stat().st_size
    assert stopping.asked == 3


async def test_a_cancel_of_the_callers_own_is_final(stopping):
    stopping.gate = asyncio.Event()
    asking = asyncio.create_task(balance(stopping))
    while not stopping.asked:  # noqa: ASYNC110 - another task's work is waited for
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    stopping.gate = None
    assert await balance(stopping) == 5
    assert stopping.asked == 2


async def test_a_server_that_is_not_there_is_told_and_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(client_module, "WAITS_SECONDS", (0.01,))
    monkeypatch.setattr(client_module, "PATIENCE_SECONDS", 0.01)
    with socket.socket() as taken:  # bound and never listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        async with BacmrClient(f"127.0.0.1:{taken.getsockname()[1]}", access_token="t") as client:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await client.wallet.GetBalance(wallet_pb2.GetBalanceRequest())
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await anext(aiter(client.retrieval.Ask(retrieval_pb2.AskRequest(question="?"))))
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
