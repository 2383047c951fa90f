"""What operators do through AdminService: people, money, the trail of both, and a look at the server."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp

from bacmr.client import BacmrClient, request_id
from bacmr.refusals import Refusal, refusal
from bacmr.v1 import access_pb2, admin_pb2, auth_pb2, wallet_pb2
from tests.e2e.conftest import OPERATOR, Server

PASSWORD = "a long enough password"
RPCS = [method.name for method in admin_pb2.DESCRIPTOR.services_by_name["AdminService"].methods]
FOR_SERVICES = {
    "CheckAccess",
    "ReconcileWallets",
    "ListDiscrepancies",
    "GetTrace",
    "GetServerInfo",
    "GetStatus",
    "GetMetrics",
}


async def refused(call: Any) -> Refusal:
    """Await a call, or read a stream to its end, and return how it was refused."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    return refusal(error.value)


def empty_call(client: BacmrClient, rpc: str) -> Any:
    return getattr(client.admin, rpc)(getattr(admin_pb2, f"{rpc}Request")())


@pytest_asyncio.fixture(scope="module")
async def operator(server: Server) -> AsyncIterator[BacmrClient]:
    async with BacmrClient(server.target) as client:
        await client.sign_in(OPERATOR, server.password)
        yield client


@pytest_asyncio.fixture(scope="module")
async def sign_up(server: Server) -> AsyncIterator[Callable[[], Awaitable[BacmrClient]]]:
    """A function that signs up a student."""
    clients: list[BacmrClient] = []

    async def new() -> BacmrClient:
        client = BacmrClient(server.target)
        clients.append(client)
        await client.sign_up(f"{uuid4()}@example.org", PASSWORD, display_name="Aminetou")
        return client

    yield new
    for client in clients:
        await client.close()


@pytest_asyncio.fixture
async def student(sign_up: Callable[[], Awaitable[BacmrClient]]) -> BacmrClient:
    return await sign_up()


def user_id(client: BacmrClient) -> str:
    assert client.session is not None
    return client.session.user.id


async def give_role(operator: BacmrClient, client: BacmrClient, role: int) -> auth_pb2.User:
    asked = admin_pb2.UpdateUserRoleRequest(user_id=user_id(client), role=role, request_id=request_id())
    return (await operator.admin.UpdateUserRole(asked)).user


async def renewed(client: BacmrClient) -> auth_pb2.User:
    assert client.session is not None
    return await client.restore(client.session.refresh_token)


@pytest.mark.parametrize("rpc", RPCS)
async def test_a_student_may_call_nothing_here(student: BacmrClient, rpc: str) -> None:
    assert (await refused(empty_call(student, rpc))).reason == "ROLE_NOT_ALLOWED"


@pytest.mark.parametrize("rpc", RPCS)
async def test_nobody_may_call_nothing_here(server: Server, rpc: str) -> None:
    async with BacmrClient(server.target) as nobody:
        assert (await refused(empty_call(nobody, rpc))).reason == "NOT_SIGNED_IN"


async def test_a_backend_may_look_and_check_but_change_nothing(operator: BacmrClient, student: BacmrClient) -> None:
    await give_role(operator, student, access_pb2.ROLE_SERVICE)
    await renewed(student)
    for rpc in sorted(set(RPCS) - FOR_SERVICES):
        assert (await refused(empty_call(student, rpc))).reason == "ROLE_NOT_ALLOWED", rpc
    assert (await student.admin.CheckAccess(admin_pb2.CheckAccessRequest())).role == access_pb2.ROLE_SERVICE
    assert (await student.admin.ReconcileWallets(admin_pb2.ReconcileWalletsRequest())).ok


async def test_a_new_role_and_tier_show_in_the_token_from_the_next_refresh(
    operator: BacmrClient, student: BacmrClient
) -> None:
    await give_role(operator, student, access_pb2.ROLE_ADMIN)
    asked = admin_pb2.UpdateUserTierRequest(
        user_id=user_id(student), tier=access_pb2.TIER_PREMIUM, request_id=request_id()
    )
    await operator.admin.UpdateUserTier(asked)
    assert (await refused(empty_call(student, "CheckAccess"))).reason == "ROLE_NOT_ALLOWED"
    await renewed(student)
    access = await student.admin.CheckAccess(admin_pb2.CheckAccessRequest())
    assert (access.user_id, access.role, access.tier) == (
        user_id(student),
        access_pb2.ROLE_ADMIN,
        access_pb2.TIER_PREMIUM,
    )


async def test_a_disabled_account_is_signed_out_and_comes_back_when_enabled(
    operator: BacmrClient, student: BacmrClient
) -> None:
    def ask(disabled: bool) -> admin_pb2.SetUserDisabledRequest:
        return admin_pb2.SetUserDisabledRequest(user_id=user_id(student), disabled=disabled, request_id=request_id())

    email = student.session.user.email if student.session else ""
    await operator.admin.SetUserDisabled(ask(True))
    gone = await refused(student.wallet.GetBalance(wallet_pb2.GetBalanceRequest()))
    locked = await refused(student.auth.SignIn(auth_pb2.SignInRequest(email=email, password=PASSWORD)))
    await operator.admin.SetUserDisabled(ask(False))
    await student.sign_in(email, PASSWORD)
    assert gone.reason in ("NOT_SIGNED_IN", "REFRESH_REFUSED")
    assert locked.reason == "ACCOUNT_DISABLED"


async def test_accounts_are_found_by_role_and_by_part_of_their_address(
    operator: BacmrClient, student: BacmrClient
) -> None:
    part = student.session.user.email[4:20] if student.session else ""
    found = await operator.admin.ListUsers(admin_pb2.ListUsersRequest(role=access_pb2.ROLE_STUDENT, query=part))
    none = await operator.admin.ListUsers(admin_pb2.ListUsersRequest(role=access_pb2.ROLE_ADMIN, query=part))
    one = await operator.admin.GetUser(admin_pb2.GetUserRequest(user_id=user_id(student)))
    assert [user.id for user in found.users] == [user_id(student)]
    assert list(none.users) == []
    assert one.user == found.users[0]


async def test_accounts_are_listed_in_pages_newest_first(
    operator: BacmrClient, sign_up: Callable[[], Awaitable[BacmrClient]]
) -> None:
    older, newer = await sign_up(), await sign_up()
    first = await operator.admin.ListUsers(admin_pb2.ListUsersRequest(page_size=1))
    second = await operator.admin.ListUsers(admin_pb2.ListUsersRequest(page_size=1, page_token=first.next_page_token))
    assert [page.users[0].id for page in (first, second)] == [user_id(newer), user_id(older)]


async def test_what_is_not_there_is_not_found(operator: BacmrClient) -> None:
    nothing = str(uuid4())
    calls = (
        operator.admin.GetUser(admin_pb2.GetUserRequest(user_id=nothing)),
        operator.admin.AdjustBalance(
            admin_pb2.AdjustBalanceRequest(user_id=nothing, delta_tokens=1, reason="x", request_id=request_id())
        ),
        operator.admin.GetTrace(admin_pb2.GetTraceRequest(request_id=nothing)),
        operator.admin.GetOperation(admin_pb2.GetOperationRequest(operation_id=nothing)),
        operator.admin.WatchOperation(admin_pb2.WatchOperationRequest(operation_id=nothing)),
        operator.admin.CancelOperation(admin_pb2.CancelOperationRequest(operation_id=nothing, request_id=request_id())),
    )
    assert [(await refused(call)).reason for call in calls] == ["NOT_FOUND"] * len(calls)


async def test_a_balance_is_corrected_once_and_never_below_zero(operator: BacmrClient, student: BacmrClient) -> None:
    def ask(delta: int) -> admin_pb2.AdjustBalanceRequest:
        return admin_pb2.AdjustBalanceRequest(
            user_id=user_id(student), delta_tokens=delta, reason="a lost payment", request_id=request_id()
        )

    before = (await student.wallet.GetBalance(wallet_pb2.GetBalanceRequest())).available_tokens
    added = ask(500)
    entry = (await operator.admin.AdjustBalance(added)).entry
    again = (await operator.admin.AdjustBalance(added)).entry
    too_much = await refused(operator.admin.AdjustBalance(ask(-before - 501)))
    after = (await student.wallet.GetBalance(wallet_pb2.GetBalanceRequest())).available_tokens
    assert entry == again
    assert (entry.amount_tokens, entry.balance_after_tokens) == (500, before + 500)
    assert (too_much.reason, too_much.metadata["available"]) == ("INSUFFICIENT_BALANCE", str(before + 500))
    assert after == before + 500


async def test_vouchers_are_made_once_and_add_their_tokens(operator: BacmrClient, student: BacmrClient) -> None:
    expires_at = Timestamp()
    expires_at.GetCurrentTime()
    expires_at.seconds += 3_600
    asked = admin_pb2.IssueVouchersRequest(
        count=2, tokens=700, expires_at=expires_at, note="Lycée de Kiffa", request_id=request_id()
    )
    issued = await operator.admin.IssueVouchers(asked)
    again = await operator.admin.IssueVouchers(asked)
    before = (await student.wallet.GetBalance(wallet_pb2.GetBalanceRequest())).available_tokens
    redeemed = await student.wallet.RedeemVoucher(
        wallet_pb2.RedeemVoucherRequest(code=issued.codes[0], request_id=request_id())
    )
    trail = await operator.admin.ListAuditEvents(
        admin_pb2.ListAuditEventsRequest(object=f"voucher_batch/{issued.batch_id}")
    )
    assert again == issued
    assert [json.loads(event.after)["note"] for event in trail.events] == ["Lycée de Kiffa"]
    assert len(set(issued.codes)) == 2
    assert redeemed.balance_tokens == before + 700


async def test_every_change_stands_in_the_audit_with_actor_before_after_and_request(
    operator: BacmrClient, student: BacmrClient
) -> None:
    asked = admin_pb2.UpdateUserTierRequest(
        user_id=user_id(student), tier=access_pb2.TIER_STANDARD, request_id=request_id()
    )
    correlation = str(uuid4())
    await operator.admin.UpdateUserTier(asked, metadata=(("x-request-id", correlation),))
    await give_role(operator, student, access_pb2.ROLE_TEACHER)
    trail = await operator.admin.ListAuditEvents(admin_pb2.ListAuditEventsRequest(object=f"user/{user_id(student)}"))
    role, tier = trail.events
    assert (role.action, json.loads(role.before)["role"], json.loads(role.after)["role"]) == (
        "UpdateUserRole",
        "student",
        "teacher",
    )
    assert (tier.action, json.loads(tier.before)["tier"], json.loads(tier.after)["tier"]) == (
        "UpdateUserTier",
        "free",
        "standard",
    )
    assert tier.request_id == correlation
    assert {role.actor_id, tier.actor_id} == {user_id(operator)}


async def test_the_state_of_the_server_names_its_stores_queues_and_jobs(operator: BacmrClient) -> None:
    info = await operator.admin.GetServerInfo(admin_pb2.GetServerInfoRequest())
    status = await operator.admin.GetStatus(admin_pb2.GetStatusRequest())
    assert info.version
    assert info.schema_revision
    assert info.model_chain
    assert status.serving
    assert {store.name: store.healthy for store in status.stores} == {
        "postgresql": True,
        "milvus": True,
        "blobs": True,
    }
    assert [queue.name for queue in status.queues]
    assert {"expire_reservations", "reconcile_wallets"} <= {job.name for job in status.jobs}
    assert any(index.state == admin_pb2.INDEX_STATE_ACTIVE for index in status.indexes)


async def test_metrics_come_as_json(operator: BacmrClient) -> None:
    metrics = json.loads((await operator.admin.GetMetrics(admin_pb2.GetMetricsRequest())).json)
    assert "grpc_calls_total" in json.dumps(metrics)


async def test_what_a_reconciliation_finds_is_listed(operator: BacmrClient) -> None:
    report = await operator.admin.ReconcileWallets(admin_pb2.ReconcileWalletsRequest())
    found = await operator.admin.ListDiscrepancies(admin_pb2.ListDiscrepanciesRequest())
    assert report.ok
    assert len(report.checks) >= 8
    assert list(found.discrepancies) == []
