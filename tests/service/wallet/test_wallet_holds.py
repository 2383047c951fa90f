"""Two-phase holds: what counts at once, what a settlement charges, and that a hold ends exactly once."""

from uuid import uuid4

import pytest

from server.caller import acting_as, system
from server.refusal import (
    InsufficientBalance,
    NotFound,
    RequestIdReused,
    ReservationFinalized,
    ReservationReleased,
)
from server.wallet.reservation import Balance, Status


async def reserve(wallet, student, estimate=100):
    return await wallet.reserve(student.user_id, estimate, "ask", uuid4())


async def test_a_hold_counts_at_once(wallet, student, books):
    reservation = await reserve(wallet, student)
    assert reservation.status is Status.HELD
    assert books.balance(student.user_id) == (900, 100)


async def test_the_owner_sees_available_held_and_posted(wallet, student):
    await reserve(wallet, student)
    balance = await wallet.balance()
    assert (balance.available_tokens, balance.held_tokens, balance.posted_tokens) == (900, 100, 1_000)


async def test_the_hold_runs_out_after_the_time_to_live_by_the_database_clock(wallet, student):
    reservation = await reserve(wallet, student)
    assert (reservation.expires_at - reservation.created_at).total_seconds() == 300


async def test_more_than_is_available_is_refused_with_what_is_missing(wallet, student, books, seen):
    await reserve(wallet, student, 800)
    with pytest.raises(InsufficientBalance) as refused:
        await reserve(wallet, student, 201)
    assert refused.value.metadata == {"needed": "201", "available": "200"}
    assert books.balance(student.user_id) == (200, 800)
    assert seen.reservations == {"reserved": 1, "refused": 1}


async def test_exactly_what_is_available_can_be_held(wallet, student, books):
    await reserve(wallet, student, 1_000)
    assert books.balance(student.user_id) == (0, 1_000)


@pytest.mark.parametrize(
    ("actual", "charged", "refunded", "written_off", "posted"),
    [
        (60, 60, 40, 0, [("hold", 100), ("charge", 60), ("refund", 40)]),
        (100, 100, 0, 0, [("hold", 100), ("charge", 100)]),
        (150, 150, 0, 0, [("hold", 100), ("overage", 50), ("charge", 150)]),
        (200, 200, 0, 0, [("hold", 100), ("overage", 100), ("charge", 200)]),
        (270, 200, 0, 70, [("hold", 100), ("overage", 100), ("charge", 200), ("write_off", 70)]),
        (0, 0, 100, 0, [("hold", 100), ("refund", 100)]),
    ],
    ids=["under", "equal", "over", "twice", "above twice", "nothing"],
)
async def test_a_settlement_charges_the_use_up_to_twice_the_estimate(
    wallet, student, books, actual, charged, refunded, written_off, posted
):
    reservation = await reserve(wallet, student)
    receipt = await wallet.finalize(reservation.id, actual, request_id := uuid4())
    assert (receipt.reserved_tokens, receipt.charged_tokens, receipt.refunded_tokens) == (100, charged, refunded)
    assert (receipt.written_off_tokens, receipt.balance_tokens) == (written_off, 1_000 - charged)
    assert (receipt.request_id, receipt.reservation_id) == (request_id, reservation.id)
    assert books.balance(student.user_id) == (1_000 - charged, 0)
    assert books.entries(student.user_id) == [("grant", 1_000), *posted]
    assert books.problems() == {}


async def test_what_the_wallet_cannot_pay_is_written_off_and_never_a_debt(wallet, student, books):
    reservation = await reserve(wallet, student, 950)
    await reserve(wallet, student, 30)
    receipt = await wallet.finalize(reservation.id, 1_500, uuid4())
    assert (receipt.charged_tokens, receipt.written_off_tokens, receipt.balance_tokens) == (970, 530, 0)
    assert books.balance(student.user_id) == (0, 30)
    assert books.problems() == {}


async def test_a_write_off_says_why(wallet, student):
    with acting_as(student):
        reservation = await reserve(wallet, student)
        await wallet.finalize(reservation.id, 250, uuid4())
        page = await wallet.entries(None, size=1, page_token="")
    assert page.items[0].reason == "above twice the estimate"
    assert (page.items[0].debit_account, page.items[0].credit_account) == ("platform:write_off", "platform:revenue")


async def test_a_release_gives_everything_back(wallet, student, books):
    reservation = await reserve(wallet, student)
    receipt = await wallet.release(reservation.id, uuid4())
    assert (receipt.charged_tokens, receipt.refunded_tokens, receipt.balance_tokens) == (0, 100, 1_000)
    assert books.entries(student.user_id) == [("grant", 1_000), ("hold", 100), ("refund", 100)]


@pytest.mark.parametrize("second", ["finalize", "release"])
@pytest.mark.parametrize(("first", "refusal"), [("finalize", ReservationFinalized), ("release", ReservationReleased)])
async def test_a_second_resolution_gets_the_reason_of_the_first(wallet, student, books, first, second, refusal):
    reservation = await reserve(wallet, student)

    async def resolve(how):
        if how == "finalize":
            return await wallet.finalize(reservation.id, 60, uuid4())
        return await wallet.release(reservation.id, uuid4())

    await resolve(first)
    before = books.entries(student.user_id)
    with pytest.raises(refusal):
        await resolve(second)
    assert books.entries(student.user_id) == before


@pytest.mark.parametrize("resolve", ["finalize", "release"])
async def test_an_unknown_reservation_is_not_found(wallet, student, resolve):
    with pytest.raises(NotFound):
        await (wallet.finalize(uuid4(), 1, uuid4()) if resolve == "finalize" else wallet.release(uuid4(), uuid4()))


async def test_a_user_without_a_wallet_is_not_found(wallet):
    with pytest.raises(NotFound):
        await wallet.reserve(uuid4(), 10, "ask", uuid4())


@pytest.mark.parametrize(("estimate", "purpose"), [(0, "ask"), (-5, "ask"), (10**9 + 1, "ask"), (10, "Ask!")])
async def test_a_hold_that_makes_no_sense_changes_nothing(wallet, make_user, books, estimate, purpose):
    rich = make_user(tokens=2 * 10**9)
    with pytest.raises(Exception, match=r"reservation_sound"):
        await wallet.reserve(rich.user_id, estimate, purpose, uuid4())
    assert books.balance(rich.user_id) == (2 * 10**9, 0)


async def test_a_negative_use_changes_nothing(wallet, student, books):
    reservation = await reserve(wallet, student)
    await reserve(wallet, student, 500)
    with pytest.raises(Exception, match="reservation_sound"):
        await wallet.finalize(reservation.id, -50, uuid4())
    assert books.balance(student.user_id) == (400, 600)


async def test_counts_follow_what_became_of_reservations(wallet, student, seen):
    one, other = await reserve(wallet, student), await reserve(wallet, student)
    await wallet.show_holds()
    assert seen.active == 2
    await wallet.finalize(one.id, 50, uuid4())
    await wallet.release(other.id, uuid4())
    assert seen.reservations == {"reserved": 2, "finalized": 1, "released": 1}
    await wallet.show_holds()
    assert seen.active == 0


async def test_a_new_wallet_starts_with_its_welcome_grant(wallet, database, owner, books):
    user_id = owner.execute("INSERT INTO app_user (display_name) VALUES ('New') RETURNING id").fetchone()[0]
    async with database.transaction() as connection:
        await wallet.open_wallet(connection, user_id, 250)
    assert books.entries(user_id) == [("grant", 250)]
    assert books.balance(user_id) == (250, 0)


async def test_a_wallet_without_a_welcome_grant_is_empty(wallet, make_user):
    with acting_as(make_user(tokens=0)) as poor:
        assert await wallet.balance(poor.user_id) == Balance(0, 0)


async def test_a_sign_up_that_fails_leaves_no_wallet(wallet, database, owner, books):
    user_id = owner.execute("INSERT INTO app_user (display_name) VALUES ('New') RETURNING id").fetchone()[0]
    with pytest.raises(LookupError):
        async with database.transaction() as connection:
            await wallet.open_wallet(connection, user_id, 250)
            raise LookupError
    assert books.balance(user_id) == (None, None)


# Requests that come again


async def test_a_retried_reserve_returns_the_first_reservation(wallet, student, books, seen):
    request_id = uuid4()
    first = await wallet.reserve(student.user_id, 100, "ask", request_id)
    assert await wallet.reserve(student.user_id, 100, "ask", request_id) == first
    assert books.balance(student.user_id) == (900, 100)
    assert seen.reservations == {"reserved": 1}


async def test_a_retried_reserve_is_served_although_nothing_is_left(wallet, student):
    request_id = uuid4()
    first = await wallet.reserve(student.user_id, 1_000, "ask", request_id)
    assert await wallet.reserve(student.user_id, 1_000, "ask", request_id) == first


async def test_a_retried_reserve_shows_what_has_become_of_the_reservation(wallet, student):
    request_id = uuid4()
    first = await wallet.reserve(student.user_id, 100, "ask", request_id)
    await wallet.release(first.id, uuid4())
    assert (await wallet.reserve(student.user_id, 100, "ask", request_id)).status is Status.RELEASED


@pytest.mark.parametrize(("estimate", "purpose"), [(101, "ask"), (100, "quiz")])
async def test_a_reserve_with_another_payload_is_refused(wallet, student, books, estimate, purpose):
    request_id = uuid4()
    await wallet.reserve(student.user_id, 100, "ask", request_id)
    with pytest.raises(RequestIdReused):
        await wallet.reserve(student.user_id, estimate, purpose, request_id)
    assert books.balance(student.user_id) == (900, 100)


async def test_a_service_cannot_use_one_request_for_two_wallets(wallet, make_user):
    one, other, request_id = make_user(tokens=500), make_user(tokens=500), uuid4()
    await wallet.reserve(one.user_id, 100, "ask", request_id)
    with pytest.raises(RequestIdReused):
        await wallet.reserve(other.user_id, 100, "ask", request_id)


async def test_two_callers_may_choose_the_same_request_id(wallet, make_user, books):
    request_id = uuid4()
    for who in (make_user(tokens=500), make_user(tokens=500)):
        with acting_as(who):
            await wallet.reserve(who.user_id, 100, "ask", request_id)
        assert books.balance(who.user_id) == (400, 100)


@pytest.mark.parametrize("resolve", ["finalize", "release"])
async def test_a_retried_settlement_returns_the_first_receipt(wallet, student, books, resolve):
    reservation, request_id = await reserve(wallet, student), uuid4()

    async def settle():
        if resolve == "finalize":
            return await wallet.finalize(reservation.id, 60, request_id)
        return await wallet.release(reservation.id, request_id)

    first = await settle()
    await reserve(wallet, student, 10)
    before = books.balance(student.user_id)
    assert await settle() == first
    assert books.balance(student.user_id) == before


async def test_a_finalize_with_another_payload_is_refused(wallet, student, books):
    reservation, request_id = await reserve(wallet, student), uuid4()
    await wallet.finalize(reservation.id, 60, request_id)
    for again in (wallet.finalize(reservation.id, 61, request_id), wallet.release(reservation.id, request_id)):
        with pytest.raises(RequestIdReused):
            await again
    assert books.balance(student.user_id) == (940, 0)


async def test_one_request_cannot_settle_two_reservations(wallet, student, books):
    one, other, request_id = await reserve(wallet, student), await reserve(wallet, student), uuid4()
    await wallet.finalize(one.id, 60, request_id)
    with pytest.raises(RequestIdReused):
        await wallet.finalize(other.id, 60, request_id)
    assert books.status(other.id) == "held"


async def test_a_service_cannot_settle_with_the_id_it_reserved_with(wallet, make_user, books):
    request_id = uuid4()
    reservation = await wallet.reserve(make_user(tokens=500).user_id, 100, "ask", request_id)
    with pytest.raises(RequestIdReused):
        await wallet.finalize(reservation.id, 60, request_id)
    assert books.status(reservation.id) == "held"


async def test_a_service_cannot_reserve_with_the_id_it_settled_with(wallet, make_user):
    rich, request_id = make_user(tokens=500), uuid4()
    reservation = await wallet.reserve(rich.user_id, 100, "ask", uuid4())
    await wallet.finalize(reservation.id, 60, request_id)
    with pytest.raises(RequestIdReused):
        await wallet.reserve(rich.user_id, 100, "ask", request_id)


async def test_a_student_s_question_settles_under_its_own_id(wallet, student):
    request_id = uuid4()
    reservation = await wallet.reserve(student.user_id, 100, "ask", request_id)
    assert (await wallet.finalize(reservation.id, 60, request_id)).request_id == request_id


# What others see


async def test_another_person_s_wallet_cannot_be_used_or_seen(wallet, student, make_user):
    other = make_user(tokens=500)
    for attempt in (
        wallet.reserve(other.user_id, 10, "ask", uuid4()),
        wallet.balance(other.user_id),
        wallet.reservations(other.user_id, None, size=0, page_token=""),
        wallet.entries(other.user_id, size=0, page_token=""),
        wallet.verify(other.user_id),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_another_person_s_reservation_is_not_found(wallet, student, make_user):
    with acting_as(make_user(tokens=500)) as other:
        reservation = await wallet.reserve(other.user_id, 10, "ask", uuid4())
    with pytest.raises(NotFound):
        await wallet.reservation(reservation.id)


@pytest.mark.parametrize("role", ["admin", "service"])
async def test_operators_see_every_wallet(wallet, student, make_user, role):
    reservation = await reserve(wallet, student)
    with acting_as(make_user(role=role)):
        assert (await wallet.balance(student.user_id)).held_tokens == 100
        assert (await wallet.reservation(reservation.id)).id == reservation.id
        assert (await wallet.verify(student.user_id)).ok


async def test_nobody_has_no_wallet_of_its_own(wallet):
    with acting_as(system()), pytest.raises(NotFound):
        await wallet.balance()


async def test_reservations_are_listed_newest_first_by_status_in_pages(wallet, student):
    made = [await reserve(wallet, student, 10 + number) for number in range(5)]
    await wallet.release(made[2].id, uuid4())
    first = await wallet.reservations(None, Status.HELD, size=3, page_token="")
    await reserve(wallet, student, 99)
    rest = await wallet.reservations(None, Status.HELD, size=3, page_token=first.next_page_token)
    assert [r.estimate_tokens for r in (*first.items, *rest.items)] == [14, 13, 11, 10]
    assert rest.next_page_token == ""
    assert [r.id for r in (await wallet.reservations(None, Status.RELEASED, size=0, page_token="")).items] == [
        made[2].id
    ]
    assert len((await wallet.reservations(None, None, size=0, page_token="")).items) == 6


async def test_ledger_entries_are_listed_newest_first_in_pages(wallet, student):
    for _ in range(3):
        await wallet.finalize((await reserve(wallet, student)).id, 60, uuid4())
    first = await wallet.entries(None, size=4, page_token="")
    await reserve(wallet, student)
    rest = await wallet.entries(None, size=100, page_token=first.next_page_token)
    assert [entry.sequence for entry in (*first.items, *rest.items)] == list(range(10, 0, -1))
    assert first.items[0].balance_after_tokens == 1_000 - 180


async def test_entries_are_found_by_the_ids_that_caused_them(wallet, student):
    request_id, settle_id = uuid4(), uuid4()
    reservation = await wallet.reserve(student.user_id, 100, "ask", request_id)
    await wallet.finalize(reservation.id, 60, settle_id)
    kinds = [entry.kind.value for entry in await wallet.caused_entries(request_id)]
    assert kinds == ["hold", "charge", "refund"]
    assert [entry.kind.value for entry in await wallet.caused_entries(settle_id)] == kinds
    assert [e.kind.value for e in await wallet.caused_entries(student.request_id)] == ["grant", *kinds]
    assert await wallet.caused_entries(uuid4()) == []
