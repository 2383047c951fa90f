"""What people change about their account, and how they leave."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text

from server.auth.account import Profile
from server.auth.sessions import SignedIn
from server.auth.store import Connection
from server.caller import acting_as, system
from server.database.pool import Database
from server.refusal import (
    IllegalState,
    Invalid,
    NotFound,
    NotSignedIn,
    RefreshRefused,
    TooManyAttempts,
    WrongCredentials,
)
from server.text.language import Language

PASSWORD = "correct horse"
NEW_PASSWORD = "battery staple"


async def signed_up(house: Any) -> SignedIn:
    profile = Profile("Mariem", Language.ARABIC)
    made: SignedIn = await house.service.sign_up(f"{uuid4()}@example.org", "", PASSWORD, profile, "Mariem's phone")
    return made


async def test_the_profile_is_what_was_signed_up(house: Any) -> None:
    signed_in = await signed_up(house)
    with acting_as(await house.caller(signed_in.access_token)):
        assert await house.service.get_me() == signed_in.user


async def test_a_change_of_the_profile_is_seen_and_the_same_mask_again_changes_nothing(house: Any) -> None:
    signed_in = await signed_up(house)
    with acting_as(await house.caller(signed_in.access_token)):
        changed = await house.service.update_me(Profile(" Fatou ", Language.FRENCH), ["display_name"])
        assert (changed.display_name, changed.preferred_language) == ("Fatou", Language.ARABIC)
        assert await house.service.get_me() == changed
        assert await house.service.update_me(Profile("Fatou"), ["display_name"]) == changed


async def test_two_changes_at_once_of_two_fields_are_both_kept(house: Any) -> None:
    signed_in = await signed_up(house)
    with acting_as(await house.caller(signed_in.access_token)):
        for name in ("A", "B", "C"):
            change = Profile(name, Language.HASSANIYA)
            await asyncio.gather(
                house.service.update_me(change, ["display_name"]),
                house.service.update_me(change, ["preferred_language"]),
                house.service.update_me(change, ["display_name"]),
            )
            me = await house.service.get_me()
            assert (me.display_name, me.preferred_language) == (name, Language.HASSANIYA)
            await house.service.update_me(Profile("x", None), ["*"])


async def test_nobody_changes_their_own_role(house: Any) -> None:
    signed_in = await signed_up(house)
    with acting_as(await house.caller(signed_in.access_token)), pytest.raises(Invalid):
        await house.service.update_me(Profile(), ["role"])


async def test_a_new_password_replaces_the_old_one_and_ends_the_other_devices(house: Any) -> None:
    phone = await signed_up(house)
    laptop = await house.service.sign_in(phone.user.email, "", PASSWORD)
    with acting_as(await house.caller(phone.access_token)):
        await house.service.change_password(PASSWORD, NEW_PASSWORD)
    with pytest.raises(WrongCredentials):
        await house.service.sign_in(phone.user.email, "", PASSWORD)
    assert await house.service.sign_in(phone.user.email, "", NEW_PASSWORD)
    with pytest.raises(NotSignedIn):
        await house.identity(laptop.access_token)
    with pytest.raises(RefreshRefused):
        await house.service.refresh(laptop.refresh_token)
    assert await house.service.refresh(phone.refresh_token)


async def test_a_stolen_access_token_does_not_guess_the_password(house: Any) -> None:
    signed_in = await signed_up(house)
    with acting_as(await house.caller(signed_in.access_token, "192.0.2.50")):
        for _ in range(5):
            with pytest.raises(WrongCredentials):
                await house.service.change_password("a wrong guess", NEW_PASSWORD)
        with pytest.raises(TooManyAttempts):
            await house.service.change_password(PASSWORD, NEW_PASSWORD)


async def test_a_bad_new_password_is_refused(house: Any) -> None:
    signed_in = await signed_up(house)
    with acting_as(await house.caller(signed_in.access_token)), pytest.raises(Invalid) as refusal:
        await house.service.change_password(PASSWORD, "short")
    assert refusal.value.violations[0].field == "new_password"


async def test_who_leaves_leaves_no_personal_data_behind(house: Any, owner: psycopg.Connection) -> None:
    email, name, device = f"{uuid4()}@example.org", f"Name {uuid4()}", f"Device {uuid4()}"
    signed_in = await house.service.sign_up(email, "", PASSWORD, Profile(name), device, uuid4())
    with acting_as(await house.caller(signed_in.access_token)):
        await house.service.update_me(Profile(f"New {name}"), ["display_name"], uuid4())
        await house.service.delete_me(PASSWORD, uuid4())
    stored = "".join(
        str(owner.execute(f"SELECT * FROM {table}").fetchall())
        for table in ("app_user", "session", "refresh_token", "sign_in_attempt", "idempotency")
    )
    assert str(signed_in.user.id) in stored
    assert not any(personal in stored for personal in (email, name, device))
    assert house.erased == [signed_in.user.id]


async def test_who_left_is_signed_out_everywhere_and_the_address_is_free_again(house: Any) -> None:
    phone = await signed_up(house)
    laptop = await house.service.sign_in(phone.user.email, "", PASSWORD)
    with acting_as(await house.caller(phone.access_token)):
        await house.service.delete_me(PASSWORD)
        with pytest.raises(NotFound):
            await house.service.get_me()
    for device in (phone, laptop):
        with pytest.raises(NotSignedIn):
            await house.identity(device.access_token)
        with pytest.raises(RefreshRefused):
            await house.service.refresh(device.refresh_token)
    with pytest.raises(WrongCredentials):
        await house.service.sign_in(phone.user.email, "", PASSWORD)
    again = await house.service.sign_up(phone.user.email, "", PASSWORD, Profile())
    assert again.user.id != phone.user.id


async def open_real_wallet(connection: Connection, user_id: UUID, welcome_tokens: int) -> None:
    values = {"user": user_id, "tokens": welcome_tokens, "id": uuid4()}
    await connection.execute(text("SELECT wallet_open(:user, :tokens, :id, :id)"), values)


async def test_the_ledger_of_who_left_stays_whole_balanced_and_nameless(
    new_house: Callable[..., Any], database: Database, owner: psycopg.Connection
) -> None:
    house = new_house(open_wallet=open_real_wallet)
    signed_in = await signed_up(house)
    ledger = "SELECT * FROM ledger_entry WHERE user_id = %s"
    before = owner.execute(ledger, [signed_in.user.id]).fetchall()
    with acting_as(await house.caller(signed_in.access_token)):
        await house.service.delete_me(PASSWORD)
    with acting_as(system()):
        async with database.transaction() as connection:
            checks = (await connection.execute(text("SELECT name, problems FROM wallet_reconcile()"))).all()
    assert len(before) == 1
    assert owner.execute(ledger, [signed_in.user.id]).fetchall() == before
    assert checks
    assert not any(problems for _, problems in checks)
    who = owner.execute("SELECT email, phone, display_name FROM app_user WHERE id = %s", [signed_in.user.id])
    assert who.fetchone() == (None, None, "")


async def test_leaving_needs_the_password(house: Any) -> None:
    signed_in = await signed_up(house)
    with acting_as(await house.caller(signed_in.access_token, "192.0.2.51")):
        with pytest.raises(WrongCredentials):
            await house.service.delete_me("")
        assert await house.service.get_me()


async def test_the_last_administrator_cannot_leave(house: Any, owner: psycopg.Connection) -> None:
    owner.execute("UPDATE app_user SET role = 'student' WHERE role = 'admin'")
    signed_in = await signed_up(house)
    owner.execute("UPDATE app_user SET role = 'admin' WHERE id = %s", [signed_in.user.id])
    with acting_as(await house.caller(signed_in.access_token)):
        with pytest.raises(IllegalState):
            await house.service.delete_me(PASSWORD)
        assert (await house.service.get_me()).display_name == "Mariem"


async def test_when_another_room_cannot_erase_nothing_is_erased(house: Any) -> None:
    signed_in = await signed_up(house)
    house.refuse_erasure = True
    with acting_as(await house.caller(signed_in.access_token)):
        with pytest.raises(RuntimeError):
            await house.service.delete_me(PASSWORD)
        assert await house.service.get_me() == signed_in.user
