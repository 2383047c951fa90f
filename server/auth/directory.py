"""What operators do about accounts, and how accounts come to be that nobody signed up for."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid4

import structlog

from server.auth.account import Login, Profile, User, check_new_password, login_of
from server.auth.issuers import ExternalIdentity
from server.auth.passwords import Passwords
from server.auth.service import Onboarding
from server.auth.store import Access, Connection, Store
from server.auth.verifier import RevokedSessions
from server.caller import Role, Tier, acting_as, current, system
from server.database.once import Once
from server.database.pages import Page, cut, page_size, position
from server.database.pool import Database
from server.refusal import AlreadyExists, Forbidden, NotFound, NotSignedIn

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AccessChange:
    """What an operator changed about an account, for the audit trail; `action` is the RPC's name."""

    action: str
    user_id: UUID
    before: Access
    after: Access


Audit = Callable[[Connection, AccessChange], Awaitable[None]]
"""Writes an audit event inside the transaction of the change; who and when are the current caller's."""


class UserDirectory:
    """Accounts as operators see them. Every method for a caller refuses all but administrators and services."""

    def __init__(
        self,
        database: Database,
        once: Once,
        store: Store,
        passwords: Passwords,
        revoked: RevokedSessions,
        onboarding: Onboarding,
        audit: Audit,
    ) -> None:
        """Every change of rights goes through `audit`."""
        self._database = database
        self._once = once
        self._store = store
        self._passwords = passwords
        self._revoked = revoked
        self._onboarding = onboarding
        self._audit = audit

    async def list_users(
        self, role: Role | None = None, query: str = "", requested_size: int = 0, page_token: str = ""
    ) -> Page[User]:
        """Return accounts, newest first; `query` is part of an e-mail address, phone number or name."""
        _check_operator()
        size, filters = page_size(requested_size), [role, query]
        after = position(page_token, filters, datetime, UUID)
        async with self._database.transaction() as connection:
            rows = await self._store.users(connection, role, query, after, size + 1)
        return cut(rows, size, filters, lambda user: (user.created_at, user.id))

    async def get_user(self, user_id: UUID) -> User:
        """Return an account. Raises NotFound."""
        _check_operator()
        async with self._database.transaction() as connection:
            user = await self._store.user(connection, user_id)
        if user is None:
            raise NotFound
        return user

    async def update_role(self, user_id: UUID, role: Role, request_id: UUID) -> User:
        """Change a role; the token shows it from the next refresh. Raises NotFound, IllegalState, RequestIdReused."""
        return await self._change("UpdateUserRole", user_id, request_id, role=role)

    async def update_tier(self, user_id: UUID, tier: Tier, request_id: UUID) -> User:
        """Change a tier; the token shows it from the next refresh. Raises NotFound, RequestIdReused."""
        return await self._change("UpdateUserTier", user_id, request_id, tier=tier)

    async def set_disabled(self, user_id: UUID, disabled: bool, request_id: UUID) -> User:
        """Disable an account and end its sessions, or enable it. Raises NotFound, IllegalState, RequestIdReused."""
        return await self._change("SetUserDisabled", user_id, request_id, disabled=disabled)

    async def create_user(self, login: Login, password: str, role: Role, profile: Profile | None = None) -> UUID:
        """Make an account with a role (an operator's colleague, a backend's service credential) and its wallet.

        Raises Invalid, AlreadyExists.
        """
        _check_operator()
        check_new_password(password, login)
        password_hash = await self._passwords.hash(password)
        user_id = uuid4()
        async with self._database.transaction() as connection:
            await self._store.create_account(connection, user_id, login, password_hash, profile or Profile(), role)
            await self._onboarding(connection, user_id)
        _log.info("account_made", user_id=str(user_id), role=role.value)
        return user_id

    async def ensure_bootstrap_admin(self, email: str, password: str) -> UUID:
        """Make sure that an administrator with this address exists, at start-up; returns its id.

        An administrator's password is left as it is, for it may have been changed. Someone else who holds the address
        did not prove to be the administrator: that account gets the given password, and its sessions end.
        """
        login = login_of(email, "")
        with acting_as(system()):
            try:
                return await self.create_user(login, password, Role.ADMIN, Profile("Administrator"))
            except AlreadyExists:
                return await self._take_over(login, password)

    async def provision_external(self, identity: ExternalIdentity) -> Tier:
        """Make or find the account of a verified external token and return its tier, for the TokenVerifier.

        Raises NotSignedIn when the id is somebody else's, erased or disabled here.
        """
        async with self._database.transaction() as connection:
            account = await self._store.provision_external(connection, identity)
            if account.refused or account.disabled:
                raise NotSignedIn
            if account.created:
                await self._onboarding(connection, identity.user_id)
        if account.created:
            _log.info("external_account_made", user_id=str(identity.user_id), issuer=identity.issuer)
        return account.tier

    async def _change(
        self,
        action: str,
        user_id: UUID,
        request_id: UUID,
        role: Role | None = None,
        tier: Tier | None = None,
        disabled: bool | None = None,
    ) -> User:
        _check_operator()

        ended: list[UUID] = []

        async def change(connection: Connection) -> Access:
            changed = await self._store.change_access(connection, user_id, role, tier, disabled)
            if changed is None:
                raise NotFound
            before, after = changed
            if disabled:
                ended.extend(await self._store.revoke_sessions(connection, user_id))
            await self._audit(connection, AccessChange(action, user_id, before, after))
            return after

        asked = [user_id, role, tier, disabled]
        access = await self._once.run(action, request_id, asked, Access, change)
        self._revoked.add(ended)
        user = await self.get_user(user_id)
        return replace(user, role=access.role, tier=access.tier, disabled=access.disabled)

    async def _take_over(self, login: Login, password: str) -> UUID:
        password_hash = await self._passwords.hash(password)
        async with self._database.transaction() as connection:
            credentials = await self._store.credentials(connection, login)
            if credentials is None:
                raise NotFound
            user = await self._store.user(connection, credentials.user_id)
            if user is not None and user.role is Role.ADMIN:
                return credentials.user_id
            await self._store.set_password(connection, credentials.user_id, password_hash)
            changed = await self._store.change_access(connection, credentials.user_id, role=Role.ADMIN)
            if changed:
                await self._audit(connection, AccessChange("BootstrapAdmin", credentials.user_id, *changed))
            ended = await self._store.revoke_sessions(connection, credentials.user_id)
        self._revoked.add(ended)
        _log.warning("bootstrap_admin_took_over_account", user_id=str(credentials.user_id))
        return credentials.user_id


def _check_operator() -> None:
    if current().role not in (Role.ADMIN, Role.SERVICE):
        raise Forbidden
