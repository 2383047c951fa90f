"""Operators' commands that work on the stores, beside a running server or without one."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from server.app.failure import StartupError
from server.app.rooms import FOREIGN_CHECKS
from server.app.stores import attached_database, migrate_database
from server.caller import acting_as, system
from server.config import Settings
from server.wallet.service import WalletService

console = Console(stderr=True, highlight=False)


def migrate(settings: Settings, revision: str, backup_folder: Path | None) -> None:
    """Bring the schema to a revision, with a copy made first if asked for, and say where it stands."""
    migrated = migrate_database(settings, revision, backup_folder)
    if migrated.backup:
        console.print(f"the database before is in {migrated.backup}", soft_wrap=True, markup=False)
    elif backup_folder:
        console.print("the database is new: there is nothing to copy")
    console.print(f"the schema is at {migrated.revision}")


async def reconcile(settings: Settings, folder: Path | None) -> bool:
    """Run all checks, print the report as JSON on standard output; True when all is well.

    The report is also written to `wallet_discrepancies_<time>.json` in `folder`, if one is given. Raises StartupError
    when it cannot be.
    """
    async with attached_database(settings) as database:
        with acting_as(system()):
            report = await WalletService(database, foreign_checks=FOREIGN_CHECKS).reconcile()
    told = json.dumps(asdict(report), indent=2, default=str)
    Console(highlight=False, soft_wrap=True).print(told, markup=False)
    if folder is not None:
        _keep(folder / f"wallet_discrepancies_{report.checked_at:%Y%m%dT%H%M%SZ}.json", told)
    return report.ok


def _keep(file: Path, told: str) -> None:
    try:
        file.write_text(told + "\n", encoding="utf-8")
    except OSError as error:
        raise StartupError(f"{file} cannot be written ({error.strerror}).") from error
