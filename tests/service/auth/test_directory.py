"""Operators' view of accounts, the bootstrap administrator, and people of external issuers."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import jwt
import psycopg
import pytest

from server.auth import issuers
from server.auth.account import Login, Profile
from server.auth.directory import AccessChange
from server.auth.sessions import SignedIn
from server.auth.store import Access
from server.caller import Caller, Role, Tier, acting_as, system
from server.refusal import (
    AlreadyExists,
    Forbidden,
    IllegalState,
    NotFound,
    NotSignedIn,
    RefreshRefused,
    RequestIdReused,
)

PASSWORD = "correct horse"
SUPABASE = "https://project.supabase.example/auth/v1"
SECRET = "supabase's legacy secret of 32+ bytes"


async def signed_up(house: Any, name: str = "") -> SignedIn:
    with acting_as(Caller()):
        made: SignedIn = await house.service.sign_up(f"{uuid4()}@example.org", "", PASSWORD, Profile(name))
    return made


@pytest.fixture
def admin(make_user: Callable[..., Caller]) -> Iterator[Caller]:
    """An administrator, who is the caller of the whole test."""
    with acting_as(make_user(role="admin")) as caller:
        yield caller


async def test_a_new_role_shows_in_the_token_from_the_next_refresh(house: Any, admin: Caller) -> None:
    student = await signed_up(house)
    changed = await house.directory.update_role(student.user.id, Role.TEACHER, uuid4())
    assert changed.role is Role.TEACHER
    assert (await house.identity(student.access_token)).role is Role.STUDENT
    renewed = await house.service.refresh(student.refresh_token)
    assert (await house.identity(renewed.access_token)).role is Role.TEACHER


async def test_a_new_tier_shows_in_the_token_from_the_next_refresh(house: Any, admin: Caller) -> None:
    student = await signed_up(house)
    assert (await house.directory.update_tier(student.user.id, Tier.PREMIUM, uuid4())).tier is Tier.PREMIUM
    renewed = await house.service.refresh(student.refresh_token)
    assert (await house.identity(renewed.access_token)).tier is Tier.PREMIUM


async def test_every_change_is_audited_with_before_and_after(house: Any, admin: Caller) -> None:
    user_id = (await signed_up(house)).user.id
    request_id = uuid4()
    for _ in range(2):
        await house.directory.update_role(user_id, Role.TEACHER, request_id)
    await house.directory.update_tier(user_id, Tier.STANDARD, uuid4())
    await house.directory.set_disabled(user_id, True, uuid4())
    student, teacher = Access(Role.STUDENT, Tier.FREE, False), Access(Role.TEACHER, Tier.FREE, False)
    standard, disabled = Access(Role.TEACHER, Tier.STANDARD, False), Access(Role.TEACHER, Tier.STANDARD, True)
    assert house.audited == [
        AccessChange("UpdateUserRole", user_id, student, teacher),
        AccessChange("UpdateUserTier", user_id, teacher, standard),
        AccessChange("SetUserDisabled", user_id, standard, disabled),
    ]


async def test_a_retried_change_has_the_first_result_and_another_one_needs_another_id(
    house: Any, admin: Caller
) -> None:
    user_id, request_id = (await signed_up(house)).user.id, uuid4()
    await house.directory.update_role(user_id, Role.TEACHER, request_id)
    await house.directory.update_role(user_id, Role.STUDENT, uuid4())
    assert (await house.directory.update_role(user_id, Role.TEACHER, request_id)).role is Role.TEACHER
    assert (await house.directory.get_user(user_id)).role is Role.STUDENT
    with pytest.raises(RequestIdReused):
        await house.directory.update_role(user_id, Role.ADMIN, request_id)


async def test_a_disabled_person_is_out_at_once_and_in_again_when_enabled(house: Any, admin: Caller) -> None:
    student = await signed_up(house)
    await house.directory.set_disabled(student.user.id, True, uuid4())
    with pytest.raises(NotSignedIn):
        await house.identity(student.access_token)
    enabled = await house.directory.set_disabled(student.user.id, False, uuid4())
    assert not enabled.disabled
    with pytest.raises(RefreshRefused):
        await house.service.refresh(student.refresh_token)
    assert await house.service.sign_in(student.user.email, "", PASSWORD)


async def test_there_is_always_an_administrator_left(house: Any, owner: psycopg.Connection, admin: Caller) -> None:
    owner.execute("UPDATE app_user SET role = 'student' WHERE role = 'admin' AND id <> %s", [admin.user_id])
    for change in (
        house.directory.update_role(admin.user_id, Role.TEACHER, uuid4()),
        house.directory.set_disabled(admin.user_id, True, uuid4()),
    ):
        with pytest.raises(IllegalState):
            await change
    assert (await house.directory.update_tier(admin.user_id, Tier.PREMIUM, uuid4())).role is Role.ADMIN


async def test_two_administrators_who_dismiss_each_other_leave_one(
    house: Any, addresses: Any, owner: psycopg.Connection, make_user: Callable[..., Caller]
) -> None:
    owner.execute("UPDATE app_user SET role = 'student' WHERE role = 'admin'")
    first, second = make_user(role="admin"), make_user(role="admin")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(addresses.owner_url, options="-c search_path=bacmr -c app.role=admin") as other:
        other.execute("SELECT change_access(%s, 'student', NULL, NULL)", [first.user_id])
        with acting_as(first):
            dismissal = asyncio.ensure_future(house.directory.update_role(second.user_id, Role.STUDENT, uuid4()))
        while owner.execute(waiting).fetchone() == (0,) and not dismissal.done():  # noqa: ASYNC110 - only a look can tell
            await asyncio.sleep(0.01)
    with pytest.raises(IllegalState):
        await dismissal


@pytest.mark.parametrize("role", [Role.STUDENT, Role.TEACHER, Role.ANYONE])
async def test_only_operators_see_and_change_accounts(house: Any, make_user: Callable[..., Caller], role: Role) -> None:
    other = make_user()
    with acting_as(Caller() if role is Role.ANYONE else make_user(role=role)):
        for call in (
            house.directory.list_users(),
            house.directory.get_user(other.user_id),
            house.directory.update_role(other.user_id, Role.ADMIN, uuid4()),
            house.directory.update_tier(other.user_id, Tier.PREMIUM, uuid4()),
            house.directory.set_disabled(other.user_id, True, uuid4()),
            house.directory.create_user(Login("x@example.org"), PASSWORD, Role.ADMIN),
        ):
            with pytest.raises(Forbidden):
                await call


async def test_a_person_who_does_not_exist_is_not_found(house: Any, admin: Caller) -> None:
    for call in (
        house.directory.get_user(uuid4()),
        house.directory.update_role(uuid4(), Role.TEACHER, uuid4()),
        house.directory.set_disabled(uuid4(), True, uuid4()),
    ):
        with pytest.raises(NotFound):
            await call


async def test_accounts_are_listed_newest_first_in_pages_that_inserts_do_not_shift(house: Any, admin: Caller) -> None:
    mark = uuid4().hex
    made = [(await signed_up(house, f"{mark} {number}")).user.id for number in range(5)]
    first = await house.directory.list_users(query=mark, requested_size=2)
    await signed_up(house, f"{mark} late")
    second = await house.directory.list_users(query=mark, requested_size=2, page_token=first.next_page_token)
    third = await house.directory.list_users(query=mark, requested_size=2, page_token=second.next_page_token)
    assert [user.id for page in (first, second, third) for user in page.items] == made[::-1]
    assert third.next_page_token == ""


async def test_a_search_takes_its_signs_literally(house: Any, admin: Caller) -> None:
    mark = uuid4().hex
    user_id = (await signed_up(house, f"{mark} 100%_\\")).user.id
    await signed_up(house, f"{mark} 100 percent")
    assert [user.id for user in (await house.directory.list_users(query=f"{mark} 100%_\\")).items] == [user_id]


async def test_a_list_can_be_of_one_role(house: Any, admin: Caller) -> None:
    mark = uuid4().hex
    teacher, _ = await signed_up(house, mark), await signed_up(house, mark)
    await house.directory.update_role(teacher.user.id, Role.TEACHER, uuid4())
    assert [user.id for user in (await house.directory.list_users(Role.TEACHER, mark)).items] == [teacher.user.id]


async def test_the_bootstrap_administrator_signs_in_and_a_second_start_changes_nothing(house: Any) -> None:
    name = f"{uuid4()}@example.org"
    first = await house.directory.ensure_bootstrap_admin(name, PASSWORD)
    assert await house.directory.ensure_bootstrap_admin(name, "another password") == first
    signed_in = await house.service.sign_in(name, "", PASSWORD)
    assert (await house.identity(signed_in.access_token)).role is Role.ADMIN
    assert first in house.wallets


async def test_two_servers_that_start_together_make_one_administrator(
    house: Any, new_house: Callable[..., Any]
) -> None:
    name, other = f"{uuid4()}@example.org", new_house()
    made = await asyncio.gather(
        *(each.directory.ensure_bootstrap_admin(name, PASSWORD) for each in (house, other, house, other))
    )
    assert len(set(made)) == 1


async def test_who_signed_up_under_the_administrators_address_gains_nothing(house: Any) -> None:
    squatter = await signed_up(house)
    await house.directory.ensure_bootstrap_admin(squatter.user.email, "the real password")
    with pytest.raises(NotSignedIn):
        await house.identity(squatter.access_token)
    with pytest.raises(RefreshRefused):
        await house.service.refresh(squatter.refresh_token)
    signed_in = await house.service.sign_in(squatter.user.email, "", "the real password")
    assert (await house.identity(signed_in.access_token)).role is Role.ADMIN


async def test_a_service_credential_is_an_account_that_operators_make(house: Any) -> None:
    login = Login(f"{uuid4()}@example.org")
    with acting_as(system()):
        user_id = await house.directory.create_user(login, PASSWORD, Role.SERVICE, Profile("quiz worker"))
        with pytest.raises(AlreadyExists):
            await house.directory.create_user(login, PASSWORD, Role.SERVICE)
    signed_in = await house.service.sign_in(login.email, "", PASSWORD)
    identity = await house.identity(signed_in.access_token)
    assert (identity.user_id, identity.role) == (user_id, Role.SERVICE)


def external(sub: UUID, issuer: str = SUPABASE, **app_metadata: str) -> str:
    now = int(time.time())
    payload = {"iss": issuer, "aud": "authenticated", "sub": str(sub), "iat": now, "exp": now + 600}
    return jwt.encode({**payload, "app_metadata": app_metadata}, SECRET, "HS256")


@pytest.fixture
def open_house(new_house: Callable[..., Any]) -> Any:
    """The auth room with two external issuers."""
    return new_house(
        issuers=(
            issuers.with_secret(SUPABASE, "authenticated", SECRET),
            issuers.with_secret("https://other.example", "authenticated", SECRET),
        )
    )


async def test_an_external_person_gets_an_account_and_a_wallet_once(open_house: Any) -> None:
    person = uuid4()
    identities = await asyncio.gather(
        *(open_house.identity(external(person, role="teacher", number=str(number))) for number in range(5))
    )
    assert {(identity.user_id, identity.role) for identity in identities} == {(person, Role.TEACHER)}
    assert open_house.wallets == {person: 20_000}
    with acting_as(await open_house.caller(external(person))):
        me = await open_house.service.get_me()
    assert (me.id, me.issuer) == (person, SUPABASE)


async def test_rights_follow_the_external_token_and_the_tier_stays_when_it_has_none(
    open_house: Any, admin: Caller
) -> None:
    person = uuid4()
    await open_house.identity(external(person, role="teacher"))
    await open_house.directory.update_tier(person, Tier.PREMIUM, uuid4())
    identity = await open_house.identity(external(person, role="student"))
    assert (identity.role, identity.tier) == (Role.STUDENT, Tier.PREMIUM)
    assert (await open_house.directory.get_user(person)).role is Role.STUDENT
    assert (await open_house.identity(external(person, tier="standard"))).tier is Tier.STANDARD


async def test_no_issuer_speaks_for_a_person_of_ours_or_of_another_issuer(open_house: Any, admin: Caller) -> None:
    ours, theirs = (await signed_up(open_house)).user.id, uuid4()
    await open_house.identity(external(theirs))
    for token in (external(ours, role="teacher"), external(theirs, "https://other.example", role="teacher")):
        with pytest.raises(NotSignedIn):
            await open_house.identity(token)
    assert (await open_house.directory.get_user(ours)).role is Role.STUDENT


async def test_an_external_person_who_is_disabled_or_left_stays_out(open_house: Any, admin: Caller) -> None:
    disabled, left = uuid4(), uuid4()
    for person in (disabled, left):
        await open_house.identity(external(person))
    await open_house.directory.set_disabled(disabled, True, uuid4())
    with acting_as(await open_house.caller(external(left))):
        await open_house.service.delete_me("")
    open_house.clock.now += 61
    for person in (disabled, left):
        with pytest.raises(NotSignedIn):
            await open_house.identity(external(person, again="x"))


async def test_an_external_person_has_no_password_here(open_house: Any) -> None:
    with acting_as(await open_house.caller(external(uuid4()))):
        with pytest.raises(IllegalState):
            await open_house.service.change_password("", PASSWORD)
        assert (await open_house.service.list_sessions()).items == ()
        await open_house.service.sign_out()
