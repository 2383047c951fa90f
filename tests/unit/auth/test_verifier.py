"""From token to identity: the cache, its bounds, and what ends a remembered token."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest

from server.auth import issuers, tokens
from server.auth.issuers import ExternalIdentity, Issuer
from server.auth.keyring import RELOAD_SECONDS, Keyring
from server.auth.tokens import Rule
from server.auth.verifier import EXTERNAL_TRUST_SECONDS, RevokedSessions, TokenVerifier
from server.caller import Role, Tier
from server.refusal import NotSignedIn

TTL = 900
RULE = Rule("bacmr", "bacmr", ("ES256",))
SUPABASE = "https://project.supabase.example/auth/v1"
SECRET = "supabase's legacy secret of 32+ bytes"


@dataclass
class Gate:
    """A verifier with the parts that tests move."""

    folder: Path
    issuers: Sequence[Issuer] = ()
    now: float = 1_790_000_000.0
    provisioned: list[ExternalIdentity] = field(default_factory=list)
    tier: Tier = Tier.FREE

    def __post_init__(self) -> None:
        self.keyring = Keyring(self.folder, TTL, self.clock)
        self.keyring.open()
        self.revoked = RevokedSessions(TTL, self.clock)
        self.verifier = TokenVerifier(self.keyring, RULE, self.revoked, self.issuers, self.provision, self.clock)

    def clock(self) -> float:
        return self.now

    async def provision(self, identity: ExternalIdentity) -> Tier:
        self.provisioned.append(identity)
        return identity.tier or self.tier

    def sign(self, session_id: UUID | None = None, role: str = "student") -> str:
        key = self.keyring.signing_key()
        return tokens.signed(
            {"sub": str(uuid4()), "app_metadata": {"role": role, "tier": "free"}},
            key.private,
            key.key_id,
            RULE,
            session_id=session_id or uuid4(),
            issued_at=int(self.now),
            expires_at=int(self.now) + TTL,
        )

    async def refuses(self, token: str) -> bool:
        try:
            await self.verifier.verify(token)
        except NotSignedIn:
            return True
        return False


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "keys", [issuers.with_secret(SUPABASE, "authenticated", SECRET)])


def external(gate: Gate, key: Any = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    payload = {
        "iss": SUPABASE,
        "aud": "authenticated",
        "sub": str(uuid4()),
        "iat": int(gate.now),
        "exp": int(gate.now) + 3600,
        "role": "authenticated",
        "session_id": str(uuid4()),
        "app_metadata": {"provider": "email", "role": "teacher"},
        **changes,
    }
    return jwt.encode({name: value for name, value in payload.items() if value is not ...}, key, algorithm)


async def test_our_token_names_person_right_and_device(gate: Gate) -> None:
    session_id = uuid4()
    identity = await gate.verifier.verify(gate.sign(session_id, "admin"))
    assert (identity.role, identity.session_id, identity.expires_at) == (Role.ADMIN, session_id, gate.now + TTL)


async def test_a_remembered_token_is_the_same_identity_without_another_signature_check(gate: Gate) -> None:
    token = gate.sign()
    first = await gate.verifier.verify(token)
    assert await gate.verifier.verify(token) is first


async def test_a_remembered_token_still_expires(gate: Gate) -> None:
    token = gate.sign()
    await gate.verifier.verify(token)
    gate.now += TTL
    assert await gate.refuses(token)


async def test_a_remembered_token_ends_with_its_key(gate: Gate) -> None:
    token = gate.sign()
    await gate.verifier.verify(token)
    old = gate.keyring.signing_key().key_id
    gate.now += 1
    gate.keyring.rotate()
    assert not await gate.refuses(token)
    (gate.folder / f"{old}.pem").unlink()
    gate.now += RELOAD_SECONDS
    assert await gate.refuses(token)


async def test_rotation_signs_nobody_out(gate: Gate) -> None:
    before = gate.sign()
    gate.now += 1
    gate.keyring.rotate()
    after = gate.sign()
    gate.now += TTL - 2
    assert not await gate.refuses(before)
    assert not await gate.refuses(after)


async def test_the_token_of_an_ended_session_is_refused_at_once_and_others_are_not(gate: Gate) -> None:
    session_id = uuid4()
    ended, other = gate.sign(session_id), gate.sign()
    await gate.verifier.verify(ended)
    gate.revoked.add([session_id])
    assert await gate.refuses(ended)
    assert not await gate.refuses(other)


async def test_memory_is_bounded(gate: Gate) -> None:
    small = TokenVerifier(gate.keyring, RULE, gate.revoked, (), gate.provision, gate.clock, remembered_max=10)
    for _ in range(30):
        await small.verify(gate.sign())
    assert small.remembered == 10
    for number in range(30):
        with pytest.raises(NotSignedIn):
            await small.verify(f"a.b.{number}")
    assert small.remembered == 10


async def test_a_token_that_lacks_what_ours_always_say_is_refused(gate: Gate) -> None:
    key = gate.keyring.signing_key()
    full = {
        "iss": "bacmr",
        "aud": "bacmr",
        "sub": str(uuid4()),
        "iat": int(gate.now),
        "exp": int(gate.now) + TTL,
        "session_id": str(uuid4()),
        "app_metadata": {"role": "student", "tier": "free"},
    }
    for missing in full:
        part = {name: value for name, value in full.items() if name != missing}
        assert await gate.refuses(jwt.encode(part, key.private, "ES256", headers={"kid": key.key_id}))
    assert await gate.refuses(jwt.encode(full, key.private, "ES256"))
    assert not await gate.refuses(jwt.encode(full, key.private, "ES256", headers={"kid": key.key_id}))


@pytest.mark.parametrize(
    "key_id",
    ["unknown", "../../etc/passwd", "/dev/zero", "https://thief.example/key.pem", "%2e%2e/x", "k" * 10_000, "\x00"],
)
async def test_a_hostile_key_id_is_refused(gate: Gate, key_id: str) -> None:
    key = gate.keyring.signing_key()
    payload = jwt.decode(gate.sign(), options={"verify_signature": False})
    assert await gate.refuses(jwt.encode(payload, key.private, "ES256", headers={"kid": key_id}))


@pytest.mark.parametrize(
    "token",
    ["x" * 1_000_000, "a." * 500_000, "é" * 9_000, "\ud800" * 10],
    ids=lambda t: t[:3].encode("ascii", "backslashreplace").decode(),
)
async def test_an_oversized_or_unreadable_token_is_refused(gate: Gate, token: str) -> None:
    assert await gate.refuses(token)


async def test_an_external_person_comes_in_with_the_rights_of_app_metadata(gate: Gate) -> None:
    person = uuid4()
    identity = await gate.verifier.verify(external(gate, sub=str(person)))
    assert (identity.user_id, identity.role, identity.tier) == (person, Role.TEACHER, Tier.FREE)
    assert identity.session_id is None
    assert gate.provisioned == [ExternalIdentity(person, SUPABASE, Role.TEACHER, None)]


async def test_what_the_person_or_the_database_says_grants_nothing(gate: Gate) -> None:
    token = external(gate, role="admin", user_metadata={"role": "admin"}, app_metadata={"provider": "email"})
    assert (await gate.verifier.verify(token)).role is Role.STUDENT


async def test_an_issuer_that_may_not_make_administrators_makes_none(gate: Gate) -> None:
    token = external(gate, app_metadata={"role": "admin", "tier": "premium"})
    identity = await gate.verifier.verify(token)
    assert (identity.role, identity.tier) == (Role.STUDENT, Tier.PREMIUM)


async def test_the_api_keys_of_supabase_are_nobody(gate: Gate) -> None:
    for role in ("anon", "service_role"):
        assert await gate.refuses(external(gate, iss="supabase", sub=..., aud=..., role=role))
        assert await gate.refuses(external(gate, sub=..., role=role))


async def test_no_key_vouches_for_another_issuer(gate: Gate) -> None:
    ours = gate.keyring.signing_key()
    assert await gate.refuses(external(gate, ours.private, "ES256"))
    assert await gate.refuses(external(gate, iss="bacmr", aud="bacmr"))
    assert await gate.refuses(external(gate, iss="https://unknown.example"))
    assert await gate.refuses(external(gate, "another secret of more than 32 bytes!"))
    assert gate.provisioned == []


async def test_an_external_token_is_looked_at_again_after_a_while(gate: Gate) -> None:
    token = external(gate)
    await gate.verifier.verify(token)
    await gate.verifier.verify(token)
    assert len(gate.provisioned) == 1
    gate.now += EXTERNAL_TRUST_SECONDS
    await gate.verifier.verify(token)
    assert len(gate.provisioned) == 2
    gate.now += 3600
    assert await gate.refuses(token)


async def test_a_bad_token_is_not_remembered(gate: Gate) -> None:
    for bad in (gate.sign()[:-8] + "AAAAAAAA", external(gate)[:-8] + "AAAAAAAA"):
        for _ in range(3):
            assert await gate.refuses(bad)
    assert gate.verifier.remembered == 0
