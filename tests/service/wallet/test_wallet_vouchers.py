"""Vouchers: each code works once, only hashes are kept, and guessing does not pay."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from server.caller import acting_as, system
from server.database.once import Once
from server.refusal import (
    Forbidden,
    Invalid,
    RequestIdReused,
    TooManyAttempts,
    VoucherExpired,
    VoucherUnknown,
    VoucherUsed,
)
from server.wallet.credits import UNKNOWN_CODES_PER_ADDRESS, UNKNOWN_CODES_PER_USER, CreditService


def age_failures(owner, seconds):
    owner.execute("UPDATE voucher_failure SET failed_at = failed_at - make_interval(secs => %s)", [seconds])


# Vouchers


async def test_a_voucher_adds_its_tokens(credits, student, issue, books):
    (code,) = await issue(tokens=500)
    redemption = await credits.redeem(code, uuid4())
    assert (redemption.tokens, redemption.balance_tokens) == (500, 1_500)
    assert books.entries(student.user_id) == [("grant", 1_000), ("voucher", 500)]
    assert books.problems() == {}


async def test_a_voucher_works_once(credits, student, issue, books):
    (code,) = await issue()
    await credits.redeem(code, uuid4())
    with pytest.raises(VoucherUsed):
        await credits.redeem(code, uuid4())
    assert books.balance(student.user_id) == (1_500, 0)


async def test_of_a_hundred_at_once_one_redeems_a_voucher(credits, make_user, issue, books):
    (code,) = await issue(tokens=500)
    users = [make_user() for _ in range(100)]

    async def redeem(user):
        with acting_as(user):
            try:
                return (await credits.redeem(code, uuid4())).tokens
            except VoucherUsed:
                return 0

    assert sorted(await asyncio.gather(*map(redeem, users))) == [0] * 99 + [500]
    assert sum(books.balance(user.user_id)[0] for user in users) == 500
    assert books.problems() == {}


async def test_one_user_s_hundred_tries_at_once_redeem_a_voucher_once(credits, student, issue, books):
    (code,) = await issue(tokens=500)

    async def redeem():
        try:
            return (await credits.redeem(code, uuid4())).tokens
        except VoucherUsed:
            return 0

    assert sorted(await asyncio.gather(*(redeem() for _ in range(100)))) == [0] * 99 + [500]
    assert books.balance(student.user_id) == (1_500, 0)


async def test_a_retried_redeem_returns_the_first_result(credits, student, issue, books):
    (code,) = await issue()
    request_id = uuid4()
    first = await credits.redeem(code, request_id)
    assert await credits.redeem(code.lower(), request_id) == first
    assert books.balance(student.user_id) == (1_500, 0)


async def test_a_redeem_with_another_code_is_refused(credits, student, issue):
    one, other = await issue(count=2)
    request_id = uuid4()
    await credits.redeem(one, request_id)
    with pytest.raises(RequestIdReused):
        await credits.redeem(other, request_id)


async def test_a_voucher_runs_out_at_its_last_moment(credits, student, issue, books):
    request_id = uuid4()
    (code,) = await issue(expires_at=datetime.now(UTC) + timedelta(hours=1), request_id=request_id)
    books.run_out(request_id)
    with pytest.raises(VoucherExpired):
        await credits.redeem(code, uuid4())
    assert books.balance(student.user_id) == (1_000, 0)


async def test_vouchers_that_nobody_could_redeem_are_not_issued(issue):
    with pytest.raises(Invalid) as refused:
        await issue(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert [violation.field for violation in refused.value.violations] == ["expires_at"]


async def test_a_voucher_before_its_last_moment_works(credits, student, issue):
    (code,) = await issue(expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert (await credits.redeem(code, uuid4())).tokens == 500


@pytest.mark.parametrize("typed", ["AAAA-AAAA-AAAA-AAAA", "nothing like a code", "ABCD-1234"])
async def test_an_unknown_code_says_so(credits, student, typed):
    with pytest.raises(VoucherUnknown):
        await credits.redeem(typed, uuid4())


async def test_only_hashes_of_codes_are_stored(issue, owner):
    (code,) = await issue()
    kept = owner.execute("SELECT string_agg(v::text, ' ') FROM voucher v").fetchone()[0]
    kept += owner.execute("SELECT string_agg(i::text, ' ') FROM idempotency i").fetchone()[0]
    assert code not in kept
    assert code.replace("-", "") not in kept


async def guess(credits, times=1):
    for _ in range(times):
        with pytest.raises(VoucherUnknown):
            await credits.redeem("AAAA-AAAA-AAAA-AAAA", uuid4())


async def test_guessing_is_stopped_and_says_for_how_long(credits, student, owner, issue, books):
    (code,) = await issue()
    await guess(credits, UNKNOWN_CODES_PER_USER)
    for typed in ("AAAA-AAAA-AAAA-AAAA", code):
        with pytest.raises(TooManyAttempts) as refused:
            await credits.redeem(typed, uuid4())
        assert 0 < refused.value.retry_after_seconds <= 900
    assert books.balance(student.user_id) == (1_000, 0)
    age_failures(owner, 900)
    assert (await credits.redeem(code, uuid4())).tokens == 500


async def test_the_window_moves_with_each_guess(credits, student, owner):
    await guess(credits, UNKNOWN_CODES_PER_USER - 1)
    age_failures(owner, 600)
    await guess(credits)
    with pytest.raises(TooManyAttempts) as refused:
        await credits.redeem("AAAA-AAAA-AAAA-AAAA", uuid4())
    assert refused.value.retry_after_seconds == pytest.approx(300, abs=5)
    age_failures(owner, 301)
    await guess(credits)


async def test_guesses_survive_a_restart(credits, database, student, seen):
    await guess(credits, UNKNOWN_CODES_PER_USER)
    restarted = CreditService(database, Once(database), audit=seen.record, voucher_key=b"k" * 32)
    with pytest.raises(TooManyAttempts):
        await restarted.redeem("AAAA-AAAA-AAAA-AAAA", uuid4())


async def test_a_hundred_guesses_at_once_count_as_a_hundred(credits, student, owner):
    async def attempt(number):
        try:
            with acting_as(replace(student, address=f"198.51.100.{number}")):
                await credits.redeem("AAAA-AAAA-AAAA-AAAA", uuid4())
        except (VoucherUnknown, TooManyAttempts) as refusal:
            return type(refusal)

    outcomes = await asyncio.gather(*map(attempt, range(100)))
    assert outcomes.count(VoucherUnknown) == UNKNOWN_CODES_PER_USER


@pytest.mark.parametrize("shared", ["user", "address"])
async def test_a_guess_waits_for_the_one_before_it_of_the_same(credits, student, make_user, owner, addresses, shared):
    address = f"203.0.113.{['user', 'address'].index(shared)}"
    if shared == "user":
        guesser = student
        await guess(credits, UNKNOWN_CODES_PER_USER - 1)
    else:
        guesser = make_user()
        owner.execute(
            "INSERT INTO voucher_failure (user_id, address, failed_at)"
            " SELECT gen_random_uuid(), %s, now() FROM generate_series(2, %s)",
            [address, UNKNOWN_CODES_PER_ADDRESS],
        )
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
    with psycopg.connect(addresses.owner_url, options="-c search_path=bacmr") as first:
        asked = [guesser.user_id, address, b"x" * 32, uuid4(), UNKNOWN_CODES_PER_USER, UNKNOWN_CODES_PER_ADDRESS]
        first.execute("SELECT wallet_guess_voucher(%s, %s, %s, %s, %s, %s, 900)", asked)
        with acting_as(replace(student, address="" if shared == "user" else address)):
            second = asyncio.create_task(credits.redeem("AAAA-AAAA-AAAA-AAAA", uuid4()))
        while not second.done() and not owner.execute(waiting).fetchone()[0]:  # noqa: ASYNC110 - PostgreSQL has no event
            await asyncio.sleep(0)
        first.commit()
    with pytest.raises(TooManyAttempts):
        await second


@pytest.mark.parametrize(
    ("address", "same", "another"),
    [("192.0.2.7", "192.0.2.7", "192.0.2.8"), ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1")],
)
async def test_many_users_of_one_address_share_a_limit(credits, make_user, address, same, another):
    for _ in range(UNKNOWN_CODES_PER_ADDRESS // UNKNOWN_CODES_PER_USER):
        with acting_as(replace(make_user(), address=address)):
            await guess(credits, UNKNOWN_CODES_PER_USER)
    with acting_as(replace(make_user(), address=same)), pytest.raises(TooManyAttempts):
        await credits.redeem("AAAA-AAAA-AAAA-AAAA", uuid4())
    with acting_as(replace(make_user(), address=another)):
        await guess(credits)


async def test_used_and_expired_codes_are_not_guesses(credits, student, issue):
    (code,) = await issue()
    await credits.redeem(code, uuid4())
    for _ in range(UNKNOWN_CODES_PER_USER + 1):
        with pytest.raises(VoucherUsed):
            await credits.redeem(code, uuid4())


async def test_a_retried_redeem_is_served_although_guessing_was_stopped(credits, student, issue):
    (code,) = await issue()
    request_id = uuid4()
    first = await credits.redeem(code, request_id)
    await guess(credits, UNKNOWN_CODES_PER_USER)
    assert await credits.redeem(code, request_id) == first


async def test_the_sweeper_forgets_old_guesses(credits, wallet, student, owner):
    await guess(credits)
    age_failures(owner, 90_000)
    with acting_as(system()):
        await wallet.expire_overdue()
    assert owner.execute("SELECT count(*) FROM voucher_failure WHERE user_id = %s", [student.user_id]).fetchone() == (
        0,
    )


async def test_a_caller_without_an_account_cannot_redeem(credits):
    with acting_as(system()), pytest.raises(Forbidden):
        await credits.redeem("AAAA-AAAA-AAAA-AAAA", uuid4())


# Issuing


async def test_issued_codes_are_all_different_and_audited(credits, admin, seen):
    with acting_as(admin):
        batch = await credits.issue_vouchers(20, 500, None, uuid4(), "Lycée de Kiffa")
    assert len(set(batch.codes)) == 20
    expected = {"count": 20, "tokens": 500, "expires_at": None, "note": "Lycée de Kiffa"}
    assert seen.audit == [("voucher.issue", f"voucher_batch/{batch.batch_id}", None, expected)]


async def test_a_retried_issue_returns_the_same_codes(credits, admin, owner):
    request_id = uuid4()
    with acting_as(admin):
        first = await credits.issue_vouchers(3, 500, None, request_id)
        assert await credits.issue_vouchers(3, 500, None, request_id) == first
    assert owner.execute("SELECT count(*) FROM voucher WHERE batch_id = %s", [first.batch_id]).fetchone() == (3,)


async def test_a_retried_issue_with_another_payload_is_refused(credits, admin):
    request_id = uuid4()
    with acting_as(admin):
        await credits.issue_vouchers(3, 500, None, request_id)
        with pytest.raises(RequestIdReused):
            await credits.issue_vouchers(3, 501, None, request_id)


@pytest.fixture
def forget(owner):
    """A function that forgets first results, as the sweep does a day later."""
    return lambda: owner.execute("DELETE FROM idempotency")


async def test_an_issue_retried_after_a_day_makes_no_second_batch_and_shows_no_codes(
    credits, admin, owner, seen, forget
):
    asked = (3, 500, datetime.now(UTC) + timedelta(days=30), uuid4(), "a class")
    with acting_as(admin):
        first = await credits.issue_vouchers(*asked)
        forget()
        for _ in range(2):
            again = await credits.issue_vouchers(*asked)
            assert (again.batch_id, again.codes) == (first.batch_id, ())
    batches = owner.execute("SELECT count(*) FROM voucher_batch WHERE request_id = %s", [asked[3]])
    assert batches.fetchone() == (1,)
    assert len(seen.audit) == 1


@pytest.mark.parametrize(
    "other", [(4, 500, None, ""), (3, 501, None, ""), (3, 500, datetime.now(UTC), ""), (3, 500, None, "x")]
)
async def test_an_issue_of_something_else_after_a_day_is_refused(credits, admin, forget, other):
    request_id = uuid4()
    with acting_as(admin):
        await credits.issue_vouchers(3, 500, None, request_id)
        forget()
        with pytest.raises(RequestIdReused):
            await credits.issue_vouchers(*other[:3], request_id, other[3])


async def test_a_retried_issue_after_a_change_of_secret_returns_no_wrong_codes(database, admin, seen):
    request_id = uuid4()
    services = [
        CreditService(database, Once(database), audit=seen.record, voucher_key=key * 32) for key in (b"a", b"b")
    ]
    with acting_as(admin):
        first = await services[0].issue_vouchers(3, 500, None, request_id)
        again = await services[1].issue_vouchers(3, 500, None, request_id)
    assert (again.batch_id, again.codes) == (first.batch_id, ())


@pytest.mark.parametrize("role", ["student", "teacher", "service"])
async def test_only_admins_issue_and_adjust(credits, make_user, student, role, books):
    with acting_as(make_user(role=role)):
        with pytest.raises(Forbidden):
            await credits.issue_vouchers(1, 500, None, uuid4())
        with pytest.raises(Forbidden):
            await credits.adjust(student.user_id, 500, "a gift", uuid4())
    assert books.balance(student.user_id) == (1_000, 0)


def test_a_short_secret_is_refused(database, seen):
    with pytest.raises(ValueError, match="32 bytes"):
        CreditService(database, Once(database), audit=seen.record, voucher_key=b"short")
