"""What people do about their own account: sign up, sign in, stay signed in on several devices, change and leave it."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID, uuid4

import structlog

from server.auth.account import (
    DISPLAY_NAME_LENGTH_MAX,
    Device,
    Login,
    Profile,
    User,
    canonical_name,
    check_new_password,
    login_of,
    merged,
)
from server.auth.attempts import AttemptGuard
from server.auth.keyring import Keyring
from server.auth.passwords import Passwords
from server.auth.sessions import Sessions, SignedIn
from server.auth.store import Connection, Credentials, Store
from server.auth.verifier import RevokedSessions
from server.caller import Role, acting_as, current
from server.database.once import Once
from server.database.pages import Page, cut, page_size, position
from server.database.pool import Database
from server.refusal import (
    AccountDisabled,
    IllegalState,
    Invalid,
    NotFound,
    NotSignedIn,
    RequestIdReused,
    Violation,
    WrongCredentials,
)

_log = structlog.get_logger(__name__)

T = TypeVar("T")

OpenWallet = Callable[[Connection, UUID, int], Awaitable[None]]
"""Opens a new account's wallet with its welcome tokens, inside the sign-up's transaction."""
Eraser = Callable[[Connection, UUID], Awaitable[None]]
"""Erases what another room keeps about a person, inside the transaction that erases the account."""


@dataclass(frozen=True, slots=True)
class Onboarding:
    """What a new account gets."""

    open_wallet: OpenWallet
    welcome_tokens: int

    async def __call__(self, connection: Connection, user_id: UUID) -> None:
        """Open the wallet."""
        await self.open_wallet(connection, user_id, self.welcome_tokens)


class AuthService:
    """Use cases of AuthService. Who calls is `server.caller.current()`."""

    def __init__(
        self,
        database: Database,
        once: Once,
        store: Store,
        passwords: Passwords,
        guard: AttemptGuard,
        sessions: Sessions,
        keyring: Keyring,
        revoked: RevokedSessions,
        onboarding: Onboarding,
        erasers: Sequence[Eraser] = (),
    ) -> None:
        """`erasers` are called in order by delete_me, each for one other room."""
        self._database = database
        self._once = once
        self._store = store
        self._passwords = passwords
        self._guard = guard
        self._sessions = sessions
        self._keyring = keyring
        self._revoked = revoked
        self._onboarding = onboarding
        self._erasers = erasers

    async def sign_up(
        self,
        email: str,
        phone: str,
        password: str,
        profile: Profile,
        device_name: str = "",
        request_id: UUID | None = None,
    ) -> SignedIn:
        """Make an account and its wallet in one transaction, and sign it in.

        A retry with the same request_id, fields and password makes no second account but opens another session, for
        tokens are stored nowhere. Raises Invalid, AlreadyExists, RequestIdReused.
        """
        login = login_of(email, phone)
        check_new_password(password, login)
        name = canonical_name(profile.display_name, "display_name", DISPLAY_NAME_LENGTH_MAX)
        profile = replace(profile, display_name=name)
        password_hash = await self._passwords.hash(password)
        new_id = uuid4()

        async def make(connection: Connection) -> UUID:
            await self._store.create_account(connection, new_id, login, password_hash, profile, Role.STUDENT)
            await self._onboarding(connection, new_id)
            return new_id

        asked = asdict(login) | asdict(profile)
        user_id = await self._once.run("SignUp", request_id, asked, UUID, make)
        if user_id != new_id:
            credentials = await self._check_replayed(self._proven(login, password))
            if credentials.user_id != user_id:
                raise RequestIdReused
        else:
            _log.info("account_made", user_id=str(user_id))
        return await self._begin(user_id, device_name)

    async def sign_in(self, email: str, phone: str, password: str, device_name: str = "") -> SignedIn:
        """Check a password and open a session.

        Raises WrongCredentials, alike in words and work for unknown accounts and wrong passwords; TooManyAttempts;
        AccountDisabled, only to someone who knows the password.
        """
        credentials = await self._proven(_login_for_sign_in(email, phone), password)
        if credentials.disabled:
            raise AccountDisabled
        if self._passwords.outdated(credentials.password_hash):
            await self._set_password(credentials.user_id, password)
        return await self._begin(credentials.user_id, device_name)

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Trade a refresh token for a new pair; see `server.auth.sessions`. Raises RefreshRefused, AccountDisabled."""
        return await self._sessions.refresh(refresh_token)

    async def sign_out(self, request_id: UUID | None = None) -> None:
        """End the session of this call; nothing to do for tokens of an external issuer."""
        session_id = current().session_id
        if session_id is None:
            return

        async def end(connection: Connection) -> None:
            await self._store.revoke_session(connection, _caller_id(), session_id)

        await self._once.run("SignOut", request_id, session_id, type(None), end)
        self._revoked.add([session_id])

    async def list_sessions(self, requested_size: int = 0, page_token: str = "") -> Page[Device]:
        """Return the caller's signed-in devices, most recently used first."""
        user_id, size = _caller_id(), page_size(requested_size)
        after = position(page_token, user_id, datetime, UUID)
        async with self._database.transaction() as connection:
            rows = await self._store.devices(connection, user_id, current().session_id, after, size + 1)
        return cut(rows, size, user_id, lambda device: (device.last_used_at, device.session_id))

    async def revoke_session(self, session_id: UUID, request_id: UUID | None = None) -> None:
        """End one of the caller's sessions. Raises NotFound when it is not theirs or has ended, RequestIdReused."""

        async def end(connection: Connection) -> None:
            if not await self._store.revoke_session(connection, _caller_id(), session_id):
                raise NotFound

        await self._once.run("RevokeSession", request_id, session_id, type(None), end)
        self._revoked.add([session_id])

    async def get_me(self) -> User:
        """Return the caller's account. Raises NotFound for callers without one."""
        async with self._database.transaction() as connection:
            user = await self._store.user(connection, _caller_id())
        if user is None:
            raise NotFound
        return user

    async def update_me(self, change: Profile, paths: Collection[str], request_id: UUID | None = None) -> User:
        """Change the profile fields that `paths` names and return the account. Raises Invalid, RequestIdReused."""

        async def update(connection: Connection) -> User:
            user = await self._store.own_user_to_change(connection, _caller_id())
            if user is None:
                raise NotFound
            profile = merged(Profile(user.display_name, user.preferred_language), change, paths)
            await self._store.update_profile(connection, user.id, profile)
            return replace(user, display_name=profile.display_name, preferred_language=profile.preferred_language)

        return await self._once.run("UpdateMe", request_id, (change, sorted(paths)), User, update)

    async def change_password(self, current_password: str, new_password: str, request_id: UUID | None = None) -> None:
        """Replace the password and end all other sessions.

        Raises WrongCredentials, TooManyAttempts, Invalid, RequestIdReused; IllegalState for accounts of an external
        issuer.
        """
        user = await self.get_me()
        if user.issuer:
            raise IllegalState("This account signs in at its issuer; there is no password here.")
        check_new_password(new_password, Login(user.email, user.phone), "new_password")
        if await self._once.ran("ChangePassword", request_id):
            await self._check_replayed(self._prove(user, new_password))
            return
        await self._prove(user, current_password)
        password_hash = await self._passwords.hash(new_password)

        async def replace_password(connection: Connection) -> list[UUID]:
            await self._store.set_password(connection, user.id, password_hash)
            return await self._store.revoke_sessions(connection, user.id, current().session_id)

        ended = await self._once.run("ChangePassword", request_id, None, list[UUID], replace_password)
        self._revoked.add(ended)
        _log.info("password_changed", user_id=str(user.id), sessions_ended=len(ended))

    async def delete_me(self, password: str, request_id: UUID | None = None) -> None:
        """Erase the caller's personal data everywhere and end all sessions; the ledger stays, balanced and nameless.

        Raises WrongCredentials, TooManyAttempts; IllegalState for the last administrator.
        """
        user = await self.get_me()
        if not user.issuer:
            await self._prove(user, password)

        async def erase_all(connection: Connection) -> list[UUID]:
            for erase in (*self._erasers, self._once.forget):
                await erase(connection, user.id)
            ended = await self._store.revoke_sessions(connection, user.id)
            await self._store.erase(connection, user.id)
            return ended

        self._revoked.add(await self._once.run("DeleteMe", request_id, None, list[UUID], erase_all))
        _log.info("account_erased", user_id=str(user.id))

    def jwks(self) -> list[dict[str, str]]:
        """Return the public keys that verify access tokens now (RFC 7517), the signing one first."""
        return self._keyring.jwks()

    async def learn_revocations(self) -> None:
        """Learn which sessions other processes ended; to be called every few seconds."""
        async with self._database.transaction() as connection:
            self._revoked.add(await self._store.revoked_sessions(connection, self._revoked.token_ttl_seconds))

    async def _begin(self, user_id: UUID, device_name: str) -> SignedIn:
        with acting_as(replace(current(), user_id=user_id, role=Role.STUDENT)):
            async with self._database.transaction() as connection:
                return await self._sessions.begin(connection, user_id, device_name)

    async def _check_replayed(self, proof: Awaitable[T]) -> T:
        """Prove a retry's password: the stored payload does not hold it, not even as a hash one could guess at."""
        try:
            return await proof
        except WrongCredentials:
            raise RequestIdReused from None

    async def _proven(self, login: Login, password: str) -> Credentials:
        """Return whose name and password these are; the work is the same whichever of the two is wrong."""
        async with self._guard.attempt(login.digest, current().address):
            async with self._database.transaction() as connection:
                credentials = await self._store.credentials(connection, login)
            fits = await self._passwords.verify(credentials.password_hash if credentials else None, password)
            if credentials is None or not fits:
                raise WrongCredentials
        return credentials

    async def _prove(self, user: User, password: str) -> None:
        digest = Login(user.email, user.phone).digest
        async with self._guard.attempt(digest, current().address):
            async with self._database.transaction() as connection:
                password_hash = await self._store.own_password_hash(connection)
            if not await self._passwords.verify(password_hash, password):
                raise WrongCredentials

    async def _set_password(self, user_id: UUID, password: str) -> None:
        password_hash = await self._passwords.hash(password)
        with acting_as(replace(current(), user_id=user_id, role=Role.STUDENT)):
            async with self._database.transaction() as connection:
                await self._store.set_password(connection, user_id, password_hash)


def _caller_id() -> UUID:
    user_id = current().user_id
    if user_id is None:
        raise NotSignedIn
    return user_id


def _login_for_sign_in(email: str, phone: str) -> Login:
    """Return the login name; a malformed one is simply a name that nobody has."""
    if bool(email.strip()) == bool(phone.strip()):
        raise Invalid(violations=[Violation("email", "Give either an e-mail address or a phone number.", "one_name")])
    try:
        return login_of(email, phone)
    except Invalid:
        return Login(email.strip(), phone.strip())
