"""What the logs of a call say, and what they never say."""

import io
import json
from uuid import uuid4

import pytest
import structlog
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from bacmr.v1 import auth_pb2_grpc, wallet_pb2, wallet_pb2_grpc
from server.caller import Role, Tier
from server.edge.limits import Rates
from server.telemetry import calls, logs
from tests.rpc.served import refusal, services

SECRET = "hunter2-very-secret-passphrase"
_log = structlog.get_logger("room")


class Wallet(wallet_pb2_grpc.WalletServiceServicer):
    async def GetBalance(self, request, context):
        _log.info("balance_read")
        return wallet_pb2.GetBalanceResponse()

    async def GetReservation(self, request, context):
        raise RuntimeError("broken on purpose")


class Auth(auth_pb2_grpc.AuthServiceServicer):
    async def SignIn(self, request, context):
        raise RuntimeError("broken on purpose")


@pytest.fixture
def lines():
    """What is logged from here on: a function that returns the lines as values."""
    calls.flush()
    out = io.StringIO()
    before = structlog.get_config()
    logs.configure("info", out)

    def read() -> list[dict[str, object]]:
        calls.flush()
        return [json.loads(line) for line in out.getvalue().splitlines()]

    yield read
    logs.configure("error", io.StringIO())
    structlog.configure(**before)


async def test_one_request_id_finds_everything_that_a_call_logged(serve, people, lines):
    edge = await serve(WalletService=Wallet())
    who, mine = people.add(), str(uuid4())
    stub = wallet_pb2_grpc.WalletServiceStub(edge.channel)
    metadata = (*who.metadata, ("x-request-id", mine))
    await stub.GetBalance(wallet_pb2.GetBalanceRequest(), metadata=metadata)
    await refusal(stub.GetReservation(wallet_pb2.GetReservationRequest(reservation_id=str(uuid4())), metadata=metadata))
    found = [line for line in lines() if line["request_id"] == mine]
    assert sorted(str(line["message"]) for line in found) == ["balance_read", "call", "call", "call_failed"]
    assert all({"timestamp", "level", "logger", "message", "request_id"} <= set(line) for line in found)
    answered, failed = [line for line in found if line["message"] == "call"]
    assert (answered["code"], answered["user_id"]) == ("OK", str(who.user_id))
    assert (failed["code"], failed["method"]) == ("INTERNAL", "/bacmr.v1.WalletService/GetReservation")
    (trace,) = [line["exception"] for line in found if line["message"] == "call_failed"]
    assert "RuntimeError: broken on purpose" in str(trace)


def filled(descriptor):
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
            setattr(message, field.name, SECRET)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            setattr(message, field.name, SECRET.encode())
    return message.SerializeToString()


async def test_secrets_sent_through_every_method_reach_no_log(serve, people, lines):
    unlimited = Rates(dict.fromkeys(Tier, 10**6), 10**6, 10**6)
    edge = await serve(WalletService=Wallet(), AuthService=Auth(), rates=unlimited)
    token = f"eyJhbGciOiJFUzI1NiJ9.{SECRET}.c2lnbmF0dXJl"
    for service in services():
        for method in service.descriptor.methods:
            path = f"/{service.descriptor.full_name}/{method.name}"
            for metadata in ([("authorization", f"Bearer {token}")], people.add(Role.ADMIN).metadata):
                raw = filled(method.input_type)
                await refusal(edge.channel.stream_stream(path)(iter([raw]), metadata=metadata))
    written = json.dumps(lines())
    assert len(lines()) >= 100
    assert SECRET not in written
    assert "eyJhbGciOiJFUzI1NiJ9" not in written
    assert all(who.token not in written for who in people.known.values())
