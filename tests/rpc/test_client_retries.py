"""The Python client asks again where nothing was done, and nowhere else."""

import grpc
import pytest
import pytest_asyncio

from bacmr import client as client_module
from bacmr.client import WAITS_SECONDS, BacmrClient
from bacmr.refusals import refusal
from bacmr.v1 import wallet_pb2, wallet_pb2_grpc
from server.refusal import InsufficientBalance, StoreUnavailable

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
