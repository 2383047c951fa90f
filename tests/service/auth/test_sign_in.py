"""Sign-up, sign-in and the guard against guessing."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import argon2
import psycopg
import pytest

from server.auth.account import Profile
from server.caller import Caller, Role, Tier, acting_as
from server.refusal import (
    AccountDisabled,
    AlreadyExists,
    Invalid,
    RequestIdReused,
    TooManyAttempts,
    WrongCredentials,
)
from server.text.language import Language

PASSWORD = "correct horse"


def email() -> str:
    return f"{uuid4()}@example.org"


def at(address: str) -> Any:
    """From an address of its own, so that one test's failures do not count against another."""
    return acting_as(Caller(address=address))


async def test_a_new_account_is_signed_in_as_a_student_with_a_wallet(house: Any) -> None:
    signed_in = await house.service.sign_up(email(), "", PASSWORD, Profile("Mariem", Language.ARABIC), "phone")
    identity = await house.identity(signed_in.access_token)
    assert (identity.user_id, identity.role, identity.tier) == (signed_in.user.id, Role.STUDENT, Tier.FREE)
    assert identity.session_id == signed_in.session_id
    assert (signed_in.user.display_name, signed_in.user.preferred_language) == ("Mariem", Language.ARABIC)
    assert house.wallets == {signed_in.user.id: 20_000}


async def test_an_account_can_be_made_with_a_phone_number_and_signed_in_with_any_spelling_of_it(house: Any) -> None:
    made = await house.service.sign_up("", "+22236123456", PASSWORD, Profile())
    again = await house.service.sign_in("", "٣٦ ١٢ ٣٤ ٥٦", PASSWORD)
    assert (made.user.phone, again.user.id) == ("+22236123456", made.user.id)


async def test_the_same_address_in_other_letters_is_the_same_account(house: Any) -> None:
    name = email()
    made = await house.service.sign_up(name.upper(), "", PASSWORD, Profile())
    assert (await house.service.sign_in(name, "", PASSWORD)).user.id == made.user.id
    with pytest.raises(AlreadyExists):
        await house.service.sign_up(name, "", PASSWORD, Profile())


async def test_no_account_is_made_when_the_wallet_cannot_be_opened(
    new_house: Callable[..., Any], owner: psycopg.Connection
) -> None:
    name = email()
    with pytest.raises(RuntimeError, match="no wallet today"):
        await new_house(refuse_wallets=True).service.sign_up(name, "", PASSWORD, Profile())
    assert owner.execute("SELECT count(*) FROM app_user WHERE email = %s", [name]).fetchone() == (0,)


async def test_a_retried_sign_up_makes_no_second_account_and_signs_in(house: Any) -> None:
    request_id, name = uuid4(), email()
    first = await house.service.sign_up(name, "", PASSWORD, Profile(), request_id=request_id)
    again = await house.service.sign_up(name, "", PASSWORD, Profile(), request_id=request_id)
    assert again.user.id == first.user.id
    assert (await house.identity(again.access_token)).user_id == first.user.id


async def test_a_stranger_who_replays_a_sign_up_without_its_password_gets_nothing(house: Any) -> None:
    request_id, name = uuid4(), email()
    await house.service.sign_up(name, "", PASSWORD, Profile(), request_id=request_id)
    with pytest.raises(RequestIdReused):
        await house.service.sign_up(name, "", "another password", Profile(), request_id=request_id)


async def test_parallel_sign_ups_with_one_request_id_make_one_account(house: Any) -> None:
    request_id, name = uuid4(), email()
    made = await asyncio.gather(
        *(house.service.sign_up(name, "", PASSWORD, Profile(), request_id=request_id) for _ in range(6))
    )
    assert len({signed_in.user.id for signed_in in made}) == 1
    assert len(house.wallets) == 1


@pytest.mark.parametrize("password", ["short12", "x" * 129, "é" * 7, "amina1234@example.org", "36123456"])
async def test_a_password_that_is_short_long_or_the_name_is_refused(house: Any, password: str) -> None:
    with pytest.raises(Invalid):
        login = ("", "+22236123456") if password.isdigit() else ("amina1234@example.org", "")
        await house.service.sign_up(*login, password, Profile())


async def test_nothing_secret_is_stored(house: Any, owner: psycopg.Connection) -> None:
    signed_in = await house.service.sign_up(email(), "", "a very secret password", Profile(), request_id=uuid4())
    tables = ("app_user", "session", "refresh_token", "idempotency", "sign_in_attempt")
    stored = "".join(str(owner.execute(f"SELECT * FROM {table}").fetchall()) for table in tables)
    assert "a very secret password" not in stored
    assert signed_in.refresh_token not in stored
    assert signed_in.access_token not in stored


async def test_unknown_accounts_and_wrong_passwords_get_the_same_answer_for_the_same_work(house: Any) -> None:
    name = email()
    await house.service.sign_up(name, "", PASSWORD, Profile())
    answers = []
    for tried in (name, email(), "no address at all"):
        before = house.hasher.verified
        with at(f"wrong {tried}"), pytest.raises(WrongCredentials) as refusal:
            await house.service.sign_in(tried, "", "wrong password")
        answers.append((str(refusal.value), refusal.value.metadata, house.hasher.verified - before))
    assert answers[0][2] == 1
    assert len({str(answer) for answer in answers}) == 1


async def test_the_sixth_attempt_on_an_account_is_refused_even_with_the_right_password(house: Any) -> None:
    name = email()
    await house.service.sign_up(name, "", PASSWORD, Profile())
    for number in range(5):
        with at(f"198.51.100.{number}"), pytest.raises(WrongCredentials):
            await house.service.sign_in(name, "", "wrong password")
    work = house.hasher.verified
    with at("198.51.100.99"), pytest.raises(TooManyAttempts) as refusal:
        await house.service.sign_in(name, "", PASSWORD)
    assert 880 < refusal.value.retry_after_seconds <= 900
    assert house.hasher.verified == work


async def test_a_lock_does_not_tell_whether_the_name_has_an_account(house: Any) -> None:
    known, unknown = email(), email()
    await house.service.sign_up(known, "", PASSWORD, Profile())
    told = []
    for subnet, name in enumerate((known, unknown), start=60):
        for number in range(5):
            with at(f"198.51.{subnet}.{number}"), pytest.raises(WrongCredentials):
                await house.service.sign_in(name, "", "wrong password")
        work = house.hasher.verified
        with at(f"198.51.{subnet}.99"), pytest.raises(TooManyAttempts) as refusal:
            await house.service.sign_in(name, "", PASSWORD)
        told.append((str(refusal.value), refusal.value.metadata, house.hasher.verified - work))
    assert told[0] == told[1]
    assert told[0][1:] == ({"scope": "account", "limit": "5", "window_seconds": "900"}, 0)


async def test_the_sixth_attempt_from_an_address_is_refused_whatever_the_account(house: Any) -> None:
    name = email()
    await house.service.sign_up(name, "", PASSWORD, Profile())
    with at("2001:db8:1:2::1"):
        for _ in range(5):
            with pytest.raises(WrongCredentials):
                await house.service.sign_in(email(), "", "wrong password")
    with at("2001:db8:1:2:ffff::7"), pytest.raises(TooManyAttempts) as refusal:
        await house.service.sign_in(name, "", PASSWORD)
    assert refusal.value.metadata["scope"] == "address"
    with at("2001:db8:1:3::1"):
        assert await house.service.sign_in(name, "", PASSWORD)


async def test_the_window_moves(house: Any, owner: psycopg.Connection) -> None:
    name = email()
    await house.service.sign_up(name, "", PASSWORD, Profile())
    with at("203.0.113.9"):
        for _ in range(5):
            with pytest.raises(WrongCredentials):
                await house.service.sign_in(name, "", "wrong password")
        owner.execute(
            "UPDATE sign_in_attempt SET attempted_at = attempted_at - interval '15 minutes'"
            " WHERE id = (SELECT min(id) FROM sign_in_attempt WHERE address = '203.0.113.9')"
        )
        assert await house.service.sign_in(name, "", PASSWORD)


async def test_attempts_are_shared_by_all_processes(house: Any, new_house: Callable[..., Any]) -> None:
    name, other = email(), new_house()
    await house.service.sign_up(name, "", PASSWORD, Profile())
    for number in range(5):
        with at(f"198.51.101.{number}"), pytest.raises(WrongCredentials):
            await (house if number % 2 else other).service.sign_in(name, "", "wrong password")
    with at("198.51.101.99"), pytest.raises(TooManyAttempts):
        await other.service.sign_in(name, "", PASSWORD)


async def test_of_twenty_parallel_guesses_five_are_answered(house: Any) -> None:
    name = email()
    await house.service.sign_up(name, "", PASSWORD, Profile())
    work = house.hasher.verified
    with at("203.0.113.77"):
        results = await asyncio.gather(
            *(house.service.sign_in(name, "", f"wrong {number}") for number in range(20)), return_exceptions=True
        )
    assert sorted(type(result).__name__ for result in results) == ["TooManyAttempts"] * 15 + ["WrongCredentials"] * 5
    assert house.hasher.verified - work == 5


async def test_a_whole_school_signs_in_from_one_address(house: Any) -> None:
    names = [email() for _ in range(8)]
    for name in names:
        await house.service.sign_up(name, "", PASSWORD, Profile())
    with at("203.0.113.80"):
        signed_in = await asyncio.gather(*(house.service.sign_in(name, "", PASSWORD) for name in names))
    assert len({each.user.id for each in signed_in}) == 8


async def test_a_success_forgives_earlier_mistakes_from_the_same_place(house: Any) -> None:
    name = email()
    await house.service.sign_up(name, "", PASSWORD, Profile())
    with at("203.0.113.90"):
        for _ in range(3):
            for _ in range(4):
                with pytest.raises(WrongCredentials):
                    await house.service.sign_in(name, "", "wrong password")
            await house.service.sign_in(name, "", PASSWORD)


async def test_only_who_knows_the_password_learns_that_the_account_is_disabled(house: Any) -> None:
    name = email()
    made = await house.service.sign_up(name, "", PASSWORD, Profile())
    with acting_as(Caller(uuid4(), Role.ADMIN)):
        await house.directory.set_disabled(made.user.id, True, uuid4())
    with at("203.0.113.95"):
        with pytest.raises(AccountDisabled):
            await house.service.sign_in(name, "", PASSWORD)
        with pytest.raises(WrongCredentials):
            await house.service.sign_in(name, "", "wrong password")


async def test_a_sign_in_that_meets_a_disabling_half_way_opens_no_session(
    house: Any, addresses: Any, owner: psycopg.Connection
) -> None:
    made = await house.service.sign_up(email(), "", PASSWORD, Profile())
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(addresses.owner_url, options="-c search_path=bacmr") as other:
        other.execute("UPDATE app_user SET disabled_at = now() WHERE id = %s", [made.user.id])
        sign_in = asyncio.ensure_future(house.service.sign_in(made.user.email, "", PASSWORD))
        while owner.execute(waiting).fetchone() == (0,) and not sign_in.done():  # noqa: ASYNC110 - only a look can tell
            await asyncio.sleep(0.01)
    with pytest.raises(AccountDisabled):
        await sign_in


async def test_an_old_hash_is_made_anew_at_sign_in(house: Any, owner: psycopg.Connection) -> None:
    name = email()
    await house.service.sign_up(name, "", PASSWORD, Profile())
    old = argon2.PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash(PASSWORD)
    owner.execute("UPDATE app_user SET password_hash = %s WHERE email = %s", [old, name])
    await house.service.sign_in(name, "", PASSWORD)
    stored = owner.execute("SELECT password_hash FROM app_user WHERE email = %s", [name]).fetchone()
    assert stored is not None
    assert not house.passwords.outdated(stored[0])
    assert await house.service.sign_in(name, "", PASSWORD)
