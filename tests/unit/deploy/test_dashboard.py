"""Promises of the Grafana dashboard."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

CONTRACT = {
    "ingestion_job_status_total",
    "ingestion_job_duration_seconds",
    "milvus_query_duration_seconds",
    "milvus_upsert_duration_seconds",
    "milvus_vectors_upserted_total",
    "openai_request_duration_seconds",
    "openai_tokens_used_total",
    "wallet_reservation_total",
    "circuit_breaker_state",
    "active_reservations",
    "rate_limit_rejected_total",
}


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("deploy/grafana/make_dashboard.py")


def test_the_dashboard_is_what_its_script_makes(script: ModuleType, root: Path) -> None:
    assert (root / "deploy/grafana/dashboard.json").read_text() == script.text()


def test_every_metric_is_on_a_panel_and_every_panel_shows_a_metric(script: ModuleType) -> None:
    script.check()


def test_the_metrics_of_the_contract_exist(script: ModuleType) -> None:
    assert set(script.known_names().values()) >= CONTRACT


def test_a_query_of_an_unknown_metric_is_refused(script: ModuleType) -> None:
    panel = script.Panel("Typo", "none", (("max(active_reservation)", ""),))
    with pytest.raises(ValueError, match=r"not exported by the server: active_reservation$"):
        script.check((*script.ROWS, ("More", (panel,))))


def test_a_metric_on_no_panel_is_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"on no panel: .*grpc_calls_total"):
        script.check(script.ROWS[1:])


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ('sum by (le, job) (rate(a_bucket{x="b"}[5m])) > 0.2', {"a_bucket"}),
        ("time() - max by (job) (max_over_time(b_seconds[10d]))", {"b_seconds"}),
        ('c == 0 or absent(c{method!~"/grpc.*"} offset 15m)', {"c"}),
        ("x:limit:seconds < on (job) group_left () (time() - d)", {"x:limit:seconds", "d"}),
    ],
)
def test_the_metrics_of_a_query_are_found(script: ModuleType, query: str, names: set[str]) -> None:
    assert script.metric_names(query) == names


def test_panels_do_not_overlap_and_have_numbers_of_their_own(root: Path) -> None:
    panels = json.loads((root / "deploy/grafana/dashboard.json").read_text())["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in panels}) == len(panels)
