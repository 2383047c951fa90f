"""The furnished auth room: all that app.py needs of it, put together from plain values and callables."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.auth.attempts import ATTEMPTS_MAX, AttemptGuard
from server.auth.directory import Audit, UserDirectory
from server.auth.issuers import Issuer
from server.auth.keyring import Keyring
from server.auth.passwords import Passwords
from server.auth.service import AuthService, Eraser, Onboarding, OpenWallet
from server.auth.sessions import Sessions
from server.auth.store import Store
from server.auth.tokens import SIGNING_ALGORITHM, Rule
from server.auth.verifier import RevokedSessions, TokenVerifier
from server.database.once import Once
from server.database.pool import Database


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings of the room. `attempts_max` counts failed sign-ins per account, and per address, in 15 minutes."""

    keys_dir: Path
    issuer: str = "bacmr"
    audience: str = "bacmr"
    access_ttl_seconds: float = 900
    refresh_ttl_seconds: float = 90 * 86_400
    attempts_max: int = ATTEMPTS_MAX
    welcome_tokens: int = 0
    external_issuers: Sequence[Issuer] = ()


@dataclass(frozen=True, slots=True)
class AuthRoom:
    """What others use: `service` for people, `directory` for operators, `verifier` for the edge."""

    service: AuthService
    directory: UserDirectory
    verifier: TokenVerifier
    keyring: Keyring
    passwords: Passwords

    def close(self) -> None:
        """Let the hashing threads go."""
        self.passwords.close()


def furnish(
    database: Database,
    once: Once,
    terms: Terms,
    open_wallet: OpenWallet,
    audit: Audit,
    erasers: Sequence[Eraser] = (),
    passwords: Passwords | None = None,
    clock: Callable[[], float] = time.time,
) -> AuthRoom:
    """Build the room and open its keys. Raises KeyringError when the key folder cannot be used.

    `open_wallet` and `erasers` work inside the room's transactions. `clock` gives Unix seconds.
    """
    store, passwords = Store(), passwords or Passwords()
    keyring = Keyring(terms.keys_dir, terms.access_ttl_seconds, clock)
    keyring.open()
    rule = Rule(terms.issuer, terms.audience, (SIGNING_ALGORITHM,))
    revoked = RevokedSessions(terms.access_ttl_seconds, clock)
    onboarding = Onboarding(open_wallet, terms.welcome_tokens)
    guard = AttemptGuard(database, store, terms.attempts_max, terms.attempts_max)
    sessions = Sessions(database, store, keyring, rule, revoked, terms.refresh_ttl_seconds, clock)
    directory = UserDirectory(database, once, store, passwords, revoked, onboarding, audit)
    return AuthRoom(
        service=AuthService(database, once, store, passwords, guard, sessions, keyring, revoked, onboarding, erasers),
        directory=directory,
        verifier=TokenVerifier(keyring, rule, revoked, terms.external_issuers, directory.provision_external, clock),
        keyring=keyring,
        passwords=passwords,
    )
