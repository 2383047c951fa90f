"""A worker beside a server that runs no jobs itself, on the server's own embedded stores."""

import asyncio
import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from bacmr.client import BacmrClient
from bacmr.v1 import ingestion_pb2
from tests.e2e.conftest import OPERATOR, Server, command, free_port, passable_folder, settings, start
from tests.e2e.test_main_job import SAMPLES, ingest

READY = "BacMR works on queued and scheduled jobs"
START_SECONDS = 90


@contextmanager
def worker(server: Server, listen: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = settings(server.folder, BACMR_WORKER_LISTEN=listen)
    output = server.folder / "worker"
    with output.open("wb") as file:
        process = subprocess.Popen(command("worker"), env=environment, stdout=file, stderr=file, cwd=server.folder)
    try:
        ends = time.monotonic() + START_SECONDS
        while READY not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < ends, output.read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as reply:
        return reply.read().decode()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with passable_folder() as folder:
        running = start(folder, BACMR_WORKER_CONCURRENCY="0")
        yield running
        running.stop()


@pytest_asyncio.fixture(scope="module")
async def shown(server):
    """A document ingested by the worker; then what the worker and the server show, and how the worker ended."""
    listen = f"127.0.0.1:{free_port()}"
    with worker(server, listen) as process:
        async with BacmrClient(server.target) as operator:
            await operator.sign_in(OPERATOR, server.password)
            job = await ingest(operator, SAMPLES / "physique_newton.pdf")
        async with asyncio.timeout(60):
            while not (told := await asyncio.to_thread(jobs_shown, server)):  # noqa: ASYNC110 - another process's job
                await asyncio.sleep(0.2)
        alive = await asyncio.to_thread(read, f"http://{listen}/healthz")
        ready = await asyncio.to_thread(read, f"http://{listen}/readyz")
        metrics = await asyncio.to_thread(read, f"http://{listen}/metrics/prometheus")
    return job, told, alive, json.loads(ready), metrics, process.returncode


def jobs_shown(server: Server) -> dict[str, float]:
    found = json.loads(read(f"http://{server.http}/metrics/json"))["metrics"]
    series = found["job_last_success_timestamp_seconds"]["series"]
    return {one["labels"]["job"]: one["value"] for one in series}


async def test_the_worker_does_the_jobs_of_a_server_that_does_none(shown):
    job, *_ = shown
    assert job.state == ingestion_pb2.JOB_STATE_READY


async def test_the_server_shows_the_successes_of_jobs_that_the_worker_ran(shown):
    _, told, *_ = shown
    assert max(told.values()) > time.time() - 300


async def test_the_worker_shows_its_probes_and_its_own_metrics(shown):
    _, _, alive, ready, metrics, _ = shown
    assert alive == "ok\n"
    assert ready["ready"]
    assert re.search(r'^ingestion_job_status_total{.*status="ready".*} 1\.0$', metrics, flags=re.MULTILINE)


async def test_the_worker_ends_well_and_the_server_goes_on(shown, server):
    *_, code = shown
    assert code == 0
    assert server.process.poll() is None


def test_a_worker_that_may_run_nothing_says_so(tmp_path: Path):
    ended = subprocess.run(
        command("worker"),
        env=settings(tmp_path, BACMR_WORKER_CONCURRENCY="0"),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert ended.returncode == 2
    assert "BACMR_WORKER_CONCURRENCY" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
