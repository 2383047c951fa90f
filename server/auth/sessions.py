"""Signed-in devices: how a proven account gets a pair of tokens, and how the pair is renewed.

A session is a family of refresh tokens that descend from one sign-in. Each is used once; using it makes its successor.
One that is used again was copied, or its reply was lost: within GRACE_SECONDS of the first use it gets another
successor, later it ends the whole session. Successors of one token do not multiply: as soon as one of them is used, the
others count as used.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import structlog

from server.auth import tokens
from server.auth.account import DEVICE_NAME_LENGTH_MAX, User, canonical_name
from server.auth.attempts import network_of
from server.auth.keyring import Keyring
from server.auth.store import Connection, Store
from server.auth.tokens import Rule
from server.auth.verifier import RevokedSessions
from server.caller import current
from server.database.pool import Database
from server.refusal import RefreshRefused, WrongCredentials

GRACE_SECONDS = 10.0
DEVICES_MAX = 100
"""Sessions one account can have; a new one ends the least recently used."""
TOKEN_BYTES = 32
TOKEN_PREFIX = "brt_"
"""By which people and secret scanners know what they see."""
REUSED = "reused"
ROTATED = "rotated"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session's pair of tokens; both are secrets and must not be logged or stored."""

    access_token: str
    refresh_token: str
    expires_at: datetime
    session_id: UUID
    user: User

    def __repr__(self) -> str:
        """Show no token."""
        return f"SignedIn(session_id={self.session_id}, expires_at={self.expires_at})"


class Sessions:
    """Opens and renews sessions, and writes access tokens from the database's claims rule."""

    def __init__(
        self,
        database: Database,
        store: Store,
        keyring: Keyring,
        rule: Rule,
        revoked: RevokedSessions,
        refresh_ttl_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Sign by `rule` with `keyring`; access tokens live as long as `revoked` remembers sessions."""
        self._database = database
        self._store = store
        self._keyring = keyring
        self._rule = rule
        self._access_ttl_seconds = revoked.token_ttl_seconds
        self._revoked = revoked
        self._refresh_ttl_seconds = refresh_ttl_seconds
        self._clock = clock

    async def begin(self, connection: Connection, user_id: UUID, device_name: str) -> SignedIn:
        """Open a session for an account that was proven. Raises AccountDisabled; WrongCredentials when it is gone."""
        session_id, refresh_token = uuid4(), _new_token()
        device = canonical_name(device_name, "device_name", DEVICE_NAME_LENGTH_MAX), network_of(current().address)
        claims = await self._store.begin_session(
            connection, session_id, user_id, _digest(refresh_token), self._refresh_ttl_seconds, device, DEVICES_MAX
        )
        if claims is None:
            raise WrongCredentials
        return await self._signed_in(connection, user_id, session_id, claims, refresh_token)

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Trade a refresh token for a new pair. Raises RefreshRefused, AccountDisabled.

        Only the database's own no ends a session: when it cannot be reached the refusal is StoreUnavailable, and the
        token stays good.
        """
        successor = _new_token()
        address = network_of(current().address)
        async with self._database.transaction() as connection:
            rotation = await self._store.rotate(
                connection,
                _digest(refresh_token),
                _digest(successor),
                self._refresh_ttl_seconds,
                GRACE_SECONDS,
                address,
            )
            if rotation.outcome == ROTATED and rotation.user_id and rotation.session_id:
                return await self._signed_in(
                    connection, rotation.user_id, rotation.session_id, rotation.claims, successor
                )
        if rotation.outcome == REUSED and rotation.session_id:
            self._revoked.add([rotation.session_id])
            _log.warning("refresh_token_reused", session_id=str(rotation.session_id), user_id=str(rotation.user_id))
        raise RefreshRefused

    async def _signed_in(
        self,
        connection: Connection,
        user_id: UUID,
        session_id: UUID,
        claims: Mapping[str, Any],
        refresh_token: str,
    ) -> SignedIn:
        await self._store.become(connection, user_id)
        user = await self._store.user(connection, user_id)
        if user is None:
            raise RefreshRefused
        issued_at = int(self._clock())
        expires_at = issued_at + int(self._access_ttl_seconds)
        key = self._keyring.signing_key()
        access_token = tokens.signed(
            claims,
            key.private,
            key.key_id,
            self._rule,
            session_id=session_id,
            issued_at=issued_at,
            expires_at=expires_at,
        )
        return SignedIn(access_token, refresh_token, datetime.fromtimestamp(expires_at, UTC), session_id, user)


def _new_token() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def _digest(token: str) -> bytes:
    # A plain hash is enough: the token is random, there is nothing to guess.
    return hashlib.sha256(token.encode()).digest()
