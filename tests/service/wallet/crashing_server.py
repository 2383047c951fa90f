"""A process that answers questions until it is killed; `test_wallet_crashes` does the killing.

Imports once, then forks a worker for every line on its standard input: `<seed> <user id> <user id> …`. A worker writes
`charged <reservation id> <tokens>` for every receipt it has seen, and `ready <pid>` after its first answer.
"""

import asyncio
import os
import random
import signal
import sys
from contextlib import suppress
from uuid import UUID, uuid4

from server.caller import acting_as, system
from server.database.pool import Database
from server.refusal import InsufficientBalance
from server.wallet.service import WalletService


async def answer(database: Database, wallet: WalletService, user_id: UUID, chance: random.Random) -> None:
    """One paid answer: hold, deliver in batches, settle; some fail on the way."""
    with suppress(InsufficientBalance, LookupError):
        async with wallet.hold(user_id, chance.randint(1, 60), "ask", uuid4()) as hold:
            for tokens in range(10, chance.randint(10, 90), 10):
                async with database.transaction() as connection:
                    await wallet.delivered(connection, hold.reservation.id, tokens)
                hold.spend(tokens)
            if chance.random() < 0.2:
                raise LookupError
        if hold.receipt:
            say(f"charged {hold.reservation.id} {hold.receipt.charged_tokens}")


async def work(url: str, user_ids: list[UUID], chance: random.Random) -> None:
    """Answer for several users at once, for ever."""
    database = Database(url, pool_size=4)
    await database.open()
    wallet = WalletService(database)

    async def serve(user_id: UUID) -> None:
        while True:
            await answer(database, wallet, user_id, chance)

    with acting_as(system()):
        await answer(database, wallet, user_ids[0], chance)
        say(f"ready {os.getpid()}")
        await asyncio.gather(*map(serve, user_ids))


def say(line: str) -> None:
    """Write a whole line at once, so that workers cannot mix theirs."""
    os.write(1, f"{line}\n".encode())


def main() -> None:
    """Fork a worker for every line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        seed, *user_ids = line.split()
        if os.fork() == 0:
            asyncio.run(work(sys.argv[1], [UUID(user_id) for user_id in user_ids], random.Random(seed)))


if __name__ == "__main__":
    main()
