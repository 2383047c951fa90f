"""The guard against guessing: failed attempts are counted per account and per address, in a moving window.

Only failures count, so that a school behind one address can sign in all its pupils. They are counted in the database,
which a sign-in needs anyway: together for all processes, and through restarts. Attempts on one account, and from one
address, are answered one after the other within a process: of parallel guesses no more slip past the count than there
are other processes.

A locked account refuses its right password too, or the lock would tell a guesser which one it is. Names that have no
account are counted and locked alike, or it would tell which ones do.
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from server.auth.store import Store
from server.database.pool import Database
from server.refusal import TooManyAttempts, WrongCredentials

WINDOW_SECONDS = 15 * 60.0
ATTEMPTS_MAX = 5
LANES = 1024
"""Locks that accounts, and addresses, are spread over; two that share one only wait for each other."""
NETWORK_BITS_V6 = 64
"""One subscriber has a whole IPv6 network of this size."""

_log = structlog.get_logger(__name__)


class AttemptGuard:
    """Counts failures in the database, so that all processes and restarts share them."""

    def __init__(
        self,
        database: Database,
        store: Store,
        account_limit: int = ATTEMPTS_MAX,
        address_limit: int = ATTEMPTS_MAX,
        window_seconds: float = WINDOW_SECONDS,
    ) -> None:
        """Allow `account_limit` failures per account and `address_limit` per address in a moving window."""
        self._database = database
        self._store = store
        self._limits = (account_limit, address_limit)
        self._window_seconds = window_seconds
        self._account_lanes = [asyncio.Lock() for _ in range(LANES)]
        self._address_lanes = [asyncio.Lock() for _ in range(LANES)]

    @asynccontextmanager
    async def attempt(self, account: bytes, address: str) -> AsyncIterator[None]:
        """Run one attempt on an account (32-byte digest) from an address.

        Raises TooManyAttempts, with the seconds to wait, before the block runs. A block that raises WrongCredentials is
        counted; one that ends well makes its account's failures from this address forgotten.
        """
        network = network_of(address)
        async with self._lane(self._account_lanes, account), self._lane(self._address_lanes, network.encode()):
            await self._check(account, network)
            try:
                yield
            except WrongCredentials:
                async with self._database.transaction() as connection:
                    await self._store.record_attempt(connection, account, network, self._window_seconds)
                raise
        async with self._database.transaction() as connection:
            await self._store.forgive_attempts(connection, account, network)

    async def _check(self, account: bytes, network: str) -> None:
        async with self._database.transaction() as connection:
            lock = await self._store.attempt_lock(connection, account, network, self._window_seconds, self._limits)
        if lock is not None:
            _log.warning("sign_in_attempts_exhausted", scope=lock.scope, retry_after_seconds=round(lock.wait_seconds))
            limit = self._limits[lock.scope == "address"]
            raise TooManyAttempts(
                retry_after_seconds=lock.wait_seconds,
                scope=lock.scope,
                limit=limit,
                window_seconds=int(self._window_seconds),
            )

    @asynccontextmanager
    async def _lane(self, lanes: list[asyncio.Lock], key: bytes) -> AsyncIterator[None]:
        if not key:
            yield
            return
        async with lanes[hash(key) % LANES]:
            yield


def network_of(address: str) -> str:
    """Return what counts as one address: an IPv4 address, a /64 of IPv6, or the text itself; empty when unknown."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, NETWORK_BITS_V6), strict=False))
    return str(parsed)
