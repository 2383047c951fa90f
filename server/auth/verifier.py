"""From a bearer token to an identity, fast: verified tokens are remembered until they, or their keys, end."""

import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from cachetools import LRUCache, TTLCache

from server.auth import tokens
from server.auth.issuers import ExternalIdentity, Issuer
from server.auth.keyring import Keyring
from server.auth.tokens import Label, Rule
from server.caller import Role, Tier
from server.refusal import NotSignedIn

REMEMBERED_TOKENS = 20_000
REVOKED_SESSIONS = 100_000
EXTERNAL_TRUST_SECONDS = 60.0
"""How long an external token is believed without looking again at its issuer's keys and its account."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls. `session_id` is the signed-in device of our own tokens; `expires_at` is Unix seconds."""

    user_id: UUID
    role: Role
    tier: Tier
    session_id: UUID | None
    expires_at: float


Provision = Callable[[ExternalIdentity], Awaitable[Tier]]
"""Makes sure that the person of an external token has an account here and returns its tier. Raises a Refusal."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    identity: Identity
    own_key_id: str
    fresh_until: float


class RevokedSessions:
    """Sessions that ended less than an access token's life ago: their tokens still verify, but are refused."""

    def __init__(self, token_ttl_seconds: float, clock: Callable[[], float] = time.time) -> None:
        """Take the longest life of an access token and a clock in Unix seconds."""
        self.token_ttl_seconds = token_ttl_seconds
        self._ids: TTLCache[UUID, bool] = TTLCache(REVOKED_SESSIONS, token_ttl_seconds, timer=clock)

    def add(self, session_ids: Iterable[UUID]) -> None:
        """Refuse the access tokens of these sessions from now on."""
        for session_id in session_ids:
            self._ids[session_id] = True

    def __contains__(self, session_id: UUID | None) -> bool:
        return session_id in self._ids


class TokenVerifier:
    """Verifies access tokens of ours and of configured issuers."""

    def __init__(
        self,
        keyring: Keyring,
        rule: Rule,
        revoked: RevokedSessions,
        issuers: Sequence[Issuer],
        provision: Provision,
        clock: Callable[[], float] = time.time,
        remembered_max: int = REMEMBERED_TOKENS,
    ) -> None:
        """Take our keys and rule, the ended sessions, the external issuers and how their people get accounts."""
        self._keyring = keyring
        self._rule = rule
        self._revoked = revoked
        self._issuers = {issuer.rule.issuer: issuer for issuer in issuers}
        self._provision = provision
        self._clock = clock
        self._remembered: LRUCache[bytes, _Remembered] = LRUCache(remembered_max)

    @property
    def remembered(self) -> int:
        """How many verified tokens are remembered; never more than `remembered_max`."""
        return len(self._remembered)

    async def verify(self, token: str) -> Identity:
        """Return who the token names.

        Raises NotSignedIn for every token that does not verify, after at most one signature check and without telling
        why; StoreUnavailable while an issuer's keys, or the database for its people, cannot be reached.
        """
        if len(token) > tokens.TOKEN_LENGTH_MAX:
            raise NotSignedIn
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        remembered = self._remembered.get(digest)
        if remembered is None or not self._still_good(remembered):
            self._remembered.pop(digest, None)
            remembered = await self._verify_anew(token)
            self._remembered[digest] = remembered
        if remembered.identity.session_id in self._revoked:
            raise NotSignedIn
        return remembered.identity

    def _still_good(self, remembered: _Remembered) -> bool:
        if remembered.fresh_until <= self._clock():
            return False
        return not remembered.own_key_id or self._keyring.key(remembered.own_key_id) is not None

    async def _verify_anew(self, token: str) -> _Remembered:
        label = tokens.label(token)
        if label.issuer == self._rule.issuer:
            return self._verify_own(token, label)
        issuer = self._issuers.get(label.issuer)
        if issuer is None:
            raise NotSignedIn
        return await self._verify_external(token, label, issuer)

    def _verify_own(self, token: str, label: Label) -> _Remembered:
        key = self._keyring.key(label.key_id)
        if key is None:
            raise NotSignedIn
        claims = tokens.verified(token, key.public, self._rule, self._clock())
        if claims.role is None or claims.tier is None or claims.session_id is None:
            raise NotSignedIn
        identity = Identity(claims.user_id, claims.role, claims.tier, claims.session_id, claims.expires_at)
        return _Remembered(identity, label.key_id, claims.expires_at)

    async def _verify_external(self, token: str, label: Label, issuer: Issuer) -> _Remembered:
        key = await issuer.key(label)
        if key is None:
            raise NotSignedIn
        claims = tokens.verified(token, key, issuer.rule, self._clock())
        role = issuer.role(claims.role)
        tier = await self._provision(ExternalIdentity(claims.user_id, issuer.rule.issuer, role, claims.tier))
        # The issuer's own session ids name nothing here.
        identity = Identity(claims.user_id, role, tier, None, claims.expires_at)
        return _Remembered(identity, "", min(claims.expires_at, self._clock() + EXTERNAL_TRUST_SECONDS))
