"""Signing in to a server from the command line."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bacmr.client import BacmrClient


@dataclass(frozen=True, slots=True)
class Login:
    """Which server, and as whom."""

    target: str
    email: str
    password: str


@asynccontextmanager
async def signed_in(login: Login) -> AsyncIterator[BacmrClient]:
    """Lend a client with a session."""
    async with BacmrClient(login.target) as client:
        await client.sign_in(login.email, login.password)
        yield client
