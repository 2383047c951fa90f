"""Metrics of several processes in one folder: seats."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.telemetry.metrics import export

ROOT = Path(__file__).parents[3]
PROCESS = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from server.telemetry import seat
seat.take({seat}, Path({folder!r}))
from server.telemetry import metrics
for seconds in {seconds}:
    metrics.record_milvus_query("math", seconds)
metrics.set_calls_in_flight("/x", 3)
metrics.count_process()
"""
READER = """
import json, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from server.telemetry.metrics import export
print(json.dumps(export.snapshot(Path({folder!r}))["metrics"]))
"""


def python(source: str) -> str:
    done = subprocess.run([sys.executable, "-c", source], check=True, timeout=60, capture_output=True, text=True)
    return done.stdout


def process(folder: Path, seat: int, *seconds: float) -> None:
    python(PROCESS.format(root=str(ROOT), seat=seat, folder=str(folder), seconds=list(seconds)))


def shown(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(python(READER.format(root=str(ROOT), folder=str(folder))))
    return metrics


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seat 0 was taken twice, one after the other, seat 1 once."""
    folder = tmp_path_factory.mktemp("metrics")
    process(folder, 0, 0.004, 0.2)
    process(folder, 1, 0.5)
    process(folder, 0, 0.02)
    return folder


def test_whoever_takes_a_seat_goes_on_with_its_figures(folder):
    (query,) = shown(folder)["milvus_query_duration_seconds"]["series"]
    assert query["count"] == 4
    assert query["sum"] == pytest.approx(0.724)


def test_extremes_outlive_the_process_that_saw_them(folder):
    (query,) = shown(folder)["milvus_query_duration_seconds"]["series"]
    assert (query["min"], query["max"]) == (0.004, 0.5)


def test_the_folder_does_not_grow_with_every_process_that_ran(folder):
    assert len(list(folder.glob("histogram_*.db"))) == 2


def test_live_gauges_of_a_process_that_ended_are_taken_out(folder):
    assert shown(folder)["server_processes"]["series"] == [{"labels": {}, "value": 2.0}]
    export.process_ended(1, folder)
    found = shown(folder)
    assert found["server_processes"]["series"] == [{"labels": {}, "value": 1.0}]
    assert found["grpc_calls_in_flight"]["series"] == [{"labels": {"method": "/x"}, "value": 3.0}]
    assert found["milvus_query_duration_seconds"]["series"][0]["count"] == 4
