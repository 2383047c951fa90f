"""Corrections and payments: each credits once."""

import asyncio
import hmac
import json
import time
from dataclasses import replace
from uuid import uuid4

import pytest

from server.caller import Role, acting_as, current, system
from server.database.once import Once
from server.refusal import (
    Forbidden,
    InsufficientBalance,
    NotFound,
    NotSignedIn,
    RequestIdReused,
)
from server.wallet.credits import CreditService
from server.wallet.ledger import Kind
from server.wallet.topup import Payment


@pytest.mark.parametrize(
    ("delta", "balance", "accounts"),
    [(250, 1_250, ("platform:grants", "user:available")), (-250, 750, ("user:available", "platform:grants"))],
)
async def test_a_correction_is_an_entry_with_its_reason(credits, student, admin, books, seen, delta, balance, accounts):
    with acting_as(admin):
        entry = await credits.adjust(student.user_id, delta, "lost scratch card | n° 7", uuid4())
    assert (entry.kind, entry.amount_tokens, entry.balance_after_tokens) == (Kind.ADJUSTMENT, 250, balance)
    assert (entry.debit_account, entry.credit_account, entry.reason) == (*accounts, "lost scratch card | n° 7")
    assert books.balance(student.user_id) == (balance, 0)
    assert books.problems() == {}
    (audited,) = seen.audit
    assert audited[:3] == ("wallet.adjust", f"wallet/{student.user_id}", {"available_tokens": 1_000})


async def test_a_correction_cannot_take_more_than_is_available(credits, student, admin, books, seen):
    with acting_as(admin), pytest.raises(InsufficientBalance) as refused:
        await credits.adjust(student.user_id, -1_001, "too much", uuid4())
    assert refused.value.metadata == {"needed": "1001", "available": "1000"}
    assert (books.balance(student.user_id), seen.audit) == ((1_000, 0), [])


async def test_a_correction_takes_back_what_only_an_overdue_hold_keeps(credits, wallet, student, admin, books):
    reservation = await wallet.reserve(student.user_id, 1_000, "ask", uuid4())
    books.age(reservation.id, 301)
    with acting_as(admin):
        await credits.adjust(student.user_id, -1_000, "closing", uuid4())
    assert books.balance(student.user_id) == (0, 0)


async def test_a_retried_correction_returns_the_first_entry(credits, student, admin, books):
    request_id = uuid4()
    with acting_as(admin):
        first = await credits.adjust(student.user_id, 250, "again", request_id)
        assert await credits.adjust(student.user_id, 250, "again", request_id) == first
        with pytest.raises(RequestIdReused):
            await credits.adjust(student.user_id, 251, "again", request_id)
    assert books.balance(student.user_id) == (1_250, 0)


async def test_a_correction_retried_after_its_first_result_was_forgotten_has_no_second_effect(
    credits, student, admin, books, owner
):
    request_id = uuid4()
    with acting_as(admin):
        await credits.adjust(student.user_id, 250, "a gift", request_id)
        owner.execute("DELETE FROM idempotency")
        with pytest.raises(RequestIdReused):
            await credits.adjust(student.user_id, 250, "a gift", request_id)
    assert books.balance(student.user_id) == (1_250, 0)


async def test_a_correction_whose_audit_fails_does_not_happen(database, student, admin, books):
    async def broken(*_):
        raise LookupError

    service = CreditService(database, Once(database), audit=broken, voucher_key=b"k" * 32)
    with acting_as(admin), pytest.raises(LookupError):
        await service.adjust(student.user_id, 250, "unseen", uuid4())
    assert books.balance(student.user_id) == (1_000, 0)


async def test_a_correction_of_nobody_s_wallet_is_not_found(credits, admin):
    with acting_as(admin), pytest.raises(NotFound):
        await credits.adjust(uuid4(), 250, "nobody", uuid4())


# Payments


def payment(student, reference=None, tokens=700):
    return Payment("bankily", reference or f"BK-{uuid4()}", student.user_id, tokens)


async def test_a_payment_reported_ten_times_credits_once(credits, student, books):
    paid = payment(student)
    with acting_as(system()):
        results = [await credits.top_up(paid) for _ in range(10)]
    assert [result.credited for result in results] == [True] + [False] * 9
    assert {result.balance_tokens for result in results} == {1_700}
    assert books.entries(student.user_id) == [("grant", 1_000), ("top_up", 700)]
    assert books.problems() == {}


async def test_a_payment_reported_ten_times_at_once_credits_once(credits, student, books):
    paid = payment(student)
    with acting_as(system()):
        results = await asyncio.gather(*(credits.top_up(paid) for _ in range(10)))
    assert sorted(result.credited for result in results) == [False] * 9 + [True]
    assert books.balance(student.user_id) == (1_700, 0)


async def test_a_reference_with_another_amount_or_user_is_refused(credits, student, make_user, books):
    paid = payment(student)
    with acting_as(system()):
        await credits.top_up(paid)
        for changed in (replace(paid, tokens=701), replace(paid, user_id=make_user().user_id)):
            with pytest.raises(RequestIdReused):
                await credits.top_up(changed)
    assert books.balance(student.user_id) == (1_700, 0)


async def test_two_providers_may_use_the_same_reference(credits, student, books):
    paid = payment(student)
    with acting_as(system()):
        await credits.top_up(paid)
        await credits.top_up(replace(paid, provider="masrvi"))
    assert books.balance(student.user_id) == (2_400, 0)


async def test_a_student_cannot_report_a_payment(credits, student, books):
    with pytest.raises(Forbidden):
        await credits.top_up(payment(student))
    assert books.balance(student.user_id) == (1_000, 0)


async def test_a_payment_for_nobody_is_not_found(credits, student):
    with acting_as(system()), pytest.raises(NotFound):
        await credits.top_up(replace(payment(student), user_id=uuid4()))


async def test_a_payment_for_an_erased_account_is_not_found_unless_it_was_credited_before(credits, student, owner):
    paid = payment(student)
    with acting_as(system()):
        await credits.top_up(paid)
        owner.execute(
            "UPDATE app_user SET erased_at = now(), email = NULL, display_name = '' WHERE id = %s", [student.user_id]
        )
        assert (await credits.top_up(paid)).credited is False
        with pytest.raises(NotFound):
            await credits.top_up(replace(paid, reference="BK-after"))


async def test_a_signed_callback_credits_although_nobody_is_signed_in(credits, student, books):
    content = json.dumps({"reference": "BK-77", "user_id": str(student.user_id), "tokens": 300}).encode()
    sent_at = str(int(time.time()))
    proof = {"signature": hmac.digest(b"shared with bankily", f"{sent_at}.".encode() + content, "sha256").hex()}
    proof["sent_at"] = sent_at
    with acting_as(replace(current(), user_id=None, role=Role.ANYONE)):
        for credited in (True, False):
            assert (await credits.accept_callback("bankily", content, **proof)).credited is credited
        with pytest.raises(NotSignedIn):
            await credits.accept_callback("bankily", content, signature="00" * 32, sent_at=sent_at)
        with pytest.raises(NotFound):
            await credits.accept_callback("unknown", content, **proof)
    assert books.balance(student.user_id) == (1_300, 0)
