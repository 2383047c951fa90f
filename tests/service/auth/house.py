"""The auth room of a server process, with cheap hashing and a clock that tests move."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import argon2

from server.auth.directory import AccessChange
from server.auth.issuers import Issuer
from server.auth.passwords import Passwords
from server.auth.room import Terms, furnish
from server.auth.service import OpenWallet
from server.auth.store import Connection
from server.auth.tokens import SIGNING_ALGORITHM, Rule
from server.auth.verifier import Identity
from server.caller import Caller
from server.database.once import Once
from server.database.pool import Database

ACCESS_TTL_SECONDS = 900.0
REFRESH_TTL_SECONDS = 3600.0
RULE = Rule("bacmr", "bacmr", (SIGNING_ALGORITHM,))


@dataclass
class Clock:
    """Unix time that only moves when told."""

    now: float = field(default_factory=time.time)

    def __call__(self) -> float:
        return self.now


@dataclass
class CountingHasher:
    """The cheapest argon2, which counts the work that was asked of it."""

    verified: int = 0
    hashed: int = 0
    hasher: argon2.PasswordHasher = field(
        default_factory=lambda: argon2.PasswordHasher.from_parameters(argon2.profiles.CHEAPEST)
    )

    def hash(self, password: str) -> str:
        self.hashed += 1
        return self.hasher.hash(password)

    def verify(self, hash: str, password: str) -> bool:
        self.verified += 1
        return self.hasher.verify(hash, password)

    def check_needs_rehash(self, hash: str) -> bool:
        return self.hasher.check_needs_rehash(hash)


@dataclass
class House:
    """The auth room of one server process."""

    database: Database
    keys: Path
    clock: Clock = field(default_factory=Clock)
    hasher: CountingHasher = field(default_factory=CountingHasher)
    issuers: tuple[Issuer, ...] = ()
    wallets: dict[UUID, int] = field(default_factory=dict)
    erased: list[UUID] = field(default_factory=list)
    audited: list[AccessChange] = field(default_factory=list)
    open_wallet: OpenWallet | None = None
    refuse_wallets: bool = False
    refuse_erasure: bool = False

    def __post_init__(self) -> None:
        terms = Terms(
            self.keys,
            access_ttl_seconds=ACCESS_TTL_SECONDS,
            refresh_ttl_seconds=REFRESH_TTL_SECONDS,
            attempts_max=5,
            welcome_tokens=20_000,
            external_issuers=self.issuers,
        )
        passwords = Passwords(self.hasher, threads=1)
        room = furnish(
            self.database,
            Once(self.database),
            terms,
            self.open_wallet or self._open_wallet,
            self._audit,
            erasers=[self._erase],
            passwords=passwords,
            clock=self.clock,
        )
        self.room, self.passwords, self.keyring = room, passwords, room.keyring
        self.service, self.directory, self.verifier = room.service, room.directory, room.verifier

    async def identity(self, access_token: str) -> Identity:
        return await self.verifier.verify(access_token)

    async def caller(self, access_token: str, address: str = "192.0.2.1") -> Caller:
        identity = await self.identity(access_token)
        return Caller(identity.user_id, identity.role, identity.tier, address=address, session_id=identity.session_id)

    async def _open_wallet(self, connection: Connection, user_id: UUID, welcome_tokens: int) -> None:
        if self.refuse_wallets:
            raise RuntimeError("no wallet today")
        self.wallets[user_id] = welcome_tokens

    async def _erase(self, connection: Connection, user_id: UUID) -> None:
        if self.refuse_erasure:
            raise RuntimeError("cannot erase today")
        self.erased.append(user_id)

    async def _audit(self, connection: Connection, change: AccessChange) -> None:
        self.audited.append(change)
