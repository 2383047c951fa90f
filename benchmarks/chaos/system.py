"""What the fault run starts, and what it kills of that: never a process that is not its own."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

OPERATOR = "operator@example.org"
ROOT = Path(__file__).parents[2]
PROCESSES = 2
READY_SECONDS = 120.0
WELCOME_TOKENS = 10_000_000
HOLD_SECONDS = 30
"""Life of a hold that nobody settles; the shortest that is allowed, so that the books are complete soon."""


class System:
    """A server with two processes on embedded stores, a worker beside it, Redis and a model, all in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.password = secrets.token_urlsafe(16)
        self.grpc, self.http = f"127.0.0.1:{_free_port()}", f"127.0.0.1:{_free_port()}"
        self._redis_port, self._model_port = _free_port(), _free_port()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    async def start(self) -> None:
        """Start everything and wait until all stores answer. Raises TimeoutError with the logs left in the folder."""
        for name in ("redis", "model", "server"):
            self._start(name)
        async with asyncio.timeout(READY_SECONDS):
            while not await asyncio.to_thread(self.ready):
                if self._running["server"].poll() is not None:
                    raise RuntimeError((self.folder / "server.log").read_text()[-2000:])
                await asyncio.sleep(0.2)
            while len(self._family(b"server.cli.process")) < PROCESSES:  # noqa: ASYNC110 - they are not ours to hear of
                await asyncio.sleep(0.2)
        self._start("worker")

    def ready(self) -> bool:
        """Say whether the server answers and reaches all its stores."""
        try:
            with urllib.request.urlopen(f"http://{self.http}/readyz", timeout=2) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def metrics(self) -> dict[str, dict[str, list[dict[str, object]]]]:
        """Return the server's own figures."""
        with urllib.request.urlopen(f"http://{self.http}/metrics/json", timeout=10) as reply:
            found: dict[str, dict[str, list[dict[str, object]]]] = json.load(reply)["metrics"]
            return found

    def stop(self) -> None:
        """End everything, the server gently."""
        for name in ("worker", "server", "model", "redis"):
            process = self._running.pop(name, None)
            if process is None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def kill(self, victim: str) -> None:
        """Kill a part with SIGKILL; one that has no parent to start it again is started again after two seconds."""
        if victim in self._running:
            self._running[victim].kill()
            await asyncio.to_thread(self._running[victim].wait)
            await asyncio.sleep(2)
            self._start(victim)
            return
        mark = {"PostgreSQL": b"postgres\0-D", "Milvus Lite": b"lite_child", "server process": b"server.cli.process"}
        os.kill(self._family(mark[victim])[0], signal.SIGKILL)

    def _family(self, mark: bytes) -> list[int]:
        """Return the server's own children whose command line has a mark."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
                command = (stat.parent / "cmdline").read_bytes()
                if int(parent) == self._running["server"].pid and state != "Z" and mark in command:
                    found.append(int(stat.parent.name))
        return found

    def _start(self, name: str) -> None:
        python = [sys.executable, "-m"]
        redis = ["--port", str(self._redis_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command = {
            "redis": ["redis-server", *redis],
            "model": [*python, "benchmarks.chaos.provider", str(self._model_port)],
            "server": [*python, "server", "serve", "--processes", str(PROCESSES)],
            "worker": [*python, "server", "worker"],
        }[name]
        jobs = {"BACMR_WORKER_CONCURRENCY": "2" if name == "worker" else "0"}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, cwd=self.folder, env=self._environment() | jobs, stdout=log, stderr=log
            )

    def _environment(self) -> dict[str, str]:
        provider = {"name": "model", "base_url": f"http://127.0.0.1:{self._model_port}/v1", "model": "m"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BACMR_", "OPENAI_"))}
        return kept | {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}",
            "BACMR_DATA_DIR": str(self.folder / "data"),
            "BACMR_GRPC_LISTEN": self.grpc,
            "BACMR_HTTP_LISTEN": self.http,
            "BACMR_REDIS_URL": f"redis://127.0.0.1:{self._redis_port}",
            "BACMR_MODEL_PROVIDERS": json.dumps([provider | {"api_key": "x", "timeout_seconds": 5}]),
            "BACMR_BREAKER_OPEN_SECONDS": "2",
            "BACMR_BOOTSTRAP_ADMIN_EMAIL": OPERATOR,
            "BACMR_BOOTSTRAP_ADMIN_PASSWORD": self.password,
            "BACMR_WELCOME_TOKENS": str(WELCOME_TOKENS),
            "BACMR_RESERVATION_TTL_SECONDS": str(HOLD_SECONDS),
            "BACMR_LIMITS_PAID_PER_MINUTE_FREE": "6000",
            "BACMR_LIMITS_CALLS_PER_MINUTE": "60000",
            "BACMR_LIMITS_OPEN_ANSWERS": "50",
            "BACMR_DRAIN_SECONDS": "3",
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
