"""Short-lived copies of files on local disk, and the sweep of those that a killed process left behind."""

import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STALE_SECONDS = 6 * 3_600.0
"""No file takes longer to read; an older folder belongs to a process that died."""
_PREFIX = "ingest-"


class Scratch:
    """A folder for temporary files."""

    def __init__(self, folder: Path) -> None:
        """Use an existing folder, or make it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Lend a path for one file; it is gone after the block."""
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=_PREFIX) as folder:
            yield Path(folder) / "file"

    def sweep(self, older_than_seconds: float = STALE_SECONDS) -> int:
        """Delete what killed processes left; return how many folders."""
        limit = time.time() - older_than_seconds
        stale = [folder for folder in self._folder.glob(f"{_PREFIX}*") if _changed_at(folder) < limit]
        for folder in stale:
            shutil.rmtree(folder, ignore_errors=True)
        return len(stale)


def _changed_at(folder: Path) -> float:
    """Return when a folder last changed, as Unix time; one that somebody else has just deleted is none of ours."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return math.inf
