"""Any sequence of operations, replays, lost replies and crashes, against a model small enough to be believed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from server.caller import Caller, Role, acting_as
from server.database.once import Once
from server.database.pool import SESSION_OPTIONS, Database
from server.refusal import (
    InsufficientBalance,
    Refusal,
    RequestIdReused,
    ReservationExpired,
    ReservationFinalized,
    ReservationReleased,
    VoucherUsed,
)
from server.wallet.credits import CreditService
from server.wallet.service import WalletService
from server.wallet.topup import Payment

ENDED = {"finalized": ReservationFinalized, "released": ReservationReleased, "expired": ReservationExpired}
amounts = st.integers(1, 120)
indexes = st.integers(0, 1_000)


@dataclass
class Hold:
    """A reservation as the model knows it."""

    wallet: "Wallet"
    estimate: int
    delivered: int = 0
    overdue: bool = False
    status: str = "held"


@dataclass
class Wallet:
    """The model: two numbers and what became of every hold."""

    available: int
    held: int = 0
    charged: int = 0
    written_off: int = 0
    holds: list[Hold] = field(default_factory=list)

    def reserve(self, estimate: int) -> Hold | None:
        if self.available < estimate:
            self.expire()
        if self.available < estimate:
            return None
        self.available -= estimate
        self.held += estimate
        self.holds.append(hold := Hold(self, estimate))
        return hold

    def settle(self, hold: Hold, status: str, actual: int) -> tuple[int, int]:
        charge = min(actual, 2 * hold.estimate, hold.estimate + self.available)
        self.held -= hold.estimate
        self.available += hold.estimate - charge
        self.charged += charge
        self.written_off += actual - charge
        hold.status = status
        return charge, actual - charge

    def finalize(self, hold: Hold, actual: int) -> tuple[int, int]:
        if min(actual, 2 * hold.estimate) > hold.estimate + self.available:
            self.expire()
        return self.settle(hold, "finalized", actual)

    def expire(self) -> None:
        for hold in self.holds:
            if hold.status == "held" and hold.overdue:
                self.settle(hold, "expired", hold.delivered)


@dataclass
class House:
    """The real thing: the services on a loop of their own, and the superuser's eyes."""

    runner: asyncio.Runner
    database: Database
    wallet: WalletService
    credits: CreditService
    owner: psycopg.Connection
    url: str
    make_user: Callable[..., Caller]

    def call(self, caller: Caller, work: Callable[[], Any]) -> Any:
        """Run a coroutine as somebody; a refusal is a result like any other."""

        async def run() -> Any:
            with acting_as(caller):
                try:
                    return await work()
                except Refusal as refusal:
                    return type(refusal)

        return self.runner.run(run())


class WalletMachine(RuleBasedStateMachine):
    """Two wallets; every rule does one thing to both sides and compares what they say."""

    house: House

    def __init__(self) -> None:
        super().__init__()
        self.users = [self.house.make_user(tokens=300), self.house.make_user(tokens=100)]
        self.models = [Wallet(300), Wallet(100)]
        self.service = Caller(uuid4(), Role.SERVICE, request_id=uuid4())
        self.admin = self.house.make_user(role="admin")
        self.holds: list[tuple[UUID, Hold]] = []
        self.done: list[tuple[Caller, Callable[[], Any], Any]] = []
        self.used_codes: list[str] = []
        self.hashes: dict[tuple[UUID, int], bytes] = {}

    def teardown(self) -> None:
        self.house.call(self.service, self.house.wallet.expire_overdue)

    def do(self, caller: Caller, work: Callable[[], Any], lose_reply: bool = False) -> Any:
        """Do something once; when the reply is lost, the client sends the same request again."""
        result = self.house.call(caller, work)
        if lose_reply:
            again = self.house.call(caller, work)
            assert again == result
        if not isinstance(result, type):
            self.done.append((caller, work, result))
        return result

    @rule(which=st.integers(0, 1), estimate=amounts, lose_reply=st.booleans())
    def reserve(self, which: int, estimate: int, lose_reply: bool) -> None:
        user, request_id = self.users[which], uuid4()
        result = self.do(
            self.service,
            lambda: self.house.wallet.reserve(user.user_id, estimate, "ask", request_id),
            lose_reply,
        )
        expected = self.models[which].reserve(estimate)
        if expected is None:
            assert result is InsufficientBalance
        else:
            self.done.pop()  # A retry shows the reservation as it stands by then; its own test says so.
            self.holds.append((result.id, expected))

    def resolve(self, index: int, work: Callable[[UUID], Any], expect: Callable[[Hold], Any], lose_reply: bool) -> None:
        reservation_id, hold = self.holds[index % len(self.holds)]
        result = self.do(self.service, lambda: work(reservation_id), lose_reply)
        if hold.status == "held" and hold.overdue:
            hold.wallet.expire()
        if hold.status != "held":
            assert result is ENDED[hold.status]
        else:
            charged, written_off = expect(hold)
            assert (result.charged_tokens, result.written_off_tokens) == (charged, written_off)
            assert result.refunded_tokens == max(hold.estimate - charged, 0)
            assert result.balance_tokens == hold.wallet.available

    @precondition(lambda self: self.holds)
    @rule(index=indexes, actual=st.integers(0, 300), lose_reply=st.booleans())
    def finalize(self, index: int, actual: int, lose_reply: bool) -> None:
        request_id = uuid4()
        self.resolve(
            index,
            lambda reservation_id: self.house.wallet.finalize(reservation_id, actual, request_id),
            lambda hold: hold.wallet.finalize(hold, actual),
            lose_reply,
        )

    @precondition(lambda self: self.holds)
    @rule(index=indexes, lose_reply=st.booleans())
    def release(self, index: int, lose_reply: bool) -> None:
        request_id = uuid4()
        self.resolve(
            index,
            lambda reservation_id: self.house.wallet.release(reservation_id, request_id),
            lambda hold: hold.wallet.settle(hold, "released", 0),
            lose_reply,
        )

    @precondition(lambda self: self.holds)
    @rule(index=indexes, tokens=amounts)
    def deliver(self, index: int, tokens: int) -> None:
        reservation_id, hold = self.holds[index % len(self.holds)]

        async def deliver() -> None:
            async with self.house.database.transaction() as connection:
                await self.house.wallet.delivered(connection, reservation_id, tokens)

        result = self.house.call(self.service, deliver)
        if hold.status == "held" and not hold.overdue:
            assert result is None
            hold.delivered = max(hold.delivered, tokens)
        else:
            assert result is ENDED["expired" if hold.status == "held" else hold.status]

    @precondition(lambda self: self.holds)
    @rule(index=indexes)
    def time_passes(self, index: int) -> None:
        """A hold becomes overdue, as after a crash of whoever held it."""
        reservation_id, hold = self.holds[index % len(self.holds)]
        if hold.status == "held" and not hold.overdue:
            hold.overdue = True
            self.house.owner.execute(
                "UPDATE reservation SET created_at = created_at - interval '301 s',"
                " expires_at = expires_at - interval '301 s'"
                " WHERE id = %s",
                [reservation_id],
            )

    @rule()
    def sweep(self) -> None:
        overdue = sum(hold.status == "held" and hold.overdue for model in self.models for hold in model.holds)
        assert self.house.call(self.service, self.house.wallet.expire_overdue) == overdue
        for model in self.models:
            model.expire()

    @rule(which=st.integers(0, 1), tokens=amounts, lose_reply=st.booleans())
    def redeem(self, which: int, tokens: int, lose_reply: bool) -> None:
        desk, issue_id, request_id = self.house.credits, uuid4(), uuid4()
        batch = self.do(self.admin, lambda: desk.issue_vouchers(1, tokens, None, issue_id), lose_reply)
        result = self.do(self.users[which], lambda: desk.redeem(batch.codes[0], request_id), lose_reply)
        self.models[which].available += tokens
        self.used_codes.append(batch.codes[0])
        assert (result.tokens, result.balance_tokens) == (tokens, self.models[which].available)

    @precondition(lambda self: self.used_codes)
    @rule(which=st.integers(0, 1), index=indexes)
    def redeem_again(self, which: int, index: int) -> None:
        code = self.used_codes[index % len(self.used_codes)]
        assert self.do(self.users[which], lambda: self.house.credits.redeem(code, uuid4())) is VoucherUsed

    @rule(which=st.integers(0, 1), delta=st.integers(-150, 150).filter(bool), lose_reply=st.booleans())
    def adjust(self, which: int, delta: int, lose_reply: bool) -> None:
        user, model, request_id = self.users[which], self.models[which], uuid4()
        result = self.do(
            self.admin, lambda: self.house.credits.adjust(user.user_id, delta, "by hand", request_id), lose_reply
        )
        if result is InsufficientBalance:  # Nothing of it is kept, not even what was found overdue.
            assert model.available + self.releasable(model) + delta < 0
            return
        if model.available + delta < 0:
            model.expire()
        model.available += delta
        assert result.balance_after_tokens == model.available >= 0

    def releasable(self, model: Wallet) -> int:
        return sum(
            max(hold.estimate - min(hold.delivered, 2 * hold.estimate), 0)
            for hold in model.holds
            if hold.status == "held" and hold.overdue
        )

    @rule(which=st.integers(0, 1), tokens=amounts, lose_reply=st.booleans())
    def top_up(self, which: int, tokens: int, lose_reply: bool) -> None:
        payment = Payment("bankily", str(uuid4()), self.users[which].user_id, tokens)
        first = self.house.call(self.service, lambda: self.house.credits.top_up(payment))
        assert first.credited
        self.models[which].available += tokens
        if lose_reply:
            assert not self.house.call(self.service, lambda: self.house.credits.top_up(payment)).credited

    @precondition(lambda self: self.done)
    @rule(index=indexes)
    def replay(self, index: int) -> None:
        """Any earlier request comes again, however long after: the first result, no second effect."""
        caller, work, first = self.done[index % len(self.done)]
        assert self.house.call(caller, work) == first

    @rule(which=st.integers(0, 1), estimate=amounts, index=indexes)
    def crash_between_statements(self, which: int, estimate: int, index: int) -> None:
        """The connection dies after statements that were not committed: as if they had never been."""
        reservation_id = self.holds[index % len(self.holds)][0] if self.holds else uuid4()
        with psycopg.connect(self.house.url, options=SESSION_OPTIONS) as connection:
            ids = [uuid4(), uuid4(), uuid4()]
            connection.execute(
                "SELECT wallet_reserve(%s, %s, 'ask', 300, %s, %s, %s)", [self.users[which].user_id, estimate, *ids]
            )
            connection.execute("SELECT wallet_finalize(%s, %s, %s, %s, %s)", [reservation_id, estimate, *ids])
            self.house.owner.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.info.backend_pid])
            with pytest.raises(psycopg.OperationalError):
                connection.commit()

    @precondition(lambda self: self.holds)
    @rule(index=indexes, other=indexes)
    def reuse_a_request_id(self, index: int, other: int) -> None:
        """The id that settled one reservation cannot settle another."""
        (one, first), (two, second) = self.holds[index % len(self.holds)], self.holds[other % len(self.holds)]
        if first is second or second.status != "held" or second.overdue or first.status != "held" or first.overdue:
            return
        request_id = uuid4()
        self.do(self.service, lambda: self.house.wallet.finalize(one, 10, request_id))
        first.wallet.finalize(first, 10)
        assert self.house.call(self.service, lambda: self.house.wallet.finalize(two, 10, request_id)) is RequestIdReused

    @invariant()
    def both_sides_agree(self) -> None:
        for user, model in zip(self.users, self.models, strict=True):
            row = self.house.owner.execute(
                "SELECT w.available_tokens, w.held_tokens, coalesce(sum(r.charged_tokens), 0),"
                " coalesce(sum(r.written_off_tokens), 0) FROM wallet w LEFT JOIN reservation r USING (user_id)"
                " WHERE w.user_id = %s GROUP BY w.user_id",
                [user.user_id],
            ).fetchone()
            assert row == (model.available, model.held, model.charged, model.written_off)
            assert min(row) >= 0

    @invariant()
    def reconciliation_finds_nothing(self) -> None:
        problems = self.house.owner.execute("SELECT name, detail FROM wallet_reconcile() WHERE problems > 0").fetchall()
        assert problems == []

    @invariant()
    def history_only_grows(self) -> None:
        rows = self.house.owner.execute(
            "SELECT user_id, sequence, hash FROM ledger_entry WHERE user_id = ANY(%s)",
            [[user.user_id for user in self.users]],
        ).fetchall()
        now = {(user_id, sequence): bytes(digest) for user_id, sequence, digest in rows}
        assert now.items() >= self.hashes.items()
        self.hashes = now


async def unaudited(*_: object) -> None:
    """Record nothing."""


@pytest.mark.slow
def test_no_sequence_of_operations_replays_and_crashes_breaks_the_books(addresses, owner, make_user):
    with asyncio.Runner() as runner:
        database = Database(addresses.url, pool_size=4)
        runner.run(database.open())
        desk = CreditService(database, Once(database), audit=unaudited, voucher_key=b"k" * 32)
        owner.execute("SELECT set_config('app.role', 'service', false)")
        house = House(runner, database, WalletService(database), desk, owner, addresses.url, make_user)
        machine = type("BoundMachine", (WalletMachine,), {"house": house})
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=20,
                    stateful_step_count=30,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(database.close())
