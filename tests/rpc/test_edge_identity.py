"""Who may call what, and in which order a call is refused, over a real channel."""

from uuid import uuid4

import grpc
import pytest

from bacmr.v1 import admin_pb2, admin_pb2_grpc, auth_pb2, auth_pb2_grpc, wallet_pb2, wallet_pb2_grpc
from server.caller import Role, Tier
from server.edge.limits import Rates
from server.refusal import NotSignedIn
from tests.rpc.served import People, refusal

BALANCE = "/bacmr.v1.WalletService/GetBalance"
RESERVE = "/bacmr.v1.WalletService/Reserve"
UNREADABLE = b"\xff\xff\xff\xff"
INVALID = wallet_pb2.GetBalanceRequest(user_id="not-a-uuid").SerializeToString()


class Wallet(wallet_pb2_grpc.WalletServiceServicer):
    async def GetBalance(self, request, context):
        return wallet_pb2.GetBalanceResponse()

    async def Reserve(self, request, context):
        return wallet_pb2.ReserveResponse()


class Auth(auth_pb2_grpc.AuthServiceServicer):
    async def GetJwks(self, request, context):
        return auth_pb2.GetJwksResponse()


class Admin(admin_pb2_grpc.AdminServiceServicer):
    async def GetServerInfo(self, request, context):
        return admin_pb2.GetServerInfoResponse()


def bad_metadata() -> dict[str, list[tuple[str, str | bytes]]]:
    token = "Bearer good"
    return {
        "none": [],
        "empty": [("authorization", "")],
        "no scheme": [("authorization", "good")],
        "other scheme": [("authorization", "Basic good")],
        "scheme alone": [("authorization", "Bearer ")],
        "unknown token": [("authorization", "Bearer bad")],
        "twice the same": [("authorization", token), ("authorization", token)],
        "two tokens": [("authorization", token), ("authorization", "Bearer other")],
        "joined by a proxy": [("authorization", f"{token}, {token}")],
        "binary": [("authorization-bin", token.encode())],
        "as another header": [("x-authorization", token), ("x-admin-key", "good")],
        "a megabyte": [("authorization", "Bearer " + "a" * 1_048_576)],
        "just too long": [("authorization", "Bearer " + "a" * 8192)],
    }


@pytest.fixture
async def edge(serve, people: People):
    return await serve(WalletService=Wallet(), AuthService=Auth(), AdminService=Admin())


@pytest.mark.parametrize("how", list(bad_metadata()))
async def test_a_call_without_one_good_token_is_not_signed_in(serve, how):
    asked = []

    async def verify(token):
        asked.append(token)
        raise NotSignedIn

    edge = await serve(WalletService=Wallet(), verify=verify, client=[("grpc.max_metadata_size", 4 << 20)])
    no = await refusal(edge.channel.unary_unary(BALANCE)(b"", metadata=bad_metadata()[how]))
    assert (no.code, no.reason) == (grpc.StatusCode.UNAUTHENTICATED, "NOT_SIGNED_IN")
    assert no.sentence == "Sign in and send a valid access token."
    assert set(no.details) == {"ErrorInfo", "RequestInfo"}
    assert bool(asked) == (how in {"scheme alone", "unknown token", "joined by a proxy"})


async def test_a_megabyte_token_leaves_the_connection_of_other_calls_alone(serve, people):
    edge = await serve(WalletService=Wallet(), client=[("grpc.max_metadata_size", 4 << 20)])
    call, good = edge.channel.unary_unary(BALANCE), people.add().metadata
    for _ in range(3):
        no = await refusal(call(b"", metadata=[("authorization", "Bearer " + "a" * 1_048_576)]))
        assert no.code is grpc.StatusCode.UNAUTHENTICATED
        await call(b"", metadata=good)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_read_in_any_case(edge, people, scheme):
    await edge.channel.unary_unary(BALANCE)(b"", metadata=[("authorization", f"{scheme} {people.add().token}")])


async def test_a_public_method_needs_no_token_and_ignores_a_stale_one(edge):
    call = edge.channel.unary_unary("/bacmr.v1.AuthService/GetJwks")
    await call(b"")
    await call(b"", metadata=[("authorization", "Bearer stale")])


@pytest.mark.parametrize("role", [Role.STUDENT, Role.TEACHER, Role.ADMIN])
async def test_a_role_that_is_not_named_has_no_right(edge, people, role):
    request = wallet_pb2.ReserveRequest(
        user_id=str(uuid4()), estimate_tokens=1, purpose="ask", request_id=str(uuid4())
    ).SerializeToString()
    no = await refusal(edge.channel.unary_unary(RESERVE)(request, metadata=people.add(role).metadata))
    assert (no.code, no.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED")
    assert dict(no.info.metadata) == {"allowed": "service"}


async def test_a_role_that_is_named_has_the_right(edge, people):
    request = wallet_pb2.ReserveRequest(
        user_id=str(uuid4()), estimate_tokens=1, purpose="ask", request_id=str(uuid4())
    ).SerializeToString()
    await edge.channel.unary_unary(RESERVE)(request, metadata=people.add(Role.SERVICE).metadata)


async def test_an_admin_key_header_gives_no_rights(edge, people):
    call = edge.channel.unary_unary("/bacmr.v1.AdminService/GetServerInfo")
    for metadata in ((), people.add().metadata):
        no = await refusal(call(b"", metadata=(*metadata, ("x-admin-key", "anything"))))
        assert no.code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


@pytest.mark.parametrize(
    ("path", "role"), [("/bacmr.v1.AdminService/GetServerInfo", Role.ADMIN), (RESERVE, Role.SERVICE)]
)
async def test_internal_methods_are_refused_for_calls_from_the_web(edge, people, path, role):
    who = people.add(role)
    no = await refusal(edge.channel.unary_unary(path)(b"", metadata=(*who.metadata, ("x-grpc-web", "1"))))
    assert (no.code, no.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED")


async def test_refusals_come_in_the_order_of_the_contract(serve, people):
    edge = await serve(WalletService=Wallet(), rates=Rates(calls_per_minute=1))
    used_up = people.add()
    balance, reserve = edge.channel.unary_unary(BALANCE), edge.channel.unary_unary(RESERVE)
    await balance(b"", metadata=used_up.metadata)
    bad = [("authorization", "Bearer bad")]
    student = people.add().metadata

    async def code(call, raw, metadata):
        return (await refusal(call(raw, metadata=metadata))).code

    assert await code(balance, UNREADABLE, bad) is grpc.StatusCode.INVALID_ARGUMENT
    assert await code(reserve, INVALID, bad) is grpc.StatusCode.UNAUTHENTICATED
    assert await code(reserve, b"", student) is grpc.StatusCode.PERMISSION_DENIED
    assert await code(reserve, b"", used_up.metadata) is grpc.StatusCode.PERMISSION_DENIED
    assert await code(balance, INVALID, used_up.metadata) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await code(balance, INVALID, people.add(tier=Tier.PREMIUM).metadata) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("raw", [UNREADABLE, b"\x0a\x02\xff\xfe", b"\x0a\x7f"], ids=["garbage", "not utf-8", "cut"])
async def test_unreadable_bytes_are_refused_without_the_parsers_words(edge, raw):
    no = await refusal(edge.channel.unary_unary(BALANCE)(raw))
    assert (no.code, no.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNREADABLE_MESSAGE")
    assert no.sentence == "The message could not be read."
    assert no.details["RequestInfo"].request_id == no.trailing["x-request-id"]
