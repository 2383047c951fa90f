"""One server process as its parent sees it: started, ready, ended."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

from server.app.failure import StartupError

READY = b"ready\n"
PROGRAM = "server.cli.process"
LAST_WORDS_SECONDS = 10.0
"""For a process that could not start to close what it had opened."""


class Child:
    """A process of ours and the line between us: it says there that it is ready, and hears there that we are gone."""

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket, seat: int) -> None:
        self._process = process
        self._line = line
        self.seat = seat

    @classmethod
    def spawn(cls, seat: int, arguments: Sequence[str]) -> "Child":
        """Start a process with our settings on a seat (`telemetry.seat`)."""
        ours, its = socket.socketpair()
        ours.setblocking(False)
        command = [sys.executable, "-m", PROGRAM, "--seat", str(seat), "--line", str(its.fileno()), *arguments]
        with its:
            # In a session of its own: Ctrl-C in a terminal is for us, who then tell it.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[its.fileno()], start_new_session=True
            )
        return cls(process, ours, seat)

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    async def ready(self) -> None:
        """Wait until it serves. Raises StartupError with its own reason when it cannot, and kills it if cancelled."""
        said = b""
        try:
            while not said.endswith(b"\n"):
                part = await asyncio.get_running_loop().sock_recv(self._line, 4096)
                if not part:
                    break
                said += part
        except ConnectionError:
            pass
        except BaseException:
            self._process.kill()
            raise
        if said != READY:
            await self.end(LAST_WORDS_SECONDS)
            reason = said.decode(errors="replace").strip()
            raise StartupError(reason or f"A server process ended with code {self.exit_code} before it was ready.")

    async def ended(self) -> None:
        """Wait for its end without holding a thread."""
        if self._process.poll() is None:
            gone, loop = asyncio.Event(), asyncio.get_running_loop()
            descriptor = os.pidfd_open(self._process.pid)
            loop.add_reader(descriptor, gone.set)
            try:
                await gone.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        self._process.wait()
        self._line.close()

    async def end(self, grace_seconds: float) -> None:
        """Tell it to drain and wait for its end; after a while, make it end (clients resume, holds are settled)."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_seconds):
                await self.ended()
        except TimeoutError:
            self._process.kill()
            await self.ended()
