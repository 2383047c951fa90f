"""Metrics of several processes, kept in one folder.

Each process has a seat, a small number that no other living one has. The next process to take a seat goes on with its
figures: so counters never fall, and the folder does not grow with every process that ever ran.
"""

import os
from pathlib import Path

from prometheus_client import values


def take(seat: int, folder: Path) -> None:
    """Keep the figures of this process in `folder`, under its seat. Call it before `metrics` is first imported."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # noqa: TID251 - the library takes it from nowhere else
    values.ValueClass = values.MultiProcessValue(lambda: seat)  # type: ignore[no-untyped-call]
