"""One postgres process: start it so that it dies with us, and clear what a dead one left behind."""

import ctypes
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from server.database.programs import PLAIN_ENVIRONMENT, Account, EmbeddedError

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 20
ORPHAN_STOP_SECONDS = 20
POLL_SECONDS = 0.02
LOG_BYTES = 16 * 1024 * 1024


def spawn(command: Sequence[str | Path], user: Account, log: Path) -> subprocess.Popen[bytes]:
    """Start postgres in its own session; the kernel sends it SIGINT (fast shutdown) when the starting thread ends.

    Because the signal follows the thread, only the main thread may call this.
    """
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=PLAIN_ENVIRONMENT,
            start_new_session=True,
            user=user.uid if user.switch else None,
            group=user.gid if user.switch else None,
            extra_groups=[] if user.switch else None,
            preexec_fn=_die_with(os.getpid()),
        )


def _die_with(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None, use_errno=True)

    def before_exec() -> None:
        # Python calls this after it changed the user, which would have cleared the signal again.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def stop(process: subprocess.Popen[bytes]) -> None:
    """Shut down fast (open transactions are rolled back); after 20 s at once, which recovery repairs."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait()


def clear_stale(data: Path, lock_files: Sequence[Path]) -> None:
    """Remove lock files of dead servers, and stop a live orphan of this data folder.

    Call it only while holding the folder's lock: then no supervisor lives, so a running postgres on this folder is
    an orphan of ours. A process number that now belongs to anything else is left alone.
    """
    for lock_file in lock_files:
        pid = _first_number(lock_file)
        if pid is not None and _serves(pid, data):
            _stop_orphan(pid, data)
        lock_file.unlink(missing_ok=True)


def _first_number(lock_file: Path) -> int | None:
    try:
        return int(lock_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _serves(pid: int, data: Path) -> bool:
    """Say whether a process is a living postgres that was started on this data folder."""
    process = Path(f"/proc/{pid}")
    try:
        state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
        arguments = (process / "cmdline").read_bytes().split(b"\0")
    except (OSError, IndexError):
        return False
    named_postgres = os.path.basename(arguments[0]) == b"postgres"
    on_folder = any(pair == (b"-D", os.fsencode(data)) for pair in itertools.pairwise(arguments))
    return state not in "ZX" and named_postgres and on_folder


def _stop_orphan(pid: int, data: Path) -> None:
    try:
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return
    except PermissionError:
        raise EmbeddedError(
            f"Another user's PostgreSQL (process {pid}) serves {data}; stop it or choose another data folder."
        ) from None
    ends_at = time.monotonic() + ORPHAN_STOP_SECONDS
    while _serves(pid, data):
        if time.monotonic() > ends_at:
            raise EmbeddedError(f"An older PostgreSQL (process {pid}) on {data} does not stop; stop it and try again.")
        time.sleep(POLL_SECONDS)
