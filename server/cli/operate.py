"""Operators' commands that work on the stores, beside a running server or without one."""

import json
from dataclasses import asdict

from rich.console import Console

from server.app import attached_database, migrate_database
from server.caller import acting_as, system
from server.config import Settings
from server.wallet.service import WalletService

console = Console(stderr=True, highlight=False)


def migrate(settings: Settings, revision: str) -> None:
    """Bring the schema to a revision and say where it stands."""
    console.print(f"the schema is at {migrate_database(settings, revision)}")


async def reconcile(settings: Settings) -> bool:
    """Run all checks, print the report as JSON on standard output; True when all is well."""
    async with attached_database(settings) as database:
        with acting_as(system()):
            report = await WalletService(database).reconcile()
    Console(highlight=False, soft_wrap=True).print(json.dumps(asdict(report), indent=2, default=str), markup=False)
    return report.ok
