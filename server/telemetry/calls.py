"""The journal of calls: what ended waits here for a moment and is then counted and logged, many at a time.

Counting and logging each call at once costs four times as much, because the code and data for it are cold every time.
The edge flushes ten times a second; whoever reads the metrics flushes first, so that they never lag.
"""

from dataclasses import dataclass
from threading import Lock
from typing import Final, NamedTuple
from uuid import UUID

from server.telemetry import logs, metrics

FULL: Final = 512
"""Calls that wait at most; the next one flushes."""


@dataclass(slots=True)
class Counted:
    """A method's calls that run now."""

    method: str
    running: int = 0


class Ended(NamedTuple):
    """A call that ended: how long it took, when (Unix time), and whether it is counted but not logged (`quiet`).

    Holds nothing else of the call, whose memory is free for the next one at once.
    """

    path: str
    code: str
    seconds: float
    ended_at: float
    request_id: str
    user_id: UUID | None
    address: str
    quiet: bool


_counted: Final[dict[str, Counted]] = {}
_ended: Final[list[Ended]] = []
_flushing: Final = Lock()


def counted(method: str) -> Counted:
    """Return the counter of a method's running calls, which its owner moves up and down."""
    return _counted.setdefault(method, Counted(method))


def ended(call: Ended) -> None:
    """Note a call that ended."""
    _ended.append(call)
    if len(_ended) >= FULL:
        flush()


def flush() -> None:
    """Count and log what ended since the last time."""
    with _flushing:
        for each in list(_counted.values()):
            metrics.set_calls_in_flight(each.method, each.running)
        batch = _ended[:]
        # Not `clear`: a call may have ended meanwhile, when a thread that reads the metrics flushes.
        del _ended[: len(batch)]
        groups: dict[tuple[str, str], list[float]] = {}
        for call in batch:
            groups.setdefault((call.path, call.code), []).append(call.seconds)
        for (path, code), seconds in groups.items():
            metrics.record_calls(path, code, seconds)
        logs.calls(call for call in batch if not call.quiet)
