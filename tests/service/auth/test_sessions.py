"""Refresh tokens, devices and the end of sessions."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from server.auth.account import Profile
from server.auth.sessions import DEVICES_MAX, SignedIn
from server.caller import Caller, acting_as
from server.database.pool import Database
from server.refusal import AccountDisabled, NotFound, NotSignedIn, RefreshRefused, StoreUnavailable

PASSWORD = "correct horse"


async def signed_up(house: Any, device_name: str = "phone") -> SignedIn:
    made: SignedIn = await house.service.sign_up(f"{uuid4()}@example.org", "", PASSWORD, Profile(), device_name)
    return made


def age_uses(owner: psycopg.Connection, session_id: UUID, seconds: float) -> None:
    """Let `seconds` pass since every use of the session's refresh tokens."""
    owner.execute(
        "UPDATE refresh_token SET used_at = used_at - make_interval(secs => %s) WHERE session_id = %s",
        [seconds, session_id],
    )


def live_sessions(owner: psycopg.Connection, user_id: UUID) -> int:
    row = owner.execute("SELECT count(*) FROM session WHERE user_id = %s AND revoked_at IS NULL", [user_id]).fetchone()
    assert row is not None
    return int(row[0])


async def test_a_refresh_gives_a_new_pair_for_the_same_device(house: Any) -> None:
    first = await signed_up(house)
    second = await house.service.refresh(first.refresh_token)
    assert second.session_id == first.session_id
    assert second.refresh_token != first.refresh_token
    assert (await house.identity(second.access_token)).user_id == first.user.id


async def test_a_lost_reply_may_be_asked_for_again_within_ten_seconds(house: Any, owner: psycopg.Connection) -> None:
    first = await signed_up(house)
    lost = await house.service.refresh(first.refresh_token)
    age_uses(owner, first.session_id, 9)
    again = await house.service.refresh(first.refresh_token)
    third = await house.service.refresh(again.refresh_token)
    assert third.session_id == first.session_id
    assert lost.refresh_token not in (again.refresh_token, third.refresh_token)


async def test_an_old_token_used_again_later_ends_the_whole_session(house: Any, owner: psycopg.Connection) -> None:
    first = await signed_up(house)
    newest = await house.service.refresh(first.refresh_token)
    age_uses(owner, first.session_id, 10.1)
    with pytest.raises(RefreshRefused):
        await house.service.refresh(first.refresh_token)
    with pytest.raises(RefreshRefused):
        await house.service.refresh(newest.refresh_token)
    with pytest.raises(NotSignedIn):
        await house.identity(newest.access_token)
    assert live_sessions(owner, first.user.id) == 0


async def test_the_end_of_one_session_leaves_the_persons_other_devices_signed_in(
    house: Any, owner: psycopg.Connection
) -> None:
    name = f"{uuid4()}@example.org"
    phone = await house.service.sign_up(name, "", PASSWORD, Profile(), "phone")
    laptop = await house.service.sign_in(name, "", PASSWORD, "laptop")
    await house.service.refresh(phone.refresh_token)
    age_uses(owner, phone.session_id, 11)
    with pytest.raises(RefreshRefused):
        await house.service.refresh(phone.refresh_token)
    assert await house.service.refresh(laptop.refresh_token)


async def test_successors_of_one_token_do_not_multiply(house: Any, owner: psycopg.Connection) -> None:
    first = await signed_up(house)
    thief = await house.service.refresh(first.refresh_token)
    person = await house.service.refresh(first.refresh_token)
    await house.service.refresh(person.refresh_token)
    age_uses(owner, first.session_id, 11)
    with pytest.raises(RefreshRefused):
        await house.service.refresh(thief.refresh_token)
    assert live_sessions(owner, first.user.id) == 0


async def test_twenty_parallel_refreshes_of_one_token_lock_nobody_out(house: Any, owner: psycopg.Connection) -> None:
    first = await signed_up(house)
    pairs = await asyncio.gather(*(house.service.refresh(first.refresh_token) for _ in range(20)))
    assert {pair.session_id for pair in pairs} == {first.session_id}
    assert len({pair.refresh_token for pair in pairs}) == 20
    assert live_sessions(owner, first.user.id) == 1
    assert await house.service.refresh(pairs[13].refresh_token)


async def test_two_processes_that_refresh_one_token_agree(house: Any, new_house: Callable[..., Any]) -> None:
    first, other = await signed_up(house), new_house()
    pairs = await asyncio.gather(
        *((house if number % 2 else other).service.refresh(first.refresh_token) for number in range(10))
    )
    assert {pair.session_id for pair in pairs} == {first.session_id}


async def test_two_devices_refresh_at_the_same_time_without_disturbing_each_other(house: Any) -> None:
    name = f"{uuid4()}@example.org"
    phone = await house.service.sign_up(name, "", PASSWORD, Profile(), "phone")
    laptop = await house.service.sign_in(name, "", PASSWORD, "laptop")
    for _ in range(5):
        phone, laptop = await asyncio.gather(
            house.service.refresh(phone.refresh_token), house.service.refresh(laptop.refresh_token)
        )
    assert phone.session_id != laptop.session_id


@pytest.mark.parametrize("token", ["", "brt_unknown", "x" * 512, "\x00", "é"])
async def test_an_unknown_token_is_refused(house: Any, token: str) -> None:
    with pytest.raises(RefreshRefused):
        await house.service.refresh(token)


async def test_a_refresh_that_meets_a_revocation_half_way_is_refused(
    house: Any, addresses: Any, owner: psycopg.Connection
) -> None:
    signed_in = await signed_up(house)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(addresses.owner_url, options="-c search_path=bacmr") as other:
        other.execute("UPDATE session SET revoked_at = now() WHERE id = %s", [signed_in.session_id])
        refresh = asyncio.ensure_future(house.service.refresh(signed_in.refresh_token))
        while owner.execute(waiting).fetchone() == (0,) and not refresh.done():  # noqa: ASYNC110 - only a look can tell
            await asyncio.sleep(0.01)
    with pytest.raises(RefreshRefused):
        await refresh


async def test_an_access_token_is_no_refresh_token(house: Any) -> None:
    signed_in = await signed_up(house)
    with pytest.raises(RefreshRefused):
        await house.service.refresh(signed_in.access_token)


async def test_an_expired_refresh_token_is_refused(house: Any, owner: psycopg.Connection) -> None:
    signed_in = await signed_up(house)
    owner.execute("UPDATE refresh_token SET expires_at = now() WHERE session_id = %s", [signed_in.session_id])
    with pytest.raises(RefreshRefused):
        await house.service.refresh(signed_in.refresh_token)


async def test_a_device_that_only_lost_its_network_stays_signed_in(house: Any, new_house: Callable[..., Any]) -> None:
    signed_in = await signed_up(house)
    unreachable = Database("postgresql://nobody@127.0.0.1:1/nothing", pool_size=1)
    broken = type(house)(unreachable, house.keys)
    with pytest.raises(StoreUnavailable):
        await broken.service.refresh(signed_in.refresh_token)
    await unreachable.close()
    assert await house.service.refresh(signed_in.refresh_token)


async def test_a_call_that_is_cut_before_it_is_answered_leaves_the_token_good(house: Any) -> None:
    signed_in = await signed_up(house)
    for _ in range(3):
        cut = asyncio.ensure_future(house.service.refresh(signed_in.refresh_token))
        await asyncio.sleep(0)
        cut.cancel()
        await asyncio.gather(cut, return_exceptions=True)
    assert await house.service.refresh(signed_in.refresh_token)


async def test_a_disabled_person_cannot_refresh(house: Any, owner: psycopg.Connection) -> None:
    signed_in = await signed_up(house)
    owner.execute("UPDATE app_user SET disabled_at = now() WHERE id = %s", [signed_in.user.id])
    with pytest.raises(AccountDisabled):
        await house.service.refresh(signed_in.refresh_token)


async def test_the_device_list_shows_names_and_the_device_that_asks(house: Any) -> None:
    name = f"{uuid4()}@example.org"
    await house.service.sign_up(name, "", PASSWORD, Profile(), "phone")
    laptop = await house.service.sign_in(name, "", PASSWORD, " laptop\n")
    with acting_as(await house.caller(laptop.access_token)):
        devices = (await house.service.list_sessions()).items
    assert [(device.device_name, device.current) for device in devices] == [("laptop", True), ("phone", False)]


async def test_the_device_list_comes_in_pages(house: Any) -> None:
    name = f"{uuid4()}@example.org"
    signed_in = await house.service.sign_up(name, "", PASSWORD, Profile(), "device 0")
    for number in range(1, 5):
        await house.service.sign_in(name, "", PASSWORD, f"device {number}")
    seen, page_token = [], ""
    with acting_as(await house.caller(signed_in.access_token)):
        while True:
            page = await house.service.list_sessions(2, page_token)
            seen += [device.device_name for device in page.items]
            page_token = page.next_page_token
            if not page_token:
                break
    assert seen == [f"device {number}" for number in (4, 3, 2, 1, 0)]


async def test_signing_out_ends_this_session_alone(house: Any) -> None:
    name = f"{uuid4()}@example.org"
    phone = await house.service.sign_up(name, "", PASSWORD, Profile())
    laptop = await house.service.sign_in(name, "", PASSWORD)
    with acting_as(await house.caller(phone.access_token)):
        await house.service.sign_out()
    with pytest.raises(NotSignedIn):
        await house.identity(phone.access_token)
    with pytest.raises(RefreshRefused):
        await house.service.refresh(phone.refresh_token)
    assert await house.identity(laptop.access_token)
    assert await house.service.refresh(laptop.refresh_token)


async def test_a_person_ends_a_lost_device_from_another_one(house: Any) -> None:
    name = f"{uuid4()}@example.org"
    lost = await house.service.sign_up(name, "", PASSWORD, Profile())
    laptop = await house.service.sign_in(name, "", PASSWORD)
    with acting_as(await house.caller(laptop.access_token)):
        await house.service.revoke_session(lost.session_id)
        with pytest.raises(NotFound):
            await house.service.revoke_session(lost.session_id)
    with pytest.raises(NotSignedIn):
        await house.identity(lost.access_token)


async def test_nobody_ends_anothers_session(house: Any) -> None:
    mine, theirs = await signed_up(house), await signed_up(house)
    with acting_as(await house.caller(mine.access_token)), pytest.raises(NotFound):
        await house.service.revoke_session(theirs.session_id)
    assert await house.service.refresh(theirs.refresh_token)


async def test_other_processes_learn_which_sessions_ended(house: Any, new_house: Callable[..., Any]) -> None:
    signed_in, other = await signed_up(house), new_house()
    assert await other.identity(signed_in.access_token)
    with acting_as(await house.caller(signed_in.access_token)):
        await house.service.sign_out()
    await other.service.learn_revocations()
    with pytest.raises(NotSignedIn):
        await other.identity(signed_in.access_token)


async def test_a_key_rotation_signs_nobody_out(house: Any, new_house: Callable[..., Any]) -> None:
    signed_in, other = await signed_up(house), new_house()
    house.clock.now += 3
    house.keyring.rotate()
    assert await house.identity(signed_in.access_token)
    renewed = await house.service.refresh(signed_in.refresh_token)
    other.clock.now += 3
    assert (await other.identity(renewed.access_token)).user_id == signed_in.user.id
    assert house.service.jwks()[0]["kid"] == house.keyring.signing_key().key_id


async def test_an_account_has_a_bounded_number_of_devices(house: Any, owner: psycopg.Connection) -> None:
    oldest = await signed_up(house)
    owner.execute(
        "INSERT INTO session (id, user_id, expires_at)"
        " SELECT gen_random_uuid(), %s, now() + interval '1 day' FROM generate_series(2, %s)",
        [oldest.user.id, DEVICES_MAX],
    )
    await house.service.sign_in(oldest.user.email, "", PASSWORD)
    assert live_sessions(owner, oldest.user.id) == DEVICES_MAX
    with pytest.raises(RefreshRefused):
        await house.service.refresh(oldest.refresh_token)


async def test_no_one_is_told_anything_without_signing_in(house: Any) -> None:
    with acting_as(Caller()):
        for call in (house.service.get_me, house.service.list_sessions):
            with pytest.raises(NotSignedIn):
                await call()
