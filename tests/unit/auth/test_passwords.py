"""Password hashing off the event loop."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import argon2
import pytest

from server.auth.passwords import WAITING_MAX, Passwords
from server.refusal import RateLimited

CHEAP = argon2.PasswordHasher.from_parameters(argon2.profiles.CHEAPEST)


@dataclass
class HeldHasher:
    """A hasher that waits for its gate and notes who works in it."""

    gate: threading.Event = field(default_factory=threading.Event)
    threads: set[str] = field(default_factory=set)
    working: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hash(self, password: str) -> str:
        return CHEAP.hash(password)

    def verify(self, hash: str, password: str) -> bool:
        with self.lock:
            self.working += 1
            self.most = max(self.most, self.working)
            self.threads.add(threading.current_thread().name)
        self.gate.wait(10)
        with self.lock:
            self.working -= 1
        return CHEAP.verify(hash, password)

    def check_needs_rehash(self, hash: str) -> bool:
        return CHEAP.check_needs_rehash(hash)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords(CHEAP)
    yield made
    made.close()


async def test_a_password_fits_its_hash_and_no_other(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse")
    assert await passwords.verify(stored, "correct horse")
    assert not await passwords.verify(stored, "Correct horse")


async def test_the_default_is_argon2id_with_the_parameters_of_rfc_9106() -> None:
    passwords = Passwords()
    stored = await passwords.hash("correct horse")
    passwords.close()
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


async def test_a_password_typed_on_another_keyboard_fits(passwords: Passwords) -> None:
    assert await passwords.verify(await passwords.hash("caf\u00e9 noir"), "cafe\u0301 noir")


async def test_nobodys_password_never_fits(passwords: Passwords) -> None:
    assert not await passwords.verify(None, "nobody has this password")


async def test_a_damaged_hash_fits_nothing(passwords: Passwords) -> None:
    assert not await passwords.verify("$argon2id$broken", "correct horse")


async def test_a_hash_of_weaker_parameters_is_outdated(passwords: Passwords) -> None:
    strong = Passwords()
    assert strong.outdated(await passwords.hash("correct horse"))
    strong.close()


async def test_the_loop_runs_on_and_few_threads_hash_while_many_wait() -> None:
    hasher = HeldHasher()
    passwords = Passwords(hasher, threads=2)
    waiting = [asyncio.ensure_future(passwords.verify(None, "x")) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited) as refusal:
        await passwords.verify(None, "x")
    hasher.gate.set()
    assert await asyncio.gather(*waiting) == [False] * WAITING_MAX
    assert refusal.value.retry_after_seconds
    assert hasher.most <= 2
    assert threading.main_thread().name not in hasher.threads
    assert not await passwords.verify(None, "x")
    passwords.close()
