"""Reader processes: one for each file, forked from a parent that has imported what they need."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

_MESSAGE_BYTES = 64 * 1024 * 1024
_DRAINED_BYTES = 1024 * 1024
_ROOT = Path(__file__).parents[3]


class Readers:
    """Lends readers. Their parent is started with the first and ends with this object."""

    def __init__(self) -> None:
        self._parent: _Parent | None = None

    @contextlib.asynccontextmanager
    async def reader(self, task: str) -> AsyncIterator[asyncio.StreamReader]:
        """Run a reader and lend what it says; nothing of it is left afterwards, however the block ends."""
        ours, theirs = socket.socketpair()
        with theirs:
            ours.sendall(task.encode() + b"\n")
            self._hand_over(theirs)
        said, channel = await asyncio.open_connection(sock=ours, limit=_MESSAGE_BYTES)
        try:
            yield said
        finally:
            await asyncio.shield(_hang_up(said, channel))

    def _hand_over(self, channel: socket.socket) -> None:
        """Give a channel to the parent; a new one when the last was killed."""
        if self._parent is not None:
            with contextlib.suppress(OSError):
                self._parent.hand_over(channel)
                return
        self._parent = _Parent()
        self._parent.hand_over(channel)


class _Parent:
    """The process of `__main__`."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                # Nothing is looked for but along this path, least of all in the folder that the server was started in.
                [sys.executable, "-SP", "-m", "server.ingestion.extraction"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={
                    "PATH": os.defpath + ":/usr/local/bin",
                    "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, sys.path)]),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "LC_ALL": "C.UTF-8",
                    "OMP_THREAD_LIMIT": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                },
            )
        weakref.finalize(self, _end, self._control, process)

    def hand_over(self, channel: socket.socket) -> None:
        """Have a reader forked that speaks on a channel. Raises OSError when the process is gone."""
        socket.send_fds(self._control, [b"."], [channel.fileno()])


def _end(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    process.wait()


async def _hang_up(said: asyncio.StreamReader, channel: asyncio.StreamWriter) -> None:
    """Have the reader ended and wait until it has: then the last end of its channel closes."""
    with contextlib.suppress(OSError):
        channel.write_eof()
        while await said.read(_DRAINED_BYTES):
            pass
    channel.close()
