"""AuthService over a real channel: every RPC's answer, and the refusals that callers must be able to tell apart."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import jwt
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from bacmr.v1 import access_pb2, auth_pb2, auth_pb2_grpc, language_pb2
from server.auth import issuers
from server.auth.servicer import AuthServicer
from server.caller import Role, Tier, acting_as, system
from server.database.pool import Database
from tests.rpc.served import Edge, Refused, refusal
from tests.service.auth.house import House

PASSWORD = "correct horse"
SUPABASE = "https://project.supabase.example/auth/v1"
SECRET = "supabase's legacy secret of 32+ bytes"


@dataclass(frozen=True, slots=True)
class Client:
    """A client of a served auth room. Each call comes from an address of its own, unless one is given."""

    edge: Edge
    house: House
    stub: Any

    async def ask(self, rpc: str, token: str = "", address: str = "", **fields: Any) -> Any:
        """Call an RPC by name."""
        request = getattr(auth_pb2, f"{rpc}Request")(**fields)
        return await getattr(self.stub, rpc)(request, metadata=self._metadata(token, address), timeout=20)

    async def refusal(self, rpc: str, token: str = "", address: str = "", **fields: Any) -> Refused:
        """Call an RPC that must be refused."""
        request = getattr(auth_pb2, f"{rpc}Request")(**fields)
        return await refusal(getattr(self.stub, rpc)(request, metadata=self._metadata(token, address), timeout=20))

    async def signed_up(self, **fields: Any) -> auth_pb2.Session:
        """Sign somebody new up."""
        name = fields or {"email": f"{uuid4()}@example.org"}
        session: auth_pb2.Session = (await self.ask("SignUp", password=PASSWORD, **name)).session
        return session

    @staticmethod
    def _metadata(token: str, address: str) -> list[tuple[str, str]]:
        metadata = [("x-forwarded-for", address or f"2001:db8:{uuid4().hex[:4]}:{uuid4().hex[:4]}::1")]
        return [*metadata, ("authorization", f"Bearer {token}")] if token else metadata


@pytest_asyncio.fixture
async def client(database: Database, tmp_path: Path, serve: Callable[..., Awaitable[Edge]]) -> AsyncIterator[Client]:
    """A served auth room with one external issuer."""
    house = House(database, tmp_path / "keys", issuers=(issuers.with_secret(SUPABASE, "authenticated", SECRET),))
    edge = await serve(verify=house.verifier.verify, AuthService=AuthServicer(house.service))
    yield Client(edge, house, auth_pb2_grpc.AuthServiceStub(edge.channel))
    house.room.close()


async def test_a_student_signs_up_signs_in_and_sees_the_profile(client: Client) -> None:
    email = f"{uuid4()}@example.org"
    made = await client.ask(
        "SignUp",
        email=email,
        password=PASSWORD,
        display_name="Mariem",
        preferred_language=language_pb2.LANGUAGE_HASSANIYA,
        device_name="phone",
        request_id=str(uuid4()),
    )
    session = (await client.ask("SignIn", email=email, password=PASSWORD, device_name="laptop")).session
    me = (await client.ask("GetMe", session.access_token)).user
    assert me == session.user == made.session.user
    assert (me.email, me.display_name, me.preferred_language) == (email, "Mariem", language_pb2.LANGUAGE_HASSANIYA)
    assert (me.role, me.tier, me.disabled) == (access_pb2.ROLE_STUDENT, access_pb2.TIER_FREE, False)
    assert 800 < session.expires_at.seconds - time.time() <= 900


async def test_a_phone_number_is_a_name_too(client: Client) -> None:
    phone = f"+2223{uuid4().int % 10**7:07d}"
    made = await client.signed_up(phone=phone)
    session = (await client.ask("SignIn", phone=phone, password=PASSWORD)).session
    assert (session.user.id, session.user.phone, session.user.email) == (made.user.id, phone, "")


async def test_the_access_token_carries_role_and_tier_and_verifies_with_the_published_key(client: Client) -> None:
    session = await client.signed_up()
    keys = (await client.ask("GetJwks")).keys
    named = {key.kid: {field.name: value for field, value in key.ListFields()} for key in keys}
    public = jwt.PyJWK(named[jwt.get_unverified_header(session.access_token)["kid"]])
    claims = jwt.decode(session.access_token, public, algorithms=["ES256"], audience="bacmr", issuer="bacmr")
    assert claims["app_metadata"] == {"role": "student", "tier": "free"}
    assert (claims["sub"], claims["session_id"]) == (session.user.id, session.session_id)


async def test_a_retried_sign_up_is_the_same_account_and_another_payload_is_refused(client: Client) -> None:
    fields = {"email": f"{uuid4()}@example.org", "password": PASSWORD, "request_id": str(uuid4())}
    first, again = await client.ask("SignUp", **fields), await client.ask("SignUp", **fields)
    assert first.session.user == again.session.user
    no = await client.refusal("SignUp", **{**fields, "email": f"{uuid4()}@example.org"})
    assert (no.code, no.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_retried_sign_up_opens_another_session_beside_the_first(client: Client) -> None:
    fields = {"email": f"{uuid4()}@example.org", "password": PASSWORD, "request_id": str(uuid4())}
    first, again = [(await client.ask("SignUp", **fields)).session for _ in range(2)]
    devices = (await client.ask("ListSessions", first.access_token)).devices
    assert {device.session_id for device in devices} == {first.session_id, again.session_id}
    for session in (first, again):
        assert (await client.ask("RefreshSession", refresh_token=session.refresh_token)).session.user == first.user


async def test_a_sign_up_cannot_be_retried_without_its_password(client: Client) -> None:
    fields = {"email": f"{uuid4()}@example.org", "password": PASSWORD, "request_id": str(uuid4())}
    session = (await client.ask("SignUp", **fields)).session
    for change in ({"password": "another password"}, {"email": f"{uuid4()}@example.org"}):
        no = await client.refusal("SignUp", **fields | change)
        assert (no.code, no.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert len((await client.ask("ListSessions", session.access_token)).devices) == 1


@pytest.mark.parametrize("turning", list("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"))
async def test_a_name_cannot_turn_around_what_stands_beside_it(client: Client, turning: str) -> None:
    session = await client.signed_up(
        email=f"{uuid4()}@example.org", display_name=f"{turning}مريم\u200cمنت{turning} أحمد"
    )
    changed = {"user": {"display_name": f"Amina {turning}nimda"}, "update_mask": {"paths": ["display_name"]}}
    assert session.user.display_name == "مريم\u200cمنت أحمد"
    renamed = await client.ask("UpdateMe", session.access_token, request_id=str(uuid4()), **changed)
    assert renamed.user.display_name == "Amina nimda"


async def test_an_address_with_a_sign_that_is_not_seen_is_refused(client: Client) -> None:
    no = await client.refusal("SignUp", email=f"\u202e{uuid4()}@example.org", password=PASSWORD)
    assert (no.code, no.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


async def test_a_name_that_has_an_account_is_refused(client: Client) -> None:
    session = await client.signed_up()
    no = await client.refusal("SignUp", email=session.user.email, password=PASSWORD)
    assert (no.code, no.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")


@pytest.mark.parametrize(
    "fields",
    [
        {"email": "a@b.cd", "password": "short"},
        {"email": "no address", "password": PASSWORD},
        {"phone": "44", "password": PASSWORD},
        {"password": PASSWORD},
        {"email": "a@b.cd", "phone": "+22244123456", "password": PASSWORD},
        {"email": "a@b.cd", "password": PASSWORD, "display_name": "x" * 101},
        {"email": "a@b.cd", "password": PASSWORD, "preferred_language": 9},
        {"email": "a@b.cd", "password": PASSWORD, "request_id": "7"},
    ],
    ids=str,
)
async def test_a_sign_up_that_breaks_a_rule_names_the_field(client: Client, fields: dict[str, Any]) -> None:
    no = await client.refusal("SignUp", **fields)
    assert (no.code, no.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert no.details["BadRequest"].field_violations


async def test_an_unknown_account_and_a_wrong_password_are_one_refusal(client: Client) -> None:
    session = await client.signed_up()
    known = await client.refusal("SignIn", email=session.user.email, password="wrong password")
    unknown = await client.refusal("SignIn", email=f"{uuid4()}@example.org", password="wrong password")
    assert (known.code, known.reason) == (grpc.StatusCode.UNAUTHENTICATED, "WRONG_CREDENTIALS")
    assert (known.sentence, known.info) == (unknown.sentence, unknown.info)


async def test_the_sixth_guess_is_told_when_to_come_back(client: Client) -> None:
    session = await client.signed_up()
    for _ in range(5):
        no = await client.refusal("SignIn", email=session.user.email, password="wrong password")
        assert no.reason == "WRONG_CREDENTIALS"
    no = await client.refusal("SignIn", email=session.user.email, password=PASSWORD)
    assert (no.code, no.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_ATTEMPTS")
    assert 0 < no.details["RetryInfo"].retry_delay.seconds <= 900
    assert "QuotaFailure" in no.details


async def test_a_refresh_rotates_and_the_old_token_works_once_more_at_once(client: Client) -> None:
    first = await client.signed_up()
    second = (await client.ask("RefreshSession", refresh_token=first.refresh_token)).session
    again = (await client.ask("RefreshSession", refresh_token=first.refresh_token)).session
    assert second.session_id == again.session_id == first.session_id
    for session in (second, again):
        assert (await client.ask("GetMe", session.access_token)).user.id == first.user.id


async def test_twenty_refreshes_at_once_all_get_a_working_pair(client: Client) -> None:
    first = await client.signed_up()
    answers = await asyncio.gather(
        *(client.ask("RefreshSession", refresh_token=first.refresh_token) for _ in range(20))
    )
    assert len({answer.session.refresh_token for answer in answers}) == 20
    assert {answer.session.session_id for answer in answers} == {first.session_id}


async def test_a_refused_refresh_has_a_reason_of_its_own(client: Client) -> None:
    no = await client.refusal("RefreshSession", refresh_token="unknown")
    assert (no.code, no.reason) == (grpc.StatusCode.UNAUTHENTICATED, "REFRESH_REFUSED")


async def test_devices_are_listed_and_ended(client: Client) -> None:
    email = f"{uuid4()}@example.org"
    phone = await client.signed_up(email=email, device_name="phone")
    laptop = (await client.ask("SignIn", email=email, password=PASSWORD, device_name="laptop")).session
    devices = (await client.ask("ListSessions", laptop.access_token)).devices
    assert [(device.device_name, device.current) for device in devices] == [("laptop", True), ("phone", False)]
    await client.ask("RevokeSession", laptop.access_token, session_id=phone.session_id)
    assert (await client.refusal("GetMe", phone.access_token)).reason == "NOT_SIGNED_IN"
    assert (await client.refusal("RefreshSession", refresh_token=phone.refresh_token)).reason == "REFRESH_REFUSED"
    await client.ask("SignOut", laptop.access_token)
    assert (await client.refusal("GetMe", laptop.access_token)).reason == "NOT_SIGNED_IN"


async def test_anothers_session_is_not_found(client: Client) -> None:
    mine, theirs = await client.signed_up(), await client.signed_up()
    no = await client.refusal("RevokeSession", mine.access_token, session_id=theirs.session_id)
    assert (no.code, no.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_the_profile_changes_where_the_mask_says(client: Client) -> None:
    session = await client.signed_up()
    change = auth_pb2.User(display_name="Fatou", preferred_language=language_pb2.LANGUAGE_ARABIC)
    mask = FieldMask(paths=["preferred_language"])
    user = (await client.ask("UpdateMe", session.access_token, user=change, update_mask=mask)).user
    assert (user.display_name, user.preferred_language) == ("", language_pb2.LANGUAGE_ARABIC)


@pytest.mark.parametrize(
    ("user", "paths"),
    [
        ({"role": access_pb2.ROLE_ADMIN}, ["role"]),
        ({"tier": access_pb2.TIER_PREMIUM}, ["tier", "display_name"]),
        ({"display_name": "x"}, []),
        ({"preferred_language": 9}, ["preferred_language"]),
        ({"display_name": "x" * 101}, ["display_name"]),
    ],
    ids=str,
)
async def test_a_mask_or_value_that_is_not_allowed_changes_nothing(
    client: Client, user: dict[str, Any], paths: list[str]
) -> None:
    session = await client.signed_up()
    no = await client.refusal(
        "UpdateMe", session.access_token, user=auth_pb2.User(**user), update_mask=FieldMask(paths=paths)
    )
    assert (no.code, no.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert (await client.ask("GetMe", session.access_token)).user == session.user


async def test_a_new_password_works_and_ends_other_devices(client: Client) -> None:
    email = f"{uuid4()}@example.org"
    phone = await client.signed_up(email=email)
    laptop = (await client.ask("SignIn", email=email, password=PASSWORD)).session
    await client.ask("ChangePassword", phone.access_token, current_password=PASSWORD, new_password="battery staple")
    assert (await client.refusal("GetMe", laptop.access_token)).reason == "NOT_SIGNED_IN"
    assert (await client.ask("SignIn", email=email, password="battery staple")).session.user.id == phone.user.id


async def test_who_leaves_is_gone(client: Client) -> None:
    session = await client.signed_up()
    wrong = await client.refusal("DeleteMe", session.access_token, password="wrong password")
    assert wrong.reason == "WRONG_CREDENTIALS"
    await client.ask("DeleteMe", session.access_token, password=PASSWORD)
    assert (await client.refusal("GetMe", session.access_token)).reason == "NOT_SIGNED_IN"
    gone = await client.refusal("SignIn", email=session.user.email, password=PASSWORD)
    assert gone.reason == "WRONG_CREDENTIALS"


async def test_a_changed_right_shows_from_the_next_refresh(client: Client) -> None:
    session = await client.signed_up()
    with acting_as(system()):
        user_id = (await client.house.identity(session.access_token)).user_id
        await client.house.directory.update_role(user_id, Role.TEACHER, uuid4())
        await client.house.directory.update_tier(user_id, Tier.STANDARD, uuid4())
    renewed = (await client.ask("RefreshSession", refresh_token=session.refresh_token)).session
    claims = jwt.decode(renewed.access_token, options={"verify_signature": False})
    assert claims["app_metadata"] == {"role": "teacher", "tier": "standard"}
    assert (renewed.user.role, renewed.user.tier) == (access_pb2.ROLE_TEACHER, access_pb2.TIER_STANDARD)


async def test_a_person_of_an_external_issuer_is_served(client: Client) -> None:
    now, person = int(time.time()), str(uuid4())
    payload = {"iss": SUPABASE, "aud": "authenticated", "sub": person, "iat": now, "exp": now + 60}
    token = jwt.encode({**payload, "app_metadata": {"role": "teacher"}}, SECRET, "HS256")
    me = (await client.ask("GetMe", token)).user
    assert (me.id, me.role) == (person, access_pb2.ROLE_TEACHER)
    assert [str(user_id) for user_id in client.house.wallets] == [person]


@pytest.mark.parametrize(
    "rpc", ["SignOut", "ListSessions", "RevokeSession", "GetMe", "UpdateMe", "ChangePassword", "DeleteMe"]
)
async def test_what_is_a_persons_own_needs_a_token(client: Client, rpc: str) -> None:
    no = await client.refusal(rpc)
    assert (no.code, no.reason) == (grpc.StatusCode.UNAUTHENTICATED, "NOT_SIGNED_IN")


async def test_every_bad_token_is_refused_in_the_same_words(client: Client) -> None:
    session = await client.signed_up()
    good, key = session.access_token, client.house.keyring.signing_key()
    claims = jwt.decode(good, options={"verify_signature": False})
    head, body, signature = good.split(".")

    def forged(**changes: Any) -> str:
        headers = {"kid": changes.pop("kid", key.key_id)}
        return jwt.encode({**claims, **changes}, key.private, "ES256", headers=headers)

    bad = [
        "x",
        jwt.encode(claims, None, "none"),
        jwt.encode(claims, "a shared secret of more than 32 bytes", "HS256", headers={"kid": key.key_id}),
        forged(exp=int(time.time()) - 1),
        forged(nbf=int(time.time()) + 60),
        forged(iss="https://elsewhere.example"),
        forged(aud="elsewhere"),
        forged(sub="amina"),
        forged(kid="unknown"),
        forged(kid="../../../etc/passwd"),
        forged(kid="https://thief.example/key"),
        forged(kid="k" * 10_000),
        f"{head}.{body[:-4]}AAAA.{signature}",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body}.",
        good + "A" * 1_000_000,
        session.refresh_token,
    ]
    said = set()
    for token in bad:
        no = await client.refusal("GetMe", token)
        said.add((no.code, no.reason, no.sentence, tuple(no.info.metadata)))
    assert said == {(grpc.StatusCode.UNAUTHENTICATED, "NOT_SIGNED_IN", "Sign in and send a valid access token.", ())}
    assert (await client.ask("GetMe", good)).user.id == session.user.id
