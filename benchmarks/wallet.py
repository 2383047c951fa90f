"""What a paid call costs the wallet: reserve and finalize by WalletService, and by pgbench with the same functions.

Both run on one embedded PostgreSQL, in slices taken in turn, so that a busy machine slows both down alike; the ratio is
the median of the pairs'. pgbench is written in C and does nothing but send prepared statements, so its figure is what
the functions themselves allow; ours is one Python process with the right checked, typed results, settlements that no
cancel cuts, and metrics. `durable` waits for the disk at every commit, as in production: both wait alike there, which
flatters the ratio. `async` does not wait, and shows what our own code costs beside the functions.
"""

import asyncio
import os
import random
import re
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID, uuid4

import psycopg

from benchmarks import Row
from server.caller import acting_as, system
from server.database import migrate
from server.database.embedded import SERVER, EmbeddedPostgres
from server.database.pool import SESSION_OPTIONS, Database
from server.database.programs import installed
from server.wallet.service import WalletService

WALLETS = 1_000
PAIRS = 5
SLICE_SECONDS = 1
DURABLE = ((1, WALLETS), (8, WALLETS), (32, WALLETS), (1, 1), (8, 1), (32, 1))
ASYNC = ((8, WALLETS),)
"""Shapes: callers and wallets."""
REACH = 0.5
"""Of pgbench's rate, for 8 callers on many wallets, as in production."""
SCRIPT = """\\set number random(1, {wallets})
SELECT (r).id AS reservation FROM wallet_reserve(('00000000-0000-0000-0000-' || lpad(:number::text, 12, '0'))::uuid, \
100, 'ask', 300, gen_random_uuid(), '00000000-0000-0000-0000-000000000000', gen_random_uuid()) \\gset
SELECT outcome FROM wallet_finalize(:reservation::uuid, 60, gen_random_uuid(), \
'00000000-0000-0000-0000-000000000000', gen_random_uuid());
"""


def wallet_id(number: int) -> UUID:
    """Return the id of the wallet with this number, as the script writes it."""
    return UUID(f"{number:032d}")


@dataclass(frozen=True, slots=True)
class Bench:
    """A server with funded wallets, and how to reach it."""

    server: EmbeddedPostgres
    folder: Path

    @property
    def url(self) -> str:
        return self.server.connection.url()

    async def ours(self, callers: int, wallets: int) -> float:
        """Return reserve+finalize pairs per second of so many callers of one WalletService."""
        database = Database(self.url, pool_size=2 * callers)
        await database.open()
        wallet = WalletService(database)
        done, chance = 0, random.Random(1)

        async def call(_: int) -> None:
            nonlocal done
            while perf_counter() < end:
                user_id = wallet_id(1 + chance.randrange(wallets))
                reservation = await wallet.reserve(user_id, 100, "ask", uuid4())
                await wallet.finalize(reservation.id, 60, uuid4())
                done += 1

        with acting_as(system()):
            await asyncio.gather(*(wallet.balance(wallet_id(1)) for _ in range(callers)))
            start = perf_counter()
            end = start + SLICE_SECONDS
            await asyncio.gather(*map(call, range(callers)))
            seconds = perf_counter() - start
        await database.close()
        return done / seconds

    async def pgbench(self, callers: int, wallets: int) -> float:
        """Return the same from pgbench."""
        script = self.folder / f"wallets_{wallets}.sql"
        script.write_text(SCRIPT.format(wallets=wallets))
        address = urlsplit(self.url)
        places = parse_qs(address.query)
        process = await asyncio.create_subprocess_exec(
            next(programs / "pgbench" for programs in installed() if (programs / "pgbench").exists()),
            *("--no-vacuum", "--protocol=prepared", f"--client={callers}", f"--time={SLICE_SECONDS}"),
            *(f"--file={script}", address.path[1:]),
            env={
                "PGHOST": places["host"][0],
                "PGPORT": places["port"][0],
                "PGUSER": address.username or "",
                "PGPASSWORD": unquote(address.password or ""),
                "PGOPTIONS": SESSION_OPTIONS,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        found = re.search(rb"tps = ([0-9.]+)", output)
        if found is None:
            raise RuntimeError(f"pgbench gave no rate: {output.decode()} {errors.decode()}")
        return float(found[1])


async def rows() -> list[Row]:
    """Measure every shape; about a minute and a half."""
    found = []
    for durable in (True, False):
        with tempfile.TemporaryDirectory(prefix="bacmr-bench-") as folder:
            os.chmod(folder, 0o711)
            server = EmbeddedPostgres(Path(folder) / "postgres", durable=durable).start()
            try:
                bench = Bench(server, Path(folder))
                await asyncio.to_thread(_prepare, bench)
                found += [await _row(bench, durable, *shape) for shape in (DURABLE if durable else ASYNC)]
            finally:
                server.stop()
    return found


async def _row(bench: Bench, durable: bool, callers: int, wallets: int) -> Row:
    pairs = [(await bench.ours(callers, wallets), await bench.pgbench(callers, wallets)) for _ in range(PAIRS)]
    value, reference = (statistics.median(side) for side in zip(*pairs, strict=True))
    people = "1 caller" if callers == 1 else f"{callers} callers"
    where, how = "many wallets" if wallets > 1 else "one hot wallet", "durable" if durable else "async"
    return Row(
        f"wallet reserve+finalize, {people}, {where}, {how}",
        value,
        "pairs/s",
        reference,
        statistics.median(ours / theirs for ours, theirs in pairs),
        REACH if durable and callers == 8 and wallets > 1 else 0.0,
    )


def _prepare(bench: Bench) -> None:
    connection = bench.server.connection
    migrate.upgrade(connection.owner_url(), app_login=SERVER)
    with psycopg.connect(connection.owner_url(), autocommit=True, options="-c search_path=bacmr") as owner:
        owner.execute(
            "INSERT INTO app_user (id) SELECT lpad(n::text, 32, '0')::uuid FROM generate_series(1, %s) n", [WALLETS]
        )
        owner.execute("SELECT wallet_open(id, 1000000000000, gen_random_uuid(), gen_random_uuid()) FROM app_user")
