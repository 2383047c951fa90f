"""WalletService over a real channel: every RPC's answer, and the refusals that callers must be able to tell apart."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
import pytest_asyncio

from bacmr.v1 import wallet_pb2, wallet_pb2_grpc
from server.caller import Caller, Role, acting_as
from server.database.once import Once
from server.wallet.credits import CreditService
from server.wallet.service import WalletService
from server.wallet.servicer import WalletServicer
from tests.rpc.served import Edge, Refused, Who, refusal


async def unaudited(*_: object) -> None:
    """Record nothing."""


@dataclass(frozen=True)
class Client:
    """Somebody on the channel."""

    edge: Edge
    who: Who | None

    @property
    def user_id(self) -> str:
        return str(self.who.user_id) if self.who else ""

    async def ask(self, rpc: str, **fields: Any) -> Any:
        return await self._call(rpc, fields)

    async def refusal(self, rpc: str, **fields: Any) -> Refused:
        return await refusal(self._call(rpc, fields))

    def _call(self, rpc: str, fields: dict[str, Any]) -> Any:
        method = getattr(wallet_pb2_grpc.WalletServiceStub(self.edge.channel), rpc)
        metadata = self.who.metadata if self.who else ()
        return method(getattr(wallet_pb2, f"{rpc}Request")(**fields), metadata=metadata, timeout=20)


@dataclass(frozen=True)
class Room:
    """A served wallet: a student with 1000 tokens, another, an admin, a backend, and nobody."""

    student: Client
    other: Client
    admin: Client
    service: Client
    nobody: Client
    credits: CreditService
    owner: psycopg.Connection

    async def hold(self, estimate: int = 100, request_id: str = "") -> wallet_pb2.Reservation:
        fields = {"user_id": self.student.user_id, "estimate_tokens": estimate, "purpose": "ask"}
        return (await self.service.ask("Reserve", request_id=request_id or str(uuid4()), **fields)).reservation

    async def code(self, tokens: int = 500) -> str:
        with acting_as(Caller(user_id=uuid4(), role=Role.ADMIN)):
            return (await self.credits.issue_vouchers(1, tokens, None, uuid4())).codes[0]


@pytest_asyncio.fixture
async def room(serve, database, owner, make_user):
    wallet = WalletService(database)
    desk = CreditService(database, Once(database), audit=unaudited, voucher_key=b"k" * 32)
    edge = await serve(WalletService=WalletServicer(wallet, desk))

    def client(role: str, tokens: int = 0) -> Client:
        user = make_user(role=role, tokens=tokens)
        who = Who(f"token-{uuid4()}", user.user_id, Role(role))
        edge.people.known[who.token] = who
        return Client(edge, who)

    yield Room(
        client("student", 1_000),
        client("student", 50),
        client("admin"),
        client("service"),
        Client(edge, None),
        desk,
        owner,
    )
    await wallet.close()


def request(**fields):
    return {"request_id": str(uuid4()), **fields}


async def test_a_student_sees_the_own_balance(room):
    await room.hold(100)
    balance = await room.student.ask("GetBalance")
    assert (balance.available_tokens, balance.held_tokens, balance.posted_tokens) == (900, 100, 1_000)


@pytest.mark.parametrize("who", ["admin", "service"])
async def test_operators_see_any_balance(room, who):
    assert (await getattr(room, who).ask("GetBalance", user_id=room.student.user_id)).available_tokens == 1_000


async def test_a_reservation_is_held_charged_and_listed(room):
    reservation = await room.hold(100)
    assert reservation.status == wallet_pb2.RESERVATION_STATUS_HELD
    assert reservation.expires_at.seconds - reservation.created_at.seconds == 300
    fields = request(reservation_id=reservation.id, actual_tokens=60)
    receipt = (await room.service.ask("Finalize", **fields)).receipt
    assert (receipt.reserved_tokens, receipt.charged_tokens, receipt.refunded_tokens) == (100, 60, 40)
    assert (receipt.written_off_tokens, receipt.balance_tokens) == (0, 940)
    assert (receipt.request_id, receipt.reservation_id) == (fields["request_id"], reservation.id)
    listed = (await room.student.ask("ListReservations")).reservations
    assert [(r.id, r.status, r.charged_tokens) for r in listed] == [
        (reservation.id, wallet_pb2.RESERVATION_STATUS_FINALIZED, 60)
    ]
    assert listed[0].HasField("resolved_at")


async def test_reservations_are_listed_by_status_in_pages(room):
    held = [await room.hold(10) for _ in range(3)]
    await room.service.ask("Release", **request(reservation_id=held[0].id))
    first = await room.student.ask("ListReservations", status=wallet_pb2.RESERVATION_STATUS_HELD, page_size=1)
    rest = await room.student.ask(
        "ListReservations", status=wallet_pb2.RESERVATION_STATUS_HELD, page_size=5, page_token=first.next_page_token
    )
    assert [r.id for r in (*first.reservations, *rest.reservations)] == [held[2].id, held[1].id]
    assert rest.next_page_token == ""


async def test_a_reservation_is_the_owner_s_to_see(room):
    reservation = await room.hold()
    assert (await room.student.ask("GetReservation", reservation_id=reservation.id)).reservation.id == reservation.id
    refused = await room.other.refusal("GetReservation", reservation_id=reservation.id)
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_ledger_entries_carry_accounts_balance_and_hash(room):
    reservation = await room.hold(100)
    await room.service.ask("Finalize", **request(reservation_id=reservation.id, actual_tokens=150))
    entries = (await room.student.ask("ListLedgerEntries")).entries
    kinds = [wallet_pb2.LedgerKind.Name(entry.kind).removeprefix("LEDGER_KIND_") for entry in entries]
    assert kinds == ["CHARGE", "OVERAGE", "HOLD", "GRANT"]
    charge = entries[0]
    assert (charge.debit_account, charge.credit_account) == ("user:held", "platform:revenue")
    assert (charge.amount_tokens, charge.balance_after_tokens, charge.sequence) == (150, 850, 4)
    assert (charge.reservation_id, len(charge.hash), UUID(charge.id).version) == (reservation.id, 64, 8)


async def test_a_page_larger_than_the_largest_is_cut_to_it_instead_of_refused(room):
    await room.hold(10)
    page = await room.student.ask("ListLedgerEntries", page_size=10_000)
    assert [entry.sequence for entry in page.entries] == [2, 1]


async def test_every_page_of_the_ledger_is_reached(room):
    for _ in range(3):
        await room.hold(10)
    seen, token = [], ""
    while True:
        page = await room.student.ask("ListLedgerEntries", page_size=3, page_token=token)
        seen += [entry.sequence for entry in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert seen == [4, 3, 2, 1]


async def test_a_voucher_is_redeemed_once(room):
    code = await room.code(500)
    redeemed = await room.student.ask("RedeemVoucher", **request(code=code))
    assert (redeemed.tokens, redeemed.balance_tokens) == (500, 1_500)
    refused = await room.student.refusal("RedeemVoucher", **request(code=code))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VOUCHER_USED")


async def test_a_wrong_code_says_so_and_guessing_is_stopped(room):
    for _ in range(5):
        refused = await room.other.refusal("RedeemVoucher", **request(code="AAAA-AAAA-AAAA-AAAA"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "VOUCHER_UNKNOWN")
    refused = await room.other.refusal("RedeemVoucher", **request(code=await room.code()))
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_ATTEMPTS")
    assert 0 < refused.details["RetryInfo"].retry_delay.seconds <= 900


async def test_a_released_reservation_is_given_back(room):
    reservation = await room.hold(100)
    receipt = (await room.service.ask("Release", **request(reservation_id=reservation.id))).receipt
    assert (receipt.charged_tokens, receipt.refunded_tokens, receipt.balance_tokens) == (0, 100, 1_000)


@pytest.mark.parametrize(
    ("first", "reason"), [("Finalize", "RESERVATION_FINALIZED"), ("Release", "RESERVATION_RELEASED")]
)
async def test_a_second_resolution_says_how_it_ended(room, first, reason):
    reservation = await room.hold(100)
    actual = {"actual_tokens": 60} if first == "Finalize" else {}
    await room.service.ask(first, **request(reservation_id=reservation.id, **actual))
    refused = await room.service.refusal("Finalize", **request(reservation_id=reservation.id, actual_tokens=60))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, reason)


async def test_an_overdue_reservation_cannot_be_finalized(room):
    reservation = await room.hold(100)
    room.owner.execute(
        "UPDATE reservation SET created_at = created_at - interval '301 s', expires_at = expires_at - interval '301 s'"
        " WHERE id = %s",
        [reservation.id],
    )
    refused = await room.service.refusal("Finalize", **request(reservation_id=reservation.id, actual_tokens=60))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RESERVATION_EXPIRED")


async def test_too_little_balance_says_what_is_missing(room):
    fields = request(user_id=room.student.user_id, estimate_tokens=1_001, purpose="ask")
    refused = await room.service.refusal("Reserve", **fields)
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INSUFFICIENT_BALANCE")
    assert (refused.info.metadata["needed"], refused.info.metadata["available"]) == ("1001", "1000")


async def test_fifty_identical_reserves_get_one_answer_for_good(room):
    fields = request(user_id=room.student.user_id, estimate_tokens=100, purpose="ask")
    answers = await asyncio.gather(*(room.service.ask("Reserve", **fields) for _ in range(50)))
    assert len({answer.SerializeToString() for answer in answers}) == 1
    await room.service.ask("Release", **request(reservation_id=answers[0].reservation.id))
    assert await room.service.ask("Reserve", **fields) == answers[0]


@pytest.mark.parametrize("change", [{"estimate_tokens": 101}, {"purpose": "quiz"}, {"user_id": ""}])
async def test_a_reserve_with_another_payload_is_refused(room, change):
    fields = request(user_id=room.student.user_id, estimate_tokens=100, purpose="ask")
    await room.service.ask("Reserve", **fields)
    if "user_id" in change:
        change = {"user_id": room.other.user_id, "estimate_tokens": 100}
    refused = await room.service.refusal("Reserve", **fields | change)
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_retried_finalize_gets_the_first_receipt(room):
    fields = request(reservation_id=(await room.hold()).id, actual_tokens=60)
    first = await room.service.ask("Finalize", **fields)
    await room.hold(10)
    assert await room.service.ask("Finalize", **fields) == first
    refused = await room.service.refusal("Finalize", **fields | {"actual_tokens": 61})
    assert refused.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize("first", ["Reserve", "Finalize", "Release"])
@pytest.mark.parametrize("then", ["Reserve", "Finalize", "Release"])
async def test_a_used_request_id_is_told_before_what_it_asks_for_is_missing(room, first, then):
    missing = str(uuid4())
    asked = {
        "Reserve": {"user_id": missing, "estimate_tokens": 10, "purpose": "ask"},
        "Finalize": {"reservation_id": missing, "actual_tokens": 10},
        "Release": {"reservation_id": missing},
    }
    here = {"user_id": room.student.user_id} if first == "Reserve" else {"reservation_id": (await room.hold()).id}
    used = request(**asked[first] | here)
    answer = await room.service.ask(first, **used)
    refused = await room.service.refusal(then, **asked[then], request_id=used["request_id"])
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert await room.service.ask(first, **used) == answer
    fresh = await room.service.refusal(then, **request(**asked[then]))
    assert (fresh.code, fresh.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


@pytest.mark.parametrize("ended", ["Finalize", "Release"])
async def test_a_used_request_id_is_told_before_how_another_reservation_ended(room, ended):
    one, other, used = await room.hold(), await room.hold(), request(actual_tokens=5)
    await room.service.ask("Finalize", reservation_id=one.id, **used)
    actual = {"actual_tokens": 5} if ended == "Finalize" else {}
    await room.service.ask(ended, **request(reservation_id=other.id, **actual))
    refused = await room.service.refusal("Finalize", reservation_id=other.id, **used)
    assert refused.reason == "REQUEST_ID_REUSED"


async def test_a_ledger_verifies_by_name(room):
    await room.hold()
    report = await room.student.ask("VerifyLedger")
    assert report.ok
    assert "hash_chain_verifies" in {check.name for check in report.checks}
    assert (await room.admin.ask("VerifyLedger", user_id=room.student.user_id)).ok


@pytest.mark.parametrize(
    ("rpc", "fields"),
    [
        ("Reserve", {"estimate_tokens": 10, "purpose": "ask"}),
        ("Finalize", {"actual_tokens": 10}),
        ("Release", {}),
    ],
)
@pytest.mark.parametrize("who", ["student", "admin", "nobody"])
async def test_only_services_move_tokens(room, rpc, fields, who):
    reservation = await room.hold()
    target = {"user_id": room.student.user_id} if rpc == "Reserve" else {"reservation_id": reservation.id}
    refused = await getattr(room, who).refusal(rpc, **request(**fields, **target))
    expected = grpc.StatusCode.UNAUTHENTICATED if who == "nobody" else grpc.StatusCode.PERMISSION_DENIED
    assert refused.code == expected
    assert (await room.student.ask("GetBalance")).held_tokens == 100


@pytest.mark.parametrize("rpc", ["GetBalance", "ListReservations", "ListLedgerEntries", "VerifyLedger"])
async def test_another_person_s_wallet_is_not_found(room, rpc):
    refused = await room.other.refusal(rpc, user_id=room.student.user_id)
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


@pytest.mark.parametrize("rpc", ["GetBalance", "ListReservations", "ListLedgerEntries", "VerifyLedger"])
async def test_a_user_who_does_not_exist_is_not_found(room, rpc):
    refused = await room.admin.refusal(rpc, user_id=str(uuid4()))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_a_wallet_without_reservations_has_an_empty_list(room):
    assert not (await room.admin.ask("ListReservations", user_id=room.student.user_id)).reservations


@pytest.mark.parametrize("rpc", ["GetBalance", "ListReservations", "ListLedgerEntries", "VerifyLedger"])
async def test_nobody_sees_nothing(room, rpc):
    assert (await room.nobody.refusal(rpc)).code == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("who", "rpc", "fields", "field"),
    [
        ("service", "Reserve", {"user_id": "x", "estimate_tokens": 5, "purpose": "ask"}, "user_id"),
        (
            "service",
            "Reserve",
            {"user_id": str(UUID(int=1)), "estimate_tokens": 0, "purpose": "ask"},
            "estimate_tokens",
        ),
        (
            "service",
            "Reserve",
            {"user_id": str(UUID(int=1)), "estimate_tokens": -1, "purpose": "ask"},
            "estimate_tokens",
        ),
        ("service", "Reserve", {"user_id": str(UUID(int=1)), "estimate_tokens": 5, "purpose": "Ask me"}, "purpose"),
        ("service", "Finalize", {"reservation_id": str(UUID(int=1)), "actual_tokens": -1}, "actual_tokens"),
        ("student", "RedeemVoucher", {"code": "short"}, "code"),
        ("student", "ListReservations", {"page_size": -1}, "page_size"),
    ],
)
async def test_a_field_that_breaks_a_rule_is_named(room, who, rpc, fields, field):
    ids = {} if rpc.startswith("List") else request()
    refused = await getattr(room, who).refusal(rpc, **ids, **fields)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert [violation.field for violation in refused.details["BadRequest"].field_violations] == [field]
