"""Every promise of the edge, over a real channel."""

from uuid import uuid4

import grpc

from bacmr.v1 import wallet_pb2, wallet_pb2_grpc
from server import caller as callers
from server.caller import Role
from tests.rpc.served import refusal


class Wallet(wallet_pb2_grpc.WalletServiceServicer):
    async def GetBalance(self, request, context):
        who = callers.current()
        return wallet_pb2.GetBalanceResponse(available_tokens=int(who.role is Role.STUDENT), posted_tokens=7)

    async def Reserve(self, request, context):
        return wallet_pb2.ReserveResponse()


async def test_a_call_is_answered_with_its_request_id_in_both_metadata(serve, people):
    edge = await serve(WalletService=Wallet())
    amina, mine = people.add(), str(uuid4())
    call = wallet_pb2_grpc.WalletServiceStub(edge.channel).GetBalance(
        wallet_pb2.GetBalanceRequest(), metadata=(*amina.metadata, ("x-request-id", mine))
    )
    answer = await call
    assert answer.posted_tokens == 7
    assert dict(await call.initial_metadata())["x-request-id"] == mine
    assert dict(await call.trailing_metadata())["x-request-id"] == mine


async def test_no_token(serve):
    edge = await serve(WalletService=Wallet())
    no = await refusal(wallet_pb2_grpc.WalletServiceStub(edge.channel).GetBalance(wallet_pb2.GetBalanceRequest()))
    assert (no.code, no.reason) == (grpc.StatusCode.UNAUTHENTICATED, "NOT_SIGNED_IN")
    print(no)
    assert no.initial["x-request-id"] == no.details["RequestInfo"].request_id
