"""External token issuers (Supabase-style): whom we believe, with which keys, and which rights they may grant.

A person of an external issuer becomes one of ours at the first call: `sub` must be a UUID and is the user's id here.
The account remembers its issuer, so that no issuer can speak for another's people or for ours. The role is what
`app_metadata.role` says if this issuer may grant it, else `student`; the tier is `app_metadata.tier`, or, when the
token has none, what an operator set here. Both follow the token. The claims `role` and `user_metadata` grant nothing:
at Supabase the first is a database role, and the second is written by the person.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from server.auth.jwks import Jwks, over_http
from server.auth.tokens import Label, Rule
from server.caller import Role, Tier

JWKS_ALGORITHMS = ("ES256", "RS256", "EdDSA")
SECRET_ALGORITHM = "HS256"
SECRET_LENGTH_MIN = 32
"""RFC 7518 §3.2: an HS256 key has at least the size of the hash, in bytes."""
DEFAULT_ROLES = frozenset({Role.STUDENT, Role.TEACHER})


@dataclass(frozen=True, slots=True)
class ExternalIdentity:
    """Who a verified external token names, and what it grants."""

    user_id: UUID
    issuer: str
    role: Role
    tier: Tier | None


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer with one way to verify its tokens: a shared secret (HS256) or published keys."""

    rule: Rule
    roles: frozenset[Role] = DEFAULT_ROLES
    secret: bytes = field(default=b"", repr=False)
    jwks: Jwks | None = None

    async def key(self, label: Label) -> Any | None:
        """Return the key for a token so labelled, or None when this issuer has no such key."""
        if label.algorithm not in self.rule.algorithms:
            return None
        if self.jwks is None:
            return self.secret
        key = await self.jwks.key(label.key_id)
        return key if key is not None and key.algorithm_name == label.algorithm else None

    def role(self, claimed: Role | None) -> Role:
        """Return the role that a claim of this issuer amounts to here."""
        return claimed if claimed in self.roles else Role.STUDENT


def with_secret(issuer: str, audience: str, secret: str, roles: Collection[Role] = DEFAULT_ROLES) -> Issuer:
    """Return an issuer that signs with a shared secret of at least 32 bytes. Raises ValueError."""
    key = secret.encode()
    if len(key) < SECRET_LENGTH_MIN:
        raise ValueError(f"the HS256 secret of {issuer} has less than {SECRET_LENGTH_MIN} bytes")
    return Issuer(Rule(issuer, audience, (SECRET_ALGORITHM,)), frozenset(roles), secret=key)


def with_keys(issuer: str, audience: str, jwks_url: str, roles: Collection[Role] = DEFAULT_ROLES) -> Issuer:
    """Return an issuer that publishes its keys at `jwks_url`. Raises ValueError."""
    return Issuer(Rule(issuer, audience, JWKS_ALGORITHMS), frozenset(roles), jwks=Jwks(over_http(jwks_url)))
