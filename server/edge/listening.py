"""Closing a port while its connections live on. gRPC closes both at once, which refuses who has just connected."""

import asyncio
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_OPEN_FILES: Final = Path("/proc/self/fd")
_WAITING: Final = struct.Struct("=24xI")
"""Of a listening socket's TCP_INFO: how many connections wait to be accepted."""
_LOOK_SECONDS: Final = 0.002


async def close(port: int, within_seconds: float) -> None:
    """Stop all listening of this process on a port that somebody else opened, once nobody waits to be accepted.

    Connections that come then reach another process that listens on the port, or find it closed.
    """
    for number in [number for number in map(int, os.listdir(_OPEN_FILES)) if _listens(number, port)]:
        # What listened is closed by being replaced; who opened it closes what is now in its place.
        with _lent(number) as listening, socket.socket(socket.AF_UNIX) as nothing:
            await all_accepted(listening, within_seconds)
            os.dup2(nothing.fileno(), number, inheritable=False)


async def all_accepted(listening: socket.socket, within_seconds: float) -> None:
    """Wait until nobody waits to be accepted, no longer than `within_seconds`: who does is cut off by closing."""
    clock = asyncio.get_running_loop().time
    end_at = clock() + within_seconds
    while _waiting(listening) and clock() < end_at:  # noqa: ASYNC110 - the kernel has no event for it
        await asyncio.sleep(_LOOK_SECONDS)


def _listens(number: int, port: int) -> bool:
    """Say whether a file descriptor, which other threads may close at any time, listens on a port."""
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return False
        with _lent(number) as found:
            return (
                found.family in (socket.AF_INET, socket.AF_INET6)
                and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
                and found.getsockname()[1] == port
            )
    except OSError:
        return False


def _waiting(listening: socket.socket) -> int:
    waiting: int = _WAITING.unpack(listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WAITING.size))[0]
    return waiting


@contextmanager
def _lent(number: int) -> Iterator[socket.socket]:
    """Lend somebody's file descriptor as a socket, to be left open."""
    lent = socket.socket(fileno=number)
    try:
        yield lent
    finally:
        lent.detach()
