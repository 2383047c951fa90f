"""The embedded Milvus: one Milvus Lite child process per data folder, watched, and gone when this process is gone."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

import structlog

_log = structlog.get_logger(__name__)

_CHILD = "server.vectors.lite_child"
_CHILD_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}
"""Only what the child needs: it must not inherit our secrets."""
_SOCKET_PATH_LIMIT = 100
"""Bytes; the kernel allows 107 for the path of a unix socket."""
_LOG_BYTES_LIMIT = 5_000_000
_STOP_SECONDS = 30.0
_RESTART_PAUSES_SECONDS = (0.0, 1.0, 5.0, 15.0)
"""Before each restart after a crash; the last one repeats."""
_STEADY_SECONDS = 60.0
"""A child that lived this long starts the pauses anew."""


class StartFailed(Exception):
    """The child did not come up; the message is one line for the operator."""


class MilvusLite:
    """Starts, watches and stops the child that serves `folder`; never touches a process it did not start.

    Call `start` on a thread that lives as long as this process (the main one): the kernel ends the child with it.
    """

    def __init__(self, folder: Path, *, start_timeout_seconds: float = 120.0, lock_wait_seconds: float = 10.0) -> None:
        self._folder = folder
        self._start_timeout_seconds = start_timeout_seconds
        self._lock_wait_seconds = lock_wait_seconds
        self._socket = folder / "milvus.sock"
        self._private: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def uri(self) -> str:
        """Address for Milvus clients on this machine, once started; stays valid over restarts of the child."""
        return f"unix:{self._socket}"

    @property
    def counter_file(self) -> Path:
        """Where the child counts the writes of each index (`lite_rows.WriteCounter`)."""
        return self._folder / "writes"

    @property
    def pid(self) -> int | None:
        """Process id of the child, None while none is running."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    async def start(self) -> str:
        """Start the child, wait until it answers with all collections loaded, and watch it. Returns the URI.

        Raises StartFailed when another process holds the folder or the child does not come up.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(bytes(self._socket)) > _SOCKET_PATH_LIMIT:
            self._private = tempfile.TemporaryDirectory(prefix="bacmr-milvus-")
            self._socket = Path(self._private.name) / "milvus.sock"
        try:
            await self._spawn()
        except BaseException:
            self._forget_private_folder()
            raise
        _address_file(self._folder).write_text(self.uri)
        self._watcher = asyncio.create_task(self._watch(), name="milvus-lite-watch")
        return self.uri

    async def stop(self) -> None:
        """Stop the child cleanly, so that it writes its memory to disk; a second call does nothing."""
        if self._watcher is None:
            return
        self._watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watcher
        self._watcher = None
        if self._process is not None:
            await _end(self._process)
            self._process = None
        _address_file(self._folder).unlink(missing_ok=True)
        self._socket.unlink(missing_ok=True)
        self._forget_private_folder()

    async def _spawn(self) -> None:
        process = self._process = self._popen()
        try:
            async with asyncio.timeout(self._start_timeout_seconds):
                ready = await asyncio.to_thread(_first_line, process)
        except TimeoutError:
            await _end(process)
            raise StartFailed(f"Milvus Lite was not ready after {self._start_timeout_seconds:.0f} s") from None
        except asyncio.CancelledError:
            await _end(process)
            raise
        if ready:
            return
        code = await asyncio.to_thread(process.wait)
        if code == os.EX_TEMPFAIL:
            raise StartFailed(f"another process holds the vector folder {self._folder}")
        raise StartFailed(f"Milvus Lite ended with code {code}; see {self._log_file}")

    def _popen(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", _CHILD, "--folder", str(self._folder / "lite")]
        command += ["--socket", str(self._socket), "--counter", str(self.counter_file)]
        command += ["--parent", str(os.getpid())]
        command += ["--lock-wait-seconds", str(self._lock_wait_seconds)]
        with self._open_log() as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_CHILD_ENVIRONMENT,
                start_new_session=True,  # Ctrl-C in the terminal is for the parent, which stops the child in its turn
            )

    @property
    def _log_file(self) -> Path:
        return self._folder / "milvus.log"

    def _open_log(self) -> BinaryIO:
        full = self._log_file.exists() and self._log_file.stat().st_size > _LOG_BYTES_LIMIT
        return self._log_file.open("wb" if full else "ab")

    async def _watch(self) -> None:
        """Start the child again whenever it ends without having been told to."""
        crashes = 0
        while True:
            started_at = asyncio.get_running_loop().time()
            if self._process is not None:
                await _ended(self._process)
                _log.warning("milvus_lite_ended", code=self._process.returncode, log=str(self._log_file))
            if asyncio.get_running_loop().time() - started_at > _STEADY_SECONDS:
                crashes = 0
            await asyncio.sleep(_RESTART_PAUSES_SECONDS[min(crashes, len(_RESTART_PAUSES_SECONDS) - 1)])
            crashes += 1
            try:
                await self._spawn()
            except StartFailed as error:
                _log.error("milvus_lite_restart_failed", problem=str(error))

    def _forget_private_folder(self) -> None:
        if self._private is not None:
            self._private.cleanup()
            self._private = None


def running_uri(folder: Path) -> str | None:
    """Return the URI of the child that serves `folder` for another process of ours, or None when there is none."""
    try:
        uri = _address_file(folder).read_text()
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(uri.removeprefix("unix:"))
    except OSError:
        return None
    return uri


def _address_file(folder: Path) -> Path:
    return folder / "uri"


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    """Block until the child writes a line or ends (empty)."""
    assert process.stdout is not None
    with process.stdout as stdout:
        return stdout.readline()


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for our child's end without holding a thread, which would keep this process from exiting."""
    if process.poll() is not None:
        return
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    process.wait()


async def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask our child to close its folder and end; after a while, make it end (its log of writes keeps the rows)."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        await asyncio.to_thread(process.wait, _STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        await asyncio.to_thread(process.wait)
