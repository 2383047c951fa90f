"""Access tokens (JWT, RFC 7519): how ours are made, and the strict rule by which any token is believed. Pure.

The rule follows RFC 8725: the algorithms are fixed by whoever configured the key, never by the token; issuer, audience,
expiry and subject must be there; rights come from `app_metadata` alone, which people cannot write.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from server.auth.account import GRANTED_ROLES
from server.caller import Role, Tier
from server.refusal import NotSignedIn

SIGNING_ALGORITHM = "ES256"
TOKEN_LENGTH_MAX = 8 * 1024
KEY_ID_LENGTH_MAX = 128
CLOCK_SKEW_SECONDS = 5
"""How far an issuer's clock may run ahead of ours. An expired token gets no grace."""
TIMESTAMP_MAX = 2**53
"""Beyond this, JSON numbers are not exact; nobody's token lives that long."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a token says about itself before anything is verified; it only picks the key to verify it with."""

    algorithm: str
    key_id: str
    issuer: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What a token of one issuer must fulfil."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. Times are Unix seconds; role and tier are None when it grants none we know."""

    issuer: str
    user_id: UUID
    role: Role | None
    tier: Tier | None
    session_id: UUID | None
    expires_at: int


def label(token: str) -> Label:
    """Read a token's unverified label. Raises NotSignedIn for anything that is no token of bounded size."""
    if len(token) > TOKEN_LENGTH_MAX:
        raise NotSignedIn
    try:
        header = jwt.get_unverified_header(token)
        payload = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise NotSignedIn from None
    found = Label(header.get("alg", ""), header.get("kid", ""), payload.get("iss", ""))
    if not all(isinstance(part, str) for part in (found.algorithm, found.key_id, found.issuer)):
        raise NotSignedIn
    if len(found.key_id) > KEY_ID_LENGTH_MAX:
        raise NotSignedIn
    return found


def verified(token: str, key: Any, rule: Rule, now: float) -> Claims:
    """Return the claims of a token that fulfils `rule` at Unix time `now`. Raises NotSignedIn, saying nothing more."""
    try:
        payload = jwt.decode(
            token,
            key,
            algorithms=list(rule.algorithms),
            audience=rule.audience,
            issuer=rule.issuer,
            options={
                "require": ["exp", "iat", "sub", "iss", "aud"],
                "enforce_minimum_key_length": True,
                # Checked below against the clock that was handed in.
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise NotSignedIn from None
    expires_at = _check_times(payload, now)
    rights = payload.get("app_metadata")
    rights = rights if isinstance(rights, Mapping) else {}
    return Claims(
        issuer=rule.issuer,
        user_id=_required_uuid(payload["sub"]),
        role=_role(rights.get("role")),
        tier=_tier(rights.get("tier")),
        session_id=_optional_uuid(payload.get("session_id")),
        expires_at=expires_at,
    )


def signed(
    claims: Mapping[str, Any],
    key: EllipticCurvePrivateKey,
    key_id: str,
    rule: Rule,
    *,
    session_id: UUID,
    issued_at: int,
    expires_at: int,
) -> str:
    """Return an access token that carries `claims` (what the claims rule of the database says) until `expires_at`."""
    payload = dict(claims) | {
        "iss": rule.issuer,
        "aud": rule.audience,
        "iat": issued_at,
        "exp": expires_at,
        "jti": str(uuid4()),
        "session_id": str(session_id),
    }
    return jwt.encode(payload, key, SIGNING_ALGORITHM, headers={"kid": key_id})


def public_jwk(key: EllipticCurvePublicKey, key_id: str) -> dict[str, str]:
    """Return a public key as a JWK (RFC 7517)."""
    members = jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True)
    return members | {"kid": key_id, "use": "sig", "alg": SIGNING_ALGORITHM}


def _check_times(payload: Mapping[str, Any], now: float) -> int:
    times = {name: payload[name] for name in ("exp", "iat", "nbf") if name in payload}
    for time in times.values():
        if not isinstance(time, int | float) or isinstance(time, bool) or not 0 <= time <= TIMESTAMP_MAX:
            raise NotSignedIn
    begins = max(times["iat"], times.get("nbf", 0))
    if times["exp"] <= now or begins > now + CLOCK_SKEW_SECONDS:
        raise NotSignedIn
    return int(times["exp"])


def _required_uuid(value: object) -> UUID:
    found = _optional_uuid(value)
    if found is None:
        raise NotSignedIn
    return found


def _optional_uuid(value: object) -> UUID | None:
    # Only the canonical spelling: two spellings of one person would be two keys in limits and caches.
    try:
        found = UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if str(found) == value else None


def _role(value: object) -> Role | None:
    return Role(value) if isinstance(value, str) and value in GRANTED_ROLES else None


def _tier(value: object) -> Tier | None:
    return Tier(value) if isinstance(value, str) and value in {tier.value for tier in Tier} else None
