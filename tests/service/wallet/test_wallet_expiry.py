"""Holds run out by the database's clock, whoever looks first; a crash charges what was durably delivered."""

import asyncio
from uuid import uuid4

import pytest

from server.caller import acting_as
from server.refusal import (
    InsufficientBalance,
    NotFound,
    ReservationExpired,
    ReservationFinalized,
    ReservationReleased,
)
from server.wallet.reservation import Balance, Status
from server.wallet.service import WalletService


@pytest.fixture
async def reservation(wallet, student):
    return await wallet.reserve(student.user_id, 100, "ask", uuid4())


def set_age(owner, reservation_id, seconds, then="NULL"):
    """Give the reservation an age and run a statement on it, inside the server, so that no time passes between."""
    owner.execute(
        f"""DO $$ BEGIN
            UPDATE reservation SET created_at = clock_timestamp() - interval '{seconds} seconds',
                expires_at = clock_timestamp() + interval '300 seconds' - interval '{seconds} seconds'
             WHERE id = '{reservation_id}';
            PERFORM {then};
        END $$"""
    )


async def deliver(wallet, database, reservation_id, tokens):
    async with database.transaction() as connection:
        await wallet.delivered(connection, reservation_id, tokens)


async def test_a_finalize_at_299_9_seconds_posts(student, reservation, owner, books):
    ids = ", ".join(f"'{uuid4()}'" for _ in range(3))
    set_age(owner, reservation.id, 299.9, then=f"wallet_finalize('{reservation.id}', 60, {ids})")
    assert books.status(reservation.id) == "finalized"
    assert books.balance(student.user_id) == (940, 0)


@pytest.mark.parametrize("sweeper", ["before", "never"])
async def test_a_finalize_at_300_1_seconds_is_refused_whether_or_not_the_sweeper_ran(
    wallet, student, reservation, books, sweeper
):
    books.age(reservation.id, 300.1)
    if sweeper == "before":
        await wallet.expire_overdue()
    with pytest.raises(ReservationExpired):
        await wallet.finalize(reservation.id, 60, uuid4())
    assert books.balance(student.user_id) == (1_000, 0)
    assert books.status(reservation.id) == "expired"


async def test_the_sweeper_leaves_holds_that_are_not_overdue(wallet, reservation, owner, books):
    set_age(owner, reservation.id, 290)
    await wallet.expire_overdue()
    assert books.status(reservation.id) == "held"


async def test_the_sweeper_after_a_finalize_changes_nothing(wallet, student, reservation, books):
    await wallet.finalize(reservation.id, 60, uuid4())
    books.age(reservation.id, 400)
    await wallet.expire_overdue()
    assert books.balance(student.user_id) == (940, 0)
    assert books.status(reservation.id) == "finalized"


async def test_an_overdue_hold_cannot_be_released_either(wallet, reservation, books):
    books.age(reservation.id, 300.1)
    with pytest.raises(ReservationExpired):
        await wallet.release(reservation.id, uuid4())
    assert books.status(reservation.id) == "expired"


async def test_an_expired_hold_is_given_back_by_an_entry_of_its_own(wallet, student, reservation, books):
    books.age(reservation.id, 300.1)
    assert await wallet.expire_overdue() == 1
    assert books.entries(student.user_id) == [("grant", 1_000), ("hold", 100), ("expiry", 100)]
    assert books.balance(student.user_id) == (1_000, 0)
    assert books.problems() == {}


async def test_sweeping_again_finds_nothing(wallet, reservation, books):
    books.age(reservation.id, 300.1)
    await wallet.expire_overdue()
    assert await wallet.expire_overdue() == 0


async def test_the_sweeper_settles_many_wallets(wallet, make_user, books):
    users = [make_user(tokens=100) for _ in range(120)]
    for user in users:
        with acting_as(user):
            books.age((await wallet.reserve(user.user_id, 100, "ask", uuid4())).id, 301)
    assert await wallet.expire_overdue() == 120
    assert {books.balance(user.user_id) for user in users} == {(100, 0)}


async def test_the_sweeper_does_not_wait_for_a_wallet_in_use(wallet, student, reservation, owner, books):
    books.age(reservation.id, 300.1)
    with owner.transaction():
        owner.execute("SELECT FROM wallet WHERE user_id = %s FOR UPDATE", [student.user_id])
        async with asyncio.timeout(10):
            assert await wallet.expire_overdue() == 0
    assert await wallet.expire_overdue() == 1


async def test_holds_that_the_sweeper_settled_are_not_shown_as_open(wallet, student, reservation, seen, books):
    await wallet.reserve(student.user_id, 10, "ask", uuid4())
    books.age(reservation.id, 300.1)
    await wallet.expire_overdue()
    await wallet.show_holds()
    assert seen.reservations == {"reserved": 2, "expired": 1}
    assert (seen.active, seen.stale) == (1, 0)


@pytest.mark.parametrize("seconds", [0, -1, 86_401])
def test_a_time_to_live_that_makes_no_sense_is_refused(database, seconds):
    with pytest.raises(ValueError, match="86400 seconds"):
        WalletService(database, reservation_ttl_seconds=seconds)


async def test_an_open_hold_older_than_five_minutes_is_stale(database, student, seen, books):
    patient = WalletService(database, reservation_ttl_seconds=600, meters=seen.meters())
    books.age((await patient.reserve(student.user_id, 10, "ask", uuid4())).id, 301)
    await patient.show_holds()
    assert seen.stale == 1


async def test_an_overdue_hold_shows_as_expired_before_any_sweep(wallet, reservation, books):
    books.age(reservation.id, 300.1)
    assert (await wallet.reservation(reservation.id)).status is Status.EXPIRED
    for status, shown in ((Status.HELD, 0), (Status.EXPIRED, 1)):
        assert len((await wallet.reservations(None, status, size=0, page_token="")).items) == shown
    assert books.status(reservation.id) == "held"


async def test_a_retried_reserve_shows_that_its_hold_ran_out(wallet, student, reservation, books):
    books.age(reservation.id, 300.1)
    again = await wallet.reserve(student.user_id, 100, "ask", reservation.request_id)
    assert (again.id, again.status) == (reservation.id, Status.EXPIRED)


async def test_an_overdue_hold_counts_as_released_before_any_sweep(wallet, student, reservation, books):
    books.age(reservation.id, 300.1)
    assert await wallet.balance() == Balance(1_000, 0)


async def test_what_an_overdue_hold_delivered_does_not_count_as_released(wallet, database, reservation, books):
    await deliver(wallet, database, reservation.id, 30)
    books.age(reservation.id, 300.1)
    assert await wallet.balance() == Balance(970, 30)
    await wallet.expire_overdue()
    assert await wallet.balance() == Balance(970, 0)


async def test_a_balance_that_shows_overdue_tokens_can_spend_them(wallet, student, reservation, books, seen):
    books.age(reservation.id, 300.1)
    again = await wallet.reserve(student.user_id, 1_000, "ask", uuid4())
    assert again.status is Status.HELD
    assert books.balance(student.user_id) == (0, 1_000)
    assert seen.reservations == {"reserved": 2, "expired": 1}


async def test_overdue_tokens_pay_for_an_overage(wallet, student, reservation, books):
    big = await wallet.reserve(student.user_id, 850, "ask", uuid4())
    books.age(reservation.id, 300.1)
    assert (await wallet.finalize(big.id, 1_000, uuid4())).charged_tokens == 1_000
    assert books.balance(student.user_id) == (0, 0)


# A crash


async def test_a_crash_before_the_first_token_costs_nothing(wallet, student, reservation, books):
    books.age(reservation.id, 301)
    await wallet.expire_overdue()
    assert books.balance(student.user_id) == (1_000, 0)


@pytest.mark.parametrize(
    ("delivered", "charged", "posted"),
    [
        (30, 30, [("charge", 30), ("expiry", 70)]),
        (100, 100, [("charge", 100)]),
        (150, 150, [("overage", 50), ("charge", 150)]),
        (500, 200, [("overage", 100), ("charge", 200), ("write_off", 300)]),
    ],
)
async def test_a_crash_costs_what_was_durably_delivered(
    wallet, database, student, reservation, books, delivered, charged, posted
):
    await deliver(wallet, database, reservation.id, delivered)
    books.age(reservation.id, 301)
    await wallet.expire_overdue()
    assert books.balance(student.user_id) == (1_000 - charged, 0)
    assert books.entries(student.user_id) == [("grant", 1_000), ("hold", 100), *posted]
    assert books.status(reservation.id) == "expired"
    assert books.problems() == {}


async def test_what_was_delivered_only_grows(wallet, database, student, reservation, books):
    for tokens in (20, 50, 40):
        await deliver(wallet, database, reservation.id, tokens)
    books.age(reservation.id, 301)
    await wallet.expire_overdue()
    assert books.balance(student.user_id) == (950, 0)


async def test_a_delivery_whose_transaction_fails_costs_nothing(wallet, database, student, reservation, books):
    with pytest.raises(LookupError):
        async with database.transaction() as connection:
            await wallet.delivered(connection, reservation.id, 80)
            raise LookupError
    books.age(reservation.id, 301)
    await wallet.expire_overdue()
    assert books.balance(student.user_id) == (1_000, 0)


async def test_a_settlement_counts_the_use_and_not_the_delivery(wallet, database, student, reservation, books):
    await deliver(wallet, database, reservation.id, 80)
    assert (await wallet.finalize(reservation.id, 60, uuid4())).charged_tokens == 60


async def test_a_release_is_whole_although_something_was_delivered(wallet, database, student, reservation, books):
    await deliver(wallet, database, reservation.id, 80)
    assert (await wallet.release(reservation.id, uuid4())).charged_tokens == 0
    assert books.balance(student.user_id) == (1_000, 0)


@pytest.mark.parametrize(
    ("end", "refusal"),
    [
        ("finalize", ReservationFinalized),
        ("release", ReservationReleased),
        ("sweep", ReservationExpired),
        ("time", ReservationExpired),
    ],
)
async def test_nothing_is_delivered_on_a_hold_that_has_ended(wallet, database, reservation, books, end, refusal):
    if end == "finalize":
        await wallet.finalize(reservation.id, 10, uuid4())
    elif end == "release":
        await wallet.release(reservation.id, uuid4())
    else:
        books.age(reservation.id, 301)
        if end == "sweep":
            await wallet.expire_overdue()
    with pytest.raises(refusal):
        await deliver(wallet, database, reservation.id, 50)


async def test_a_delivery_on_an_unknown_hold_is_not_found(wallet, database):
    with pytest.raises(NotFound):
        await deliver(wallet, database, uuid4(), 50)


async def test_an_overdue_wallet_says_what_is_available_when_it_refuses(wallet, student, reservation, books):
    books.age(reservation.id, 301)
    with pytest.raises(InsufficientBalance) as refused:
        await wallet.reserve(student.user_id, 1_001, "ask", uuid4())
    assert refused.value.metadata["available"] == "1000"
    assert books.status(reservation.id) == "expired"
