"""Signing in to a server from the command line."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bacmr.client import BacmrClient
from server.app.failure import StartupError

CONNECT_SECONDS = 10.0
TARGET_VARIABLES = ["BACMR_TARGET", "BACMR_GRPC_LISTEN"]
"""Where the server's address is looked up: what it was told to listen on serves its own machine's commands too."""


@dataclass(frozen=True, slots=True)
class Login:
    """Which server, and as whom."""

    target: str
    email: str
    password: str


@asynccontextmanager
async def signed_in(login: Login) -> AsyncIterator[BacmrClient]:
    """Lend a client with a session. Raises StartupError where no server answers, instead of waiting for one."""
    async with BacmrClient(login.target) as client:
        try:
            await client.connect(CONNECT_SECONDS)
        except TimeoutError:
            raise StartupError(
                f"No server answers at {login.target}; start one, or name another by --target or BACMR_TARGET."
            ) from None
        await client.sign_in(login.email, login.password)
        yield client
