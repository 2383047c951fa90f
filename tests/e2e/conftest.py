"""A real `bacmr serve` in a process of its own, on embedded stores in a folder of its own."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READY = "BacMR serves gRPC on "
START_SECONDS = 90
OPERATOR = "operator@example.org"


@dataclass
class Server:
    """A running server: its process, its address, its operator and the folder with its data and its output."""

    process: subprocess.Popen
    target: str
    http: str
    password: str
    folder: Path

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(how)
        return self.process.wait(60)

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def settings(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a server on free ports; nothing of ours leaks in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BACMR_", "OPENAI_"))}
    return kept | {
        "BACMR_DATA_DIR": str(folder / "data"),
        "BACMR_GRPC_LISTEN": f"127.0.0.1:{free_port()}",
        "BACMR_HTTP_LISTEN": f"127.0.0.1:{free_port()}",
        "BACMR_DRAIN_SECONDS": "5",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}",
        **more,
    }


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """A Redis of its own on a free port."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "server", *words]


def start(folder: Path, **more: str) -> Server:
    """Start a server and wait until it says that it serves."""
    password = more.pop("password", "") or secrets.token_urlsafe(16)
    environment = settings(
        folder, BACMR_BOOTSTRAP_ADMIN_EMAIL=OPERATOR, BACMR_BOOTSTRAP_ADMIN_PASSWORD=password, **more
    )
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command("serve"), env=environment, stdout=output, stderr=output, cwd=folder)
    ends = time.monotonic() + START_SECONDS
    while READY not in (folder / "output").read_text():
        if process.poll() is not None or time.monotonic() > ends:
            process.kill()
            raise AssertionError(f"the server did not start:\n{(folder / 'output').read_text()}")
        time.sleep(0.05)
    return Server(process, environment["BACMR_GRPC_LISTEN"], environment["BACMR_HTTP_LISTEN"], password, folder)


@contextmanager
def passable_folder() -> Iterator[Path]:
    """A folder that the database's own user may pass through, as /var/lib is."""
    with tempfile.TemporaryDirectory(prefix="bacmr-e2e-") as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.fixture
def folder() -> Iterator[Path]:
    """A passable folder of the test's own."""
    with passable_folder() as path:
        yield path


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server for the tests of a module."""
    with passable_folder() as path:
        running = start(path)
        try:
            yield running
        finally:
            if running.process.poll() is None:
                running.stop()


def children(pid: int) -> list[int]:
    """All living descendants of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            child = int(stat.parent.name)
            found += [child, *children(child)]
    return found


def alive(pids: list[int]) -> list[int]:
    """Those of the processes that still run."""
    living = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state != "Z":
            living.append(pid)
    return living
