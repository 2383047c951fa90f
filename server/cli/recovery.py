"""`bacmr export`, `import` and `drill`: on the stores, beside a running server or without one."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from server.admin.recovery.export import Wish
from server.app.failure import StartupError
from server.app.recovery import attached_drills, attached_exports, attached_imports
from server.config import Settings
from server.refusal import Refusal

console = Console(stderr=True, highlight=False)
PLAIN = "BACMR_EXPORT_KEY is not set: the export is not encrypted, and it holds personal data."


class _Bar:
    """Shows the stage that an operation is in."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task = bars.add_task("starting", total=None)

    async def report(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Show how far the work is."""
        self._bars.update(self._task, description=stage, completed=done, total=total or None)


async def export(settings: Settings, destination: str, *, compress: bool, copy_files: bool) -> bool:
    """Export and print the result as JSON; False when files are missing."""
    if not settings.export_key.get_secret_value():
        console.print(PLAIN, style="yellow")
    wish = Wish(uuid4(), compress=compress, copy_files=copy_files)
    async with attached_exports(settings) as exports, _shown() as bar:
        return _print(await exports.export(wish, _absolute(destination), datetime.now(UTC), bar))


async def import_(settings: Settings, location: str, *, only_files: bool) -> bool:
    """Import and print the result as JSON; False when a check found something."""
    async with attached_imports(settings) as imports, _shown() as bar:
        if only_files:
            return _print(await imports.run_files(_absolute(location), bar))
        return _print(await imports.run(_absolute(location), uuid4(), bar))


async def drill(settings: Settings, location: str, *, newest: bool) -> bool:
    """Rehearse recovery and print what was measured as JSON; False when a check found something."""
    async with attached_drills(settings) as drills, _shown() as bar:
        if newest:
            location = await drills.newest()
            if not location:
                raise StartupError("there is no export in the export area of the blob store yet; make one first")
        return _print(await drills.run(_absolute(location), bar))


def _absolute(location: str) -> str:
    """Return a folder as seen from everywhere; addresses stay as they are."""
    return location if not location or "://" in location else str(Path(location).absolute())


def _print(result: Mapping[str, Any]) -> bool:
    Console(highlight=False, soft_wrap=True).print(json.dumps(result, indent=2), markup=False)
    return bool(result["ok"])


@asynccontextmanager
async def _shown() -> AsyncIterator[_Bar]:
    """Lend a progress bar; a refusal becomes the command's one line."""
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
    )
    try:
        with bars:
            yield _Bar(bars)
    except Refusal as refusal:
        raise StartupError(str(refusal)) from refusal
