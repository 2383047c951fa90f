"""Progress of recovery: stages and the rows done in each, told twice a second at most."""

import time

from server.admin.operation import Progress

PAUSE_SECONDS = 0.5


class Steps:
    """Counts rows stage by stage. Its methods raise what `Progress.report` raises."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stage = ""
        self._done = self._total = 0
        self._told_at = 0.0

    async def begin(self, stage: str, total: int = 0) -> None:
        """Begin a stage, such as `exporting chunk`."""
        self._stage, self._done, self._total = stage, 0, total
        await self._tell()

    async def advance(self, rows: int) -> None:
        """Add rows to what is done of the stage."""
        self._done += rows
        if time.monotonic() - self._told_at >= PAUSE_SECONDS:
            await self._tell()

    async def _tell(self) -> None:
        self._told_at = time.monotonic()
        await self._progress.report(self._stage, self._done, self._total)
