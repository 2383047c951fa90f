"""`wallet.hold`: what is held is settled on every way out of the block."""

import asyncio
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from server.refusal import (
    InsufficientBalance,
    ReservationExpired,
    ReservationReleased,
    StoreUnavailable,
)
from server.wallet.service import WalletService


def holding(wallet, student, request_id=None, estimate=100):
    return wallet.hold(student.user_id, estimate, "ask", request_id or uuid4())


async def test_leaving_the_block_charges_what_was_spent(wallet, student, books):
    async with holding(wallet, student) as hold:
        assert books.balance(student.user_id) == (900, 100)
        hold.spend(20)
        hold.spend(60)
    assert (hold.receipt.charged_tokens, hold.receipt.refunded_tokens) == (60, 40)
    assert hold.receipt.request_id == hold.reservation.request_id
    assert books.balance(student.user_id) == (940, 0)


async def test_leaving_without_a_word_gives_everything_back(wallet, student, books, seen):
    async with holding(wallet, student) as hold:
        pass
    assert hold.receipt.charged_tokens == 0
    assert books.status(hold.reservation.id) == "released"
    assert seen.reservations == {"reserved": 1, "released": 1}


async def test_an_error_before_anything_was_spent_costs_nothing(wallet, student, books):
    with pytest.raises(LookupError):
        async with holding(wallet, student) as hold:
            raise LookupError
    assert books.status(hold.reservation.id) == "released"


async def test_an_error_costs_what_was_spent_so_far(wallet, student, books):
    with pytest.raises(LookupError):
        async with holding(wallet, student) as hold:
            hold.spend(30)
            raise LookupError
    assert books.balance(student.user_id) == (970, 0)


async def test_an_error_costs_what_was_delivered_when_nobody_says_more(wallet, database, student, books, seen):
    with pytest.raises(LookupError):
        async with holding(wallet, student) as hold:
            async with database.transaction() as connection:
                await wallet.delivered(connection, hold.reservation.id, 45)
            raise LookupError
    assert books.status(hold.reservation.id) == "finalized"
    assert books.balance(student.user_id) == (955, 0)
    assert seen.reservations == {"reserved": 1, "finalized": 1}


async def cancelled_inside(wallet, student, spend):
    inside, holds = asyncio.Event(), []

    async def work():
        async with holding(wallet, student) as hold:
            holds.append(hold)
            hold.spend(spend)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    return task, holds[0]


async def test_a_cancel_charges_what_was_spent(wallet, student, books):
    task, hold = await cancelled_inside(wallet, student, 30)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert hold.receipt.charged_tokens == 30
    assert books.balance(student.user_id) == (970, 0)


async def test_a_deadline_charges_what_was_spent(wallet, student, books):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as deadline, holding(wallet, student) as hold:
            hold.spend(30)
            deadline.reschedule(asyncio.get_running_loop().time())
            await asyncio.Event().wait()
    assert books.balance(student.user_id) == (970, 0)


class Slow:
    """A database that lends a session only when told to."""

    def __init__(self, database):
        self._database = database
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    @asynccontextmanager
    async def session(self):
        self.asked.set()
        await self.go.wait()
        async with self._database.session() as session:
            yield session


async def test_a_second_cancel_does_not_cut_the_settlement(database, student, books):
    slow = Slow(database)
    wallet = WalletService(slow)
    task, _ = await cancelled_inside(wallet, student, 30)
    slow.go.clear()
    slow.asked.clear()
    await slow.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert books.balance(student.user_id) == (900, 100)
    slow.go.set()
    await wallet.close()
    assert books.balance(student.user_id) == (970, 0)


@pytest.mark.parametrize("resolve", ["finalize", "release"])
async def test_a_caller_that_hangs_up_does_not_cut_its_settlement(database, student, books, resolve):
    slow = Slow(database)
    wallet = WalletService(slow)
    reservation = await wallet.reserve(student.user_id, 100, "ask", uuid4())
    slow.go.clear()
    slow.asked.clear()
    settle = wallet.finalize(reservation.id, 60, uuid4()) if resolve == "finalize" else None
    task = asyncio.create_task(settle or wallet.release(reservation.id, uuid4()))
    await slow.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    slow.go.set()
    await wallet.close()
    assert books.balance(student.user_id) == ((940, 0) if resolve == "finalize" else (1_000, 0))


async def test_a_cancel_while_tokens_are_being_held_leaves_none_held(database, student, books):
    slow = Slow(database)
    wallet = WalletService(slow)
    slow.go.clear()

    async def work():
        async with holding(wallet, student):
            pytest.fail("the block must not run")

    task = asyncio.create_task(work())
    await slow.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    slow.go.set()
    await wallet.close()
    assert books.balance(student.user_id) == (1_000, 0)
    assert books.entries(student.user_id) == [("grant", 1_000), ("hold", 100), ("refund", 100)]


async def test_closing_waits_for_settlements(database, student, books):
    slow = Slow(database)
    wallet = WalletService(slow)
    task, _ = await cancelled_inside(wallet, student, 30)
    slow.go.clear()
    slow.asked.clear()
    await slow.asked.wait()
    closing = asyncio.create_task(wallet.close())
    slow.go.set()
    await closing
    assert books.balance(student.user_id) == (970, 0)
    with pytest.raises(asyncio.CancelledError):
        await task


class Away:
    """A database that cannot be reached for a number of sessions."""

    def __init__(self, database):
        self._database = database
        self.sessions_to_fail = 0

    @asynccontextmanager
    async def session(self):
        if self.sessions_to_fail:
            self.sessions_to_fail -= 1
            raise StoreUnavailable(store="postgresql")
        async with self._database.session() as session:
            yield session


async def test_a_settlement_is_tried_again_while_the_store_is_away(database, student, books):
    away = Away(database)
    async with holding(WalletService(away, settlement_pauses_seconds=(0.0,)), student) as hold:
        hold.spend(60)
        away.sessions_to_fail = 1
    assert hold.receipt.charged_tokens == 60
    assert books.balance(student.user_id) == (940, 0)


async def test_a_settlement_that_never_reaches_the_store_is_left_to_expiry(database, student, books):
    away = Away(database)
    wallet = WalletService(away, settlement_pauses_seconds=(0.0, 0.0))
    async with holding(wallet, student) as hold:
        async with database.transaction() as connection:
            await wallet.delivered(connection, hold.reservation.id, 45)
        hold.spend(60)
        away.sessions_to_fail = 99
    assert hold.receipt is None
    away.sessions_to_fail = 0
    books.age(hold.reservation.id, 301)
    await WalletService(database).expire_overdue()
    assert books.balance(student.user_id) == (955, 0)


async def test_a_hold_that_ran_out_inside_the_block_costs_what_was_delivered(wallet, database, student, books):
    async with holding(wallet, student) as hold:
        async with database.transaction() as connection:
            await wallet.delivered(connection, hold.reservation.id, 45)
        hold.spend(60)
        books.age(hold.reservation.id, 301)
    assert (hold.receipt.charged_tokens, books.status(hold.reservation.id)) == (45, "expired")


async def test_while_the_store_is_away_nothing_is_done_for_nothing(database, student, books):
    away, done = Away(database), []
    away.sessions_to_fail = 1
    with pytest.raises(StoreUnavailable):
        async with holding(WalletService(away), student):
            done.append("the work")
    assert done == []
    assert books.entries(student.user_id) == [("grant", 1_000)]


async def test_too_little_balance_refuses_before_the_block(wallet, student):
    with pytest.raises(InsufficientBalance):
        async with holding(wallet, student, estimate=1_001):
            pytest.fail("the block must not run")


@pytest.mark.parametrize(("end", "refusal"), [("release", ReservationReleased), ("expire", ReservationExpired)])
async def test_a_request_whose_hold_has_ended_does_not_run_again(wallet, student, books, end, refusal):
    request_id = uuid4()
    async with holding(wallet, student, request_id) as hold:
        if end == "expire":
            books.age(hold.reservation.id, 301)
    with pytest.raises(refusal):
        async with holding(wallet, student, request_id):
            pytest.fail("the block must not run")


async def test_many_holds_at_once_settle_to_the_token(wallet, student, books):
    async def answer(number):
        async with holding(wallet, student, estimate=50) as hold:
            hold.spend(number)

    await asyncio.gather(*(answer(number) for number in range(20)))
    assert books.balance(student.user_id) == (1_000 - sum(range(20)), 0)
    assert books.problems() == {}
