"""Metrics: the contract's names, bounded labels, and figures that are right, also over several processes."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from server.telemetry import calls, metrics
from server.telemetry.metrics import BreakerState, export, families

ROOT = Path(__file__).parents[3]
CONTRACT = {
    "ingestion_job_status_total": {"status", "language"},
    "ingestion_job_duration_seconds": {"status", "language"},
    "milvus_query_duration_seconds": {"namespace"},
    "milvus_upsert_duration_seconds": {"namespace"},
    "milvus_vectors_upserted_total": {"namespace"},
    "openai_request_duration_seconds": {"model", "endpoint"},
    "openai_tokens_used_total": {"model"},
    "wallet_reservation_total": {"status"},
    "circuit_breaker_state": {"service"},
    "active_reservations": set(),
    "rate_limit_rejected_total": {"scope", "path"},
    "wallet_discrepancies": {"check"},
    "grpc_calls_total": {"method", "code"},
    "grpc_call_duration_seconds": {"method"},
    "grpc_calls_in_flight": {"method"},
    "time_to_first_token_seconds": {"method"},
    "cache_hits_total": {"cache"},
    "cache_misses_total": {"cache"},
    "degraded_steps_total": {"step"},
    "job_last_success_timestamp_seconds": {"job"},
    "queue_depth": {"queue"},
    "upkeep_last_success_timestamp_seconds": {"task"},
    "server_processes": set(),
    "store_up": {"store"},
}


def record_everything() -> None:
    metrics.record_ingestion_job("READY", "ar", 12.0)
    metrics.record_milvus_query("math", 0.01)
    metrics.record_milvus_upsert("math", 0.2, 100)
    metrics.record_openai_request("gpt-4o-mini", "chat", 1.5, tokens=40)
    metrics.record_wallet_reservation("reserved")
    metrics.set_circuit_breaker_state("openai_mini", BreakerState.HALF_OPEN)
    metrics.set_active_reservations(3)
    metrics.set_stale_reservations(0)
    metrics.record_rate_limit_rejection("user", "/x")
    metrics.set_wallet_discrepancies("chain", 0)
    metrics.set_calls_in_flight("/x", 1)
    metrics.record_calls("/x", "OK", [0.01, 0.02])
    metrics.record_first_token("/x", 0.2)
    metrics.record_cache("chunk", hit=True)
    metrics.record_cache("chunk", hit=False)
    metrics.record_degraded_step("rerank")
    metrics.record_job("reconcile", succeeded=True, duration_seconds=2.0)
    metrics.set_job_success("reconcile", 1_700_000_000.0)
    metrics.set_upkeep_success("learn_revocations", 1_700_000_000.0)
    metrics.count_process()
    metrics.set_queue_depth("ingestion", 4)
    metrics.set_store_up("milvus", up=True)


def test_every_metric_of_the_contract_is_shown_with_its_labels():
    record_everything()
    shown = {}
    for family in text_string_to_metric_families(export.exposition().decode()):
        for sample in family.samples:
            name = sample.name.removesuffix("_bucket")
            shown.setdefault(name, set()).update(set(sample.labels) - {"le"})
    assert {name: shown.get(name) for name in CONTRACT} == CONTRACT


def test_a_histogram_is_exported_with_its_extremes_and_quantiles():
    values = [0.001 * n for n in range(1, 1001)]
    for seconds in values:
        metrics.record_milvus_query("quantiles", seconds)
    series = export.snapshot()["metrics"]["milvus_query_duration_seconds"]["series"]
    (found,) = [s for s in series if s["labels"] == {"namespace": "quantiles"}]
    assert (found["count"], found["min"], found["max"]) == (1000, 0.001, 1.0)
    assert found["sum"] == pytest.approx(sum(values))
    assert found["mean"] == pytest.approx(np.mean(values))
    for name, share in (("p50", 50), ("p95", 95), ("p99", 99)):
        assert found[name] == pytest.approx(np.percentile(values, share), rel=0.02)


@pytest.mark.parametrize(
    ("bounds", "cumulative", "share", "expected"),
    [
        ((1.0, 2.0, float("inf")), (0, 0, 0), 0.5, 0.0),
        ((1.0, 2.0, float("inf")), (10, 10, 10), 0.5, 0.5),
        ((1.0, 2.0, float("inf")), (5, 10, 10), 0.75, 1.5),
        ((1.0, 2.0, float("inf")), (0, 0, 10), 0.5, 2.0),
    ],
    ids=["no observations", "within the first bucket", "interpolated", "beyond the last bound"],
)
def test_a_quantile_is_interpolated_within_its_bucket(bounds, cumulative, share, expected):
    assert export.quantile(bounds, cumulative, share) == expected


def test_labels_stay_bounded_whatever_comes():
    metric = Counter("bounded", "For this test.", ["word"], registry=CollectorRegistry())
    family = families.Family(("word",), lambda values: metric.labels(*values))
    for number in range(families.MAX_SERIES + 50):
        family.child(str(number)).inc()
    family.child("one more").inc()
    series = [sample for sample in next(iter(metric.collect())).samples if sample.name == "bounded_total"]
    assert len(series) == families.MAX_SERIES + 1
    assert {sample.labels["word"]: sample.value for sample in series}["other"] == 51


@dataclass
class Call:
    path: str = "/journal"
    code: str = "OK"
    seconds: float = 0.5
    ended_at: float = 0.0
    request_id: UUID = field(default_factory=uuid4)
    user_id: UUID | None = None
    address: str = "127.0.0.1"
    quiet: bool = True


def test_a_call_that_ended_is_counted_when_the_metrics_are_read():
    calls.ended(Call())
    series = export.snapshot()["metrics"]["grpc_calls_total"]["series"]
    assert {"labels": {"method": "/journal", "code": "OK"}, "value": 1.0} in series


WORKER = """
from pathlib import Path
from server.telemetry import metrics
for _ in range(10):
    metrics.record_milvus_query("math", {seconds})
metrics.record_wallet_reservation("reserved", 2)
metrics.set_calls_in_flight("/x", 3)
"""


def test_the_figures_of_several_processes_are_added_up(tmp_path):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    for seconds in (0.004, 0.4):
        subprocess.run([sys.executable, "-c", WORKER.format(seconds=seconds)], env=environment, check=True, timeout=60)
    reader = (
        "import json; from pathlib import Path; from server.telemetry.metrics import export;"
        f"print(json.dumps(export.snapshot(Path({str(tmp_path)!r}))))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", reader], env=environment, check=True, timeout=60, capture_output=True, text=True
    )
    found = json.loads(shown.stdout)["metrics"]
    (query,) = found["milvus_query_duration_seconds"]["series"]
    assert (query["count"], query["min"], query["max"]) == (20, 0.004, 0.4)
    assert found["wallet_reservation_total"]["series"] == [{"labels": {"status": "reserved"}, "value": 4.0}]
