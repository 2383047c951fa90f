"""Password hashing with argon2id (RFC 9106), in a small thread pool of its own so that the event loop never waits."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from server.auth.account import canonical_password
from server.refusal import RateLimited

T = TypeVar("T")

THREADS = 2
"""Bounds the memory of hashing as well: one hash takes 64 MiB."""
WAITING_MAX = 128
"""Hashes queued or running; at about 100 ms each on two threads the last one waits about 6 s."""
RETRY_AFTER_SECONDS = 5.0


class Hasher(Protocol):
    """The part of argon2.PasswordHasher that is used here."""

    def hash(self, password: str) -> str:
        """Return an encoded hash with its parameters and salt."""

    def verify(self, hash: str, password: str) -> bool:
        """Return True, or raise a VerificationError or InvalidHashError."""

    def check_needs_rehash(self, hash: str) -> bool:
        """Say whether `hash` was made with other parameters than this hasher's."""


class Passwords:
    """Hashes and verifies passwords; at most THREADS at a time, at most WAITING_MAX waiting."""

    def __init__(self, hasher: Hasher | None = None, threads: int = THREADS) -> None:
        """Take another hasher for tests (argon2.profiles.CHEAPEST); the default is RFC 9106's low-memory profile."""
        self._hasher = hasher or argon2.PasswordHasher.from_parameters(argon2.profiles.RFC_9106_LOW_MEMORY)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._waiting = 0
        self._nobodys_hash = self._hasher.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """Return the encoded argon2id hash. Raises RateLimited when too many wait."""
        return await self._run(lambda: self._hasher.hash(canonical_password(password)))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Say whether the password fits. None (no such account) costs the same work and never fits."""
        fits = await self._run(lambda: self._fits(password_hash or self._nobodys_hash, canonical_password(password)))
        return fits and password_hash is not None

    def outdated(self, password_hash: str) -> bool:
        """Say whether the hash was made with other parameters than today's and should be made anew."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Let the threads go; queued work is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fits(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise RateLimited("Too many sign-ins at this moment; try again.", retry_after_seconds=RETRY_AFTER_SECONDS)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1
