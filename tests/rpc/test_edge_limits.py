"""Rate limits over a real channel: who is counted, what the refusal says, and Redis going away."""

from uuid import uuid4

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bacmr.v1 import auth_pb2, auth_pb2_grpc, retrieval_pb2, retrieval_pb2_grpc, wallet_pb2, wallet_pb2_grpc
from server.caller import Role, Tier
from server.edge.limits import Rates
from server.refusal import AlreadyExists, TooManyAttempts, VoucherUnknown, WrongCredentials
from server.telemetry.metrics import export
from tests.rpc.served import refusal

BALANCE = "/bacmr.v1.WalletService/GetBalance"
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


class Wallet(wallet_pb2_grpc.WalletServiceServicer):
    async def GetBalance(self, request, context):
        return wallet_pb2.GetBalanceResponse()

    async def RedeemVoucher(self, request, context):
        raise VoucherUnknown

    async def Reserve(self, request, context):
        return wallet_pb2.ReserveResponse()


class Retrieval(retrieval_pb2_grpc.RetrievalServiceServicer):
    async def Ask(self, request, context):
        yield retrieval_pb2.AskEvent(sequence=1)


class Auth(auth_pb2_grpc.AuthServiceServicer):
    async def SignIn(self, request, context):
        if request.password == "wrong":
            raise WrongCredentials
        if request.password == "locked":
            raise TooManyAttempts(retry_after_seconds=60, scope="account")
        return auth_pb2.SignInResponse()

    async def SignUp(self, request, context):
        if request.email.startswith("taken"):
            raise AlreadyExists
        return auth_pb2.SignUpResponse()


def rejected(scope: str, path: str) -> float:
    for series in export.snapshot()["metrics"]["rate_limit_rejected_total"]["series"]:
        if series["labels"] == {"scope": scope, "path": path}:
            return series["value"]
    return 0.0


def ask() -> retrieval_pb2.AskRequest:
    return retrieval_pb2.AskRequest(question="q", request_id=str(uuid4()))


@pytest.mark.parametrize(("tier", "amount"), [(Tier.FREE, 10), (Tier.STANDARD, 30), (Tier.PREMIUM, 60)])
async def test_paid_calls_are_limited_by_tier(serve, people, tier, amount):
    edge = await serve(RetrievalService=Retrieval())
    who, path = people.add(tier=tier), "/bacmr.v1.RetrievalService/Ask"
    stub = retrieval_pb2_grpc.RetrievalServiceStub(edge.channel)
    before = rejected("user", path)
    for _ in range(amount):
        assert len([event async for event in stub.Ask(ask(), metadata=who.metadata)]) == 1
    no = await refusal(stub.Ask(ask(), metadata=who.metadata))
    assert (no.code, no.reason) == (EXHAUSTED, "RATE_LIMITED")
    assert 0 < no.details["RetryInfo"].retry_delay.ToTimedelta().total_seconds() <= 60
    assert no.details["QuotaFailure"].violations[0].subject == "user"
    assert dict(no.info.metadata) == {"scope": "user", "limit": str(amount), "window_seconds": "60"}
    assert rejected("user", path) == before + 1


async def test_one_users_limit_is_not_anothers(serve, people):
    edge = await serve(WalletService=Wallet(), rates=Rates(calls_per_minute=2))
    call, first = edge.channel.unary_unary(BALANCE), people.add()
    for _ in range(2):
        await call(b"", metadata=first.metadata)
    assert (await refusal(call(b"", metadata=first.metadata))).code is EXHAUSTED
    await call(b"", metadata=people.add().metadata)


async def test_ordinary_and_paid_calls_are_counted_apart(serve, people):
    edge = await serve(WalletService=Wallet(), RetrievalService=Retrieval(), rates=Rates(calls_per_minute=1))
    who = people.add()
    await edge.channel.unary_unary(BALANCE)(b"", metadata=who.metadata)
    stream = retrieval_pb2_grpc.RetrievalServiceStub(edge.channel).Ask(ask(), metadata=who.metadata)
    assert len([event async for event in stream]) == 1


async def test_callers_without_a_token_are_counted_by_address(serve):
    edge = await serve(AuthService=Auth(), rates=Rates(calls_per_minute=3))
    call = edge.channel.unary_unary("/bacmr.v1.AuthService/GetJwks")
    for _ in range(3):
        assert (await refusal(call(b""))).code is grpc.StatusCode.UNIMPLEMENTED
    no = await refusal(call(b""))
    assert (no.code, no.info.metadata["scope"]) == (EXHAUSTED, "address")


async def test_an_address_behind_our_proxy_is_counted_by_itself(serve):
    edge = await serve(AuthService=Auth(), rates=Rates(calls_per_minute=1))
    call = edge.channel.unary_unary("/bacmr.v1.AuthService/GetJwks")
    for address in ("203.0.113.1", "203.0.113.2"):
        no = await refusal(call(b"", metadata=[("x-forwarded-for", address)]))
        assert no.code is grpc.StatusCode.UNIMPLEMENTED
    no = await refusal(call(b"", metadata=[("x-forwarded-for", "9.9.9.9, 203.0.113.1")]))
    assert no.code is EXHAUSTED


async def test_an_address_behind_a_proxy_that_is_not_ours_is_not_believed(serve):
    edge = await serve(AuthService=Auth(), rates=Rates(calls_per_minute=2), proxies=())
    stub = auth_pb2_grpc.AuthServiceStub(edge.channel)
    codes = []
    for number in range(3):
        request = auth_pb2.SignInRequest(email="amina@example.org", password="wrong")
        no = await refusal(stub.SignIn(request, metadata=[("x-forwarded-for", f"203.0.113.{number}")]))
        codes.append(no.reason)
    assert codes == ["WRONG_CREDENTIALS", "WRONG_CREDENTIALS", "RATE_LIMITED"]


async def test_internal_backends_are_not_limited(serve, people):
    edge = await serve(WalletService=Wallet(), rates=Rates(calls_per_minute=1))
    for _ in range(5):
        await edge.channel.unary_unary(BALANCE)(b"", metadata=people.add(Role.SERVICE).metadata)


async def test_sign_ins_are_counted_by_the_auth_room_alone(serve):
    edge = await serve(AuthService=Auth())
    stub = auth_pb2_grpc.AuthServiceStub(edge.channel)
    for password in ("right", "wrong") * 8:
        call = stub.SignIn(auth_pb2.SignInRequest(email="amina@example.org", password=password))
        if password == "wrong":
            assert (await refusal(call)).reason == "WRONG_CREDENTIALS"
        else:
            await call
    before = rejected("account", "/bacmr.v1.AuthService/SignIn")
    no = await refusal(stub.SignIn(auth_pb2.SignInRequest(email="amina@example.org", password="locked")))
    assert (no.code, no.reason) == (EXHAUSTED, "TOO_MANY_ATTEMPTS")
    assert {"RetryInfo", "QuotaFailure"} <= set(no.details)
    assert no.details["QuotaFailure"].violations[0].subject == "account"
    assert rejected("account", "/bacmr.v1.AuthService/SignIn") - before == 1


async def test_names_that_are_taken_cannot_be_searched_for_by_signing_up(serve):
    edge = await serve(AuthService=Auth())
    stub = auth_pb2_grpc.AuthServiceStub(edge.channel)

    def sign_up(name, address):
        request = auth_pb2.SignUpRequest(email=f"{name}@example.org", password="12345678", request_id=str(uuid4()))
        return stub.SignUp(request, metadata=[("x-forwarded-for", address)])

    for _ in range(5):
        await sign_up("free", "203.0.113.5")
        assert (await refusal(sign_up("taken", "203.0.113.5"))).reason == "ALREADY_EXISTS"
    no = await refusal(sign_up("free", "203.0.113.5"))
    assert (no.code, no.reason, no.info.metadata["scope"]) == (EXHAUSTED, "TOO_MANY_ATTEMPTS", "address")
    await sign_up("free", "203.0.113.6")
    await stub.SignIn(
        auth_pb2.SignInRequest(email="amina@example.org", password="right"),
        metadata=[("x-forwarded-for", "203.0.113.5")],
    )


@pytest.mark.parametrize("token", ["Bearer bad", "Bearer " + "a" * 9000, "no scheme", ""])
async def test_bad_tokens_are_limited_by_address_and_keep_out_nobody_with_a_good_one(serve, people, token):
    edge = await serve(WalletService=Wallet(), rates=Rates(calls_per_minute=3))
    stub, behind = wallet_pb2_grpc.WalletServiceStub(edge.channel), ("x-forwarded-for", "203.0.113.5")

    def balance(authorization, address=behind):
        return stub.GetBalance(wallet_pb2.GetBalanceRequest(), metadata=[("authorization", authorization), address])

    for _ in range(3):
        assert (await refusal(balance(token))).reason == "NOT_SIGNED_IN"
    no = await refusal(balance(token))
    assert (no.code, no.reason, no.info.metadata["scope"]) == (EXHAUSTED, "RATE_LIMITED", "address")
    assert "RetryInfo" in no.details
    await balance(f"Bearer {people.add().token}")
    assert (await refusal(balance(token, ("x-forwarded-for", "203.0.113.6")))).reason == "NOT_SIGNED_IN"


async def test_voucher_codes_are_counted_by_the_wallet_room_alone(serve, people):
    edge = await serve(WalletService=Wallet())
    stub, who = wallet_pb2_grpc.WalletServiceStub(edge.channel), people.add()
    for _ in range(8):
        request = wallet_pb2.RedeemVoucherRequest(code="WRONGWRONG", request_id=str(uuid4()))
        assert (await refusal(stub.RedeemVoucher(request, metadata=who.metadata))).reason == "VOUCHER_UNKNOWN"


async def test_probes_are_not_limited(serve):
    edge = await serve(rates=Rates(calls_per_minute=1))
    stub = health_pb2_grpc.HealthStub(edge.channel)
    for _ in range(5):
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
