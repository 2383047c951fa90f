"""Many callers at once: exactly as many as can pay, no deadlock, no lost token."""

import asyncio
import random
from collections import Counter
from uuid import uuid4

import pytest

from server.caller import acting_as, system
from server.database.pool import Database
from server.refusal import InsufficientBalance, Refusal, ReservationFinalized, ReservationReleased
from server.wallet.service import WalletService
from server.wallet.topup import Payment

CALLERS = 32


@pytest.fixture(scope="module")
async def wide(addresses):
    """A database with a connection for every caller, so that they meet inside PostgreSQL."""
    pool = Database(addresses.url, pool_size=2 * CALLERS)
    await pool.open()
    yield pool
    await pool.close()


@pytest.fixture
def crowd(wide, seen):
    return WalletService(wide, meters=seen.meters())


async def outcome(work):
    try:
        return await work
    except Refusal as refusal:
        return type(refusal)


@pytest.mark.parametrize("room_for", [0, 1, 7, 31, 32])
async def test_of_32_racing_callers_exactly_as_many_hold_as_there_is_room_for(crowd, make_user, books, room_for):
    user = make_user(tokens=room_for * 30 + 29)
    with acting_as(user):
        held = await asyncio.gather(*(outcome(crowd.reserve(user.user_id, 30, "ask", uuid4())) for _ in range(CALLERS)))
    assert Counter(result is InsufficientBalance for result in held)[False] == room_for
    assert books.balance(user.user_id) == (29, room_for * 30)
    assert books.problems() == {}


async def test_32_copies_of_one_reserve_hold_once(crowd, student, books):
    request_id = uuid4()
    held = await asyncio.gather(*(crowd.reserve(student.user_id, 100, "ask", request_id) for _ in range(CALLERS)))
    assert len({reservation.id for reservation in held}) == 1
    assert books.balance(student.user_id) == (900, 100)


async def test_32_copies_of_one_finalize_charge_once_and_agree(crowd, student, books):
    reservation = await crowd.reserve(student.user_id, 100, "ask", uuid4())
    request_id = uuid4()
    receipts = await asyncio.gather(*(crowd.finalize(reservation.id, 60, request_id) for _ in range(CALLERS)))
    assert len(set(receipts)) == 1
    assert books.balance(student.user_id) == (940, 0)


async def test_of_racing_finalizes_releases_and_sweeps_one_resolves(crowd, student, books):
    reservation = await crowd.reserve(student.user_id, 100, "ask", uuid4())
    work = [crowd.finalize(reservation.id, 60, uuid4()) for _ in range(10)]
    work += [crowd.release(reservation.id, uuid4()) for _ in range(10)]
    random.Random(7).shuffle(work)
    results = await asyncio.gather(*map(outcome, work), crowd.expire_overdue())
    refused = Counter(result for result in results[:-1] if isinstance(result, type))
    assert sum(refused.values()) == 19
    assert set(refused) in ({ReservationFinalized}, {ReservationReleased})
    assert books.problems() == {}


async def test_racing_overages_never_pay_more_than_there_is(crowd, student, books):
    held = [await crowd.reserve(student.user_id, 100, "ask", uuid4()) for _ in range(8)]
    receipts = await asyncio.gather(*(crowd.finalize(r.id, 200, uuid4()) for r in held))
    assert sum(receipt.charged_tokens for receipt in receipts) == 1_000
    assert sum(receipt.written_off_tokens for receipt in receipts) == 600
    assert books.balance(student.user_id) == (0, 0)
    assert books.problems() == {}


async def test_reconciling_under_traffic_finds_nothing(crowd, make_user):
    users, together = [make_user(tokens=2_000) for _ in range(4)], asyncio.Semaphore(16)
    answering = True

    async def answer(number):
        user = users[number % 4]
        async with together, crowd.hold(user.user_id, 40, "ask", uuid4()) as hold:
            hold.spend(number % 90)

    async def reconcile():
        reports = []
        while answering:
            reports.append(await crowd.reconcile())
        return reports

    with acting_as(system()):
        reconciling = asyncio.create_task(reconcile())
        await asyncio.gather(*map(answer, range(150)))
        answering = False
        assert all(report.ok for report in await reconciling)


async def test_everything_at_once_on_two_wallets_never_deadlocks(crowd, credits, make_user, books):
    users, chance, together = (
        [make_user(tokens=3_000), make_user(tokens=3_000)],
        random.Random(11),
        asyncio.Semaphore(20),
    )
    abandoned = []

    async def one_thing(number):
        user, payee = users[number % 2], users[number // 10 % 2]
        async with together:
            reservation = await crowd.reserve(user.user_id, 20, "ask", uuid4())
            await crowd.expire_overdue()
            await outcome(credits.top_up(Payment("bankily", f"BK-{number % 10}", payee.user_id, 5)))
            if number % 3:
                await crowd.finalize(reservation.id, chance.randrange(50), uuid4())
            else:
                abandoned.append(reservation.id)

    with acting_as(system()):
        assert set(await asyncio.gather(*(outcome(one_thing(number)) for number in range(96)))) == {None}
        for reservation_id in abandoned:
            books.age(reservation_id, 301)
        await asyncio.gather(*(crowd.expire_overdue() for _ in range(4)))
        await crowd.expire_overdue()
    assert [books.balance(user.user_id)[1] for user in users] == [0, 0]
    assert books.problems() == {}
