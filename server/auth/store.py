"""SQL of accounts, sessions, refresh tokens and attempts; most of it calls the functions of 0002_accounts.sql."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from server.auth.account import Device, Login, Profile, User
from server.auth.issuers import ExternalIdentity
from server.caller import Role, Tier
from server.refusal import AccountDisabled, AlreadyExists, IllegalState
from server.text.language import Language

Connection = AsyncConnection
"""An open transaction, for the rooms' code that must not know SQLAlchemy."""

ACCOUNT_DISABLED = "UA001"
LAST_ADMINISTRATOR = "UA002"
UNIQUE_VIOLATION = "23505"

USER = (
    "SELECT id, email, phone, display_name, preferred_language, role, tier, disabled_at, issuer, created_at"
    " FROM app_user WHERE erased_at IS NULL"
)
BECOME = text("SELECT set_config('app.user_id', :user_id, true)")
CREATE_ACCOUNT = text("SELECT create_account(:id, :email, :phone, :password_hash, :display_name, :language, :role)")
FOR_SIGN_IN = text("SELECT id, password_hash, disabled FROM account_for_sign_in(:email, :phone)")
ATTEMPT_LOCK = text(
    "SELECT scope, wait_seconds FROM attempt_lock(:account, :address, :window_seconds, :account_limit, :address_limit)"
)
RECORD_ATTEMPT = text("SELECT record_attempt(:account, :address, :window_seconds)")
FORGIVE_ATTEMPTS = text("SELECT forgive_attempts(:account, :address)")
BEGIN_SESSION = text(
    "SELECT begin_session(:session_id, :user_id, :token_hash, :ttl_seconds, :device_name, :address, :device_limit)"
)
ROTATE = text(
    "SELECT outcome, session_id, user_id, claims"
    " FROM rotate_refresh_token(:old_hash, :new_hash, :ttl_seconds, :grace_seconds, :address)"
)
ONE_USER = text(f"{USER} AND id = :id")
OWN_USER_TO_CHANGE = text(f"{USER} AND id = :id FOR NO KEY UPDATE")
USERS = text(
    f"{USER} AND (CAST(:role AS text) IS NULL OR role = :role)"
    " AND (CAST(:pattern AS text) IS NULL"
    " OR email ILIKE :pattern OR phone ILIKE :pattern OR display_name ILIKE :pattern)"
    " AND (CAST(:created_at AS timestamptz) IS NULL OR (created_at, id) < (:created_at, CAST(:id AS uuid)))"
    " ORDER BY created_at DESC, id DESC LIMIT :limit"
)
UPDATE_PROFILE = text("UPDATE app_user SET display_name = :display_name, preferred_language = :language WHERE id = :id")
OWN_PASSWORD_HASH = text("SELECT own_password_hash()")
SET_PASSWORD = text("SELECT set_password(:user_id, :password_hash)")
ERASE = text("SELECT erase_account(:user_id)")
CHANGE_ACCESS = text("SELECT before, after FROM change_access(:user_id, :role, :tier, :disabled)")
DEVICES = text(
    "SELECT id, device_name, created_at, last_used_at FROM session"
    " WHERE user_id = :user_id AND revoked_at IS NULL AND expires_at > now()"
    " AND (CAST(:last_used_at AS timestamptz) IS NULL OR (last_used_at, id) < (:last_used_at, CAST(:id AS uuid)))"
    " ORDER BY last_used_at DESC, id DESC LIMIT :limit"
)
REVOKE_ONE = text(
    "UPDATE session SET revoked_at = now() WHERE id = :id AND user_id = :user_id AND revoked_at IS NULL RETURNING id"
)
REVOKE_ALL = text("SELECT revoke_sessions(:user_id, :except_id)")
REVOKED = text("SELECT revoked_sessions(:since_seconds)")
PROVISION = text("SELECT created, tier, refused, disabled FROM provision_external(:id, :issuer, :role, :tier)")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a sign-in is checked against."""

    user_id: UUID
    password_hash: str
    disabled: bool


@dataclass(frozen=True, slots=True)
class Lock:
    """Attempts are used up, by `account` or by `address`, for so long."""

    scope: str
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Rotation:
    """What became of a refresh token: `rotated`, or refused as `unknown`, `ended` or `reused`."""

    outcome: str
    session_id: UUID | None
    user_id: UUID | None
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Access:
    """What operators decide about an account."""

    role: Role
    tier: Tier
    disabled: bool


@dataclass(frozen=True, slots=True)
class Provisioned:
    """The account of an external person; `refused` when the id is somebody else's or was erased."""

    created: bool
    tier: Tier
    refused: bool
    disabled: bool


class Store:
    """The auth room's tables. Every method works in the caller's open transaction."""

    async def become(self, connection: AsyncConnection, user_id: UUID) -> None:
        """Go on with the rest of this transaction as the account that was just proven."""
        await connection.execute(BECOME, {"user_id": str(user_id)})

    async def create_account(
        self, connection: AsyncConnection, user_id: UUID, login: Login, password_hash: str, profile: Profile, role: Role
    ) -> None:
        """Insert an account. Raises AlreadyExists when the e-mail address or phone number has one."""
        values = {
            "id": user_id,
            "email": login.email or None,
            "phone": login.phone or None,
            "password_hash": password_hash,
            "display_name": profile.display_name,
            "language": profile.preferred_language,
            "role": role,
        }
        with _refusals():
            await connection.execute(CREATE_ACCOUNT, values)

    async def credentials(self, connection: AsyncConnection, login: Login) -> Credentials | None:
        """Return what a sign-in by this name is checked against, or None when nobody signs in by it."""
        names = {"email": login.email or None, "phone": login.phone or None}
        row = (await connection.execute(FOR_SIGN_IN, names)).one_or_none()
        return Credentials(row.id, row.password_hash, row.disabled) if row else None

    async def attempt_lock(
        self, connection: AsyncConnection, account: bytes, address: str, window_seconds: float, limits: tuple[int, int]
    ) -> Lock | None:
        """Return what keeps this account from being tried from this address. `limits`: per account, per address."""
        values = {
            "account": account,
            "address": address,
            "window_seconds": window_seconds,
            "account_limit": limits[0],
            "address_limit": limits[1],
        }
        row = (await connection.execute(ATTEMPT_LOCK, values)).one_or_none()
        return Lock(row.scope, float(row.wait_seconds)) if row else None

    async def record_attempt(
        self, connection: AsyncConnection, account: bytes, address: str, window_seconds: float
    ) -> None:
        """Count an attempt that failed, and forget those that left the window."""
        values = {"account": account, "address": address, "window_seconds": window_seconds}
        await connection.execute(RECORD_ATTEMPT, values)

    async def forgive_attempts(self, connection: AsyncConnection, account: bytes, address: str) -> None:
        """Forget the failed attempts on this account from this address."""
        await connection.execute(FORGIVE_ATTEMPTS, {"account": account, "address": address})

    async def begin_session(
        self,
        connection: AsyncConnection,
        session_id: UUID,
        user_id: UUID,
        token_hash: bytes,
        ttl_seconds: float,
        device: tuple[str, str],
        device_limit: int,
    ) -> Mapping[str, Any] | None:
        """Insert a session with its first refresh token and return the claims; None when the account is gone.

        `device` is its name and address. The least recently used beyond `device_limit` end. Raises AccountDisabled.
        """
        values = {
            "session_id": session_id,
            "user_id": user_id,
            "token_hash": token_hash,
            "ttl_seconds": ttl_seconds,
            "device_name": device[0],
            "address": device[1],
            "device_limit": device_limit,
        }
        with _refusals():
            claims: Mapping[str, Any] | None = (await connection.execute(BEGIN_SESSION, values)).scalar_one()
        return claims

    async def rotate(
        self,
        connection: AsyncConnection,
        old_hash: bytes,
        new_hash: bytes,
        ttl_seconds: float,
        grace_seconds: float,
        address: str,
    ) -> Rotation:
        """Trade a refresh token for its successor. Raises AccountDisabled; other refusals are outcomes that commit."""
        values = {
            "old_hash": old_hash,
            "new_hash": new_hash,
            "ttl_seconds": ttl_seconds,
            "grace_seconds": grace_seconds,
            "address": address,
        }
        with _refusals():
            row = (await connection.execute(ROTATE, values)).one()
        return Rotation(row.outcome, row.session_id, row.user_id, row.claims or {})

    async def user(self, connection: AsyncConnection, user_id: UUID) -> User | None:
        """Return the account if this transaction's caller may see it and it is not erased."""
        row = (await connection.execute(ONE_USER, {"id": user_id})).one_or_none()
        return _user(row) if row else None

    async def own_user_to_change(self, connection: AsyncConnection, user_id: UUID) -> User | None:
        """Return the caller's account, which nobody else changes until this transaction ends."""
        row = (await connection.execute(OWN_USER_TO_CHANGE, {"id": user_id})).one_or_none()
        return _user(row) if row else None

    async def users(
        self, connection: AsyncConnection, role: Role | None, query: str, after: tuple[Any, ...], limit: int
    ) -> list[User]:
        """Return accounts, newest first, after the row with key (created_at, id); `query` is a part of a name."""
        pattern = "%" + query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        created_at, user_id = after or (None, None)
        values = {
            "role": role,
            "pattern": pattern if query else None,
            "created_at": created_at,
            "id": user_id,
            "limit": limit,
        }
        return [_user(row) for row in await connection.execute(USERS, values)]

    async def update_profile(self, connection: AsyncConnection, user_id: UUID, profile: Profile) -> None:
        """Replace the profile columns."""
        values = {"id": user_id, "display_name": profile.display_name, "language": profile.preferred_language}
        await connection.execute(UPDATE_PROFILE, values)

    async def own_password_hash(self, connection: AsyncConnection) -> str | None:
        """Return the caller's password hash; None for accounts of an external issuer."""
        found: str | None = (await connection.execute(OWN_PASSWORD_HASH)).scalar_one()
        return found

    async def set_password(self, connection: AsyncConnection, user_id: UUID, password_hash: str) -> None:
        """Replace a password hash; the caller must be the account or the server itself."""
        await connection.execute(SET_PASSWORD, {"user_id": user_id, "password_hash": password_hash})

    async def erase(self, connection: AsyncConnection, user_id: UUID) -> None:
        """Erase the caller's personal data and end the sessions. Raises IllegalState for the last administrator."""
        with _refusals():
            await connection.execute(ERASE, {"user_id": user_id})

    async def change_access(
        self,
        connection: AsyncConnection,
        user_id: UUID,
        role: Role | None = None,
        tier: Tier | None = None,
        disabled: bool | None = None,
    ) -> tuple[Access, Access] | None:
        """Change what is given and return access before and after; None when there is no such account.

        Disabling ends all sessions. Raises IllegalState when no administrator would be left.
        """
        values = {"user_id": user_id, "role": role, "tier": tier, "disabled": disabled}
        with _refusals():
            row = (await connection.execute(CHANGE_ACCESS, values)).one_or_none()
        return (_access(row.before), _access(row.after)) if row else None

    async def devices(
        self, connection: AsyncConnection, user_id: UUID, current: UUID | None, after: tuple[Any, ...], limit: int
    ) -> list[Device]:
        """Return live sessions, most recently used first, after the row with key (last_used_at, id)."""
        last_used_at, session_id = after or (None, None)
        values = {"user_id": user_id, "last_used_at": last_used_at, "id": session_id, "limit": limit}
        rows = await connection.execute(DEVICES, values)
        return [Device(row.id, row.device_name, row.created_at, row.last_used_at, row.id == current) for row in rows]

    async def revoke_session(self, connection: AsyncConnection, user_id: UUID, session_id: UUID) -> bool:
        """End one of the caller's sessions; False when it is not theirs or has ended."""
        found = await connection.execute(REVOKE_ONE, {"id": session_id, "user_id": user_id})
        return found.one_or_none() is not None

    async def revoke_sessions(
        self, connection: AsyncConnection, user_id: UUID, except_id: UUID | None = None
    ) -> list[UUID]:
        """End all sessions of an account but one; returns the ended ones."""
        return list((await connection.execute(REVOKE_ALL, {"user_id": user_id, "except_id": except_id})).scalars())

    async def revoked_sessions(self, connection: AsyncConnection, since_seconds: float) -> list[UUID]:
        """Return the sessions that ended within the last `since_seconds`."""
        return list((await connection.execute(REVOKED, {"since_seconds": since_seconds})).scalars())

    async def provision_external(self, connection: AsyncConnection, identity: ExternalIdentity) -> Provisioned:
        """Make or find the account of an external person, and let its rights follow the token."""
        values = {"id": identity.user_id, "issuer": identity.issuer, "role": identity.role, "tier": identity.tier}
        row = (await connection.execute(PROVISION, values)).one()
        return Provisioned(row.created, Tier(row.tier), row.refused, row.disabled)


@contextmanager
def _refusals() -> Iterator[None]:
    """Raise the refusal that an error of our SQL functions stands for."""
    try:
        yield
    except DBAPIError as error:
        sqlstate = getattr(error.orig, "sqlstate", "")
        if sqlstate == ACCOUNT_DISABLED:
            raise AccountDisabled from error
        if sqlstate == LAST_ADMINISTRATOR:
            raise IllegalState("There must be an administrator left.") from error
        if sqlstate == UNIQUE_VIOLATION:
            raise AlreadyExists("This e-mail address or phone number has an account.") from error
        raise


def _user(row: Row[Any]) -> User:
    created_at: datetime = row.created_at
    return User(
        id=row.id,
        email=row.email or "",
        phone=row.phone or "",
        display_name=row.display_name,
        preferred_language=Language(row.preferred_language) if row.preferred_language else None,
        role=Role(row.role),
        tier=Tier(row.tier),
        disabled=row.disabled_at is not None,
        issuer=row.issuer or "",
        created_at=created_at,
    )


def _access(value: Mapping[str, Any]) -> Access:
    return Access(Role(value["role"]), Tier(value["tier"]), bool(value["disabled"]))
