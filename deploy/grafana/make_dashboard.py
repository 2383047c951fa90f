"""Write dashboard.json from the panels below: `python deploy/grafana/make_dashboard.py`.

Every query is checked against the metrics that the server registers, and every metric must be on a panel, so that the
dashboard can neither show what no longer exists nor miss what is new.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("dashboard.json")
ROOT: Final = Path(__file__).parents[2]
WIDTH, HEIGHT, PER_ROW = 8, 8, 3
EXTREMES: Final = ("_lowest", "_highest")
"""Gauges beside each histogram, for the JSON export only."""
OWN_CALLS: Final = 'method!~"/grpc.*"'
STATES: Final = {"0": "closed", "1": "open", "2": "half-open"}
_OPERATORS: Final = frozenset({"and", "or", "unless", "offset", "bool"})


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph. `queries` are pairs of PromQL and legend; `kind` is Grafana's name for the sort of panel."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    about: str = ""
    kind: str = "timeseries"
    names: tuple[tuple[str, str], ...] = ()


def quantiles(name: str, by: str = "", where: str = "") -> tuple[tuple[str, str], ...]:
    """Return the queries for the middle and the slow end of a histogram, per value of the label `by`."""
    labels, legend = (f"le, {by}", f"{{{{{by}}}}} ") if by else ("le", "")
    series = f"{name}_bucket{{{where}}}" if where else f"{name}_bucket"
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return tuple(
        (f"histogram_quantile({share}, sum by ({labels}) (rate({series}[5m])))", f"{legend}{title}")
        for title, share in shares.items()
    )


def per_second(name: str, by: str, where: str = "") -> tuple[tuple[str, str], ...]:
    """Return the query for a counter's rate, per value of the labels `by`."""
    series = f"{name}{{{where}}}" if where else name
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return ((f"sum by ({by}) (rate({series}[5m]))", legend),)


Row = tuple[str, tuple[Panel, ...]]
ROWS: Final[tuple[Row, ...]] = (
    (
        "Calls",
        (
            Panel("Calls by method", "reqps", per_second("grpc_calls_total", "method", OWN_CALLS)),
            Panel(
                "Calls that did not end well, by code",
                "reqps",
                per_second("grpc_calls_total", "code", f'{OWN_CALLS}, code!="OK"'),
                "INTERNAL is a bug, UNAVAILABLE a store or model, the others are refusals of what callers asked.",
            ),
            Panel("Time of a call, streams whole", "s", quantiles("grpc_call_duration_seconds", where=OWN_CALLS)),
            Panel("Calls open now", "none", (("sum by (instance) (grpc_calls_in_flight)", "{{instance}}"),)),
            Panel("Server processes", "none", (("sum by (instance) (server_processes)", "{{instance}}"),)),
            Panel("Time to the first text of an answer", "s", quantiles("time_to_first_token_seconds")),
            Panel(
                "Steps that fell back",
                "ops",
                per_second("degraded_steps_total", "step"),
                "The answer was given without this step, and said so.",
            ),
            Panel("Refused by rate limits", "ops", per_second("rate_limit_rejected_total", "scope, path")),
        ),
    ),
    (
        "Money",
        (
            Panel("Reservations by what became of them", "ops", per_second("wallet_reservation_total", "status")),
            Panel(
                "Reservations open now",
                "none",
                (("max(active_reservations)", "open"), ("max(stale_reservations)", "older than 5 minutes")),
            ),
            Panel(
                "Discrepancies of the last reconciliation",
                "none",
                (("max by (check) (wallet_discrepancies)", "{{check}}"),),
                "Must be 0. Never corrected automatically.",
            ),
        ),
    ),
    (
        "Models",
        (
            Panel("Time of a model call", "s", quantiles("openai_request_duration_seconds", "model")),
            Panel("Model calls", "reqps", per_second("openai_request_duration_seconds_count", "model, endpoint")),
            Panel("Tokens that models reported a second", "none", per_second("openai_tokens_used_total", "model")),
            Panel(
                "Circuit breakers",
                "none",
                (("max by (service) (circuit_breaker_state)", "{{service}}"),),
                "An open breaker leaves its service alone and lets one call through from time to time.",
                kind="state-timeline",
                names=tuple(STATES.items()),
            ),
        ),
    ),
    (
        "Search",
        (
            Panel("Time of a vector search", "s", quantiles("milvus_query_duration_seconds")),
            Panel("Vector searches", "ops", per_second("milvus_query_duration_seconds_count", "namespace")),
            Panel("Time of a vector upsert", "s", quantiles("milvus_upsert_duration_seconds")),
            Panel("Vectors written", "ops", per_second("milvus_vectors_upserted_total", "namespace")),
            Panel(
                "Share of reads that caches answered",
                "percentunit",
                (
                    (
                        "sum by (cache) (rate(cache_hits_total[5m])) / (sum by (cache) (rate(cache_hits_total[5m]))"
                        " + sum by (cache) (rate(cache_misses_total[5m])))",
                        "{{cache}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Ingestion and jobs",
        (
            Panel("Ingestion jobs ended", "ops", per_second("ingestion_job_status_total", "status, language")),
            Panel("Time of an ingestion job", "s", quantiles("ingestion_job_duration_seconds", "status")),
            Panel("Tasks waiting", "none", (("max by (queue) (queue_depth)", "{{queue}}"),)),
            Panel(
                "Time since each scheduled job succeeded",
                "s",
                (("time() - max by (job) (job_last_success_timestamp_seconds)", "{{job}}"),),
            ),
            Panel(
                "Time since the slowest process did its upkeep",
                "s",
                (("time() - min by (task) (upkeep_last_success_timestamp_seconds)", "{{task}}"),),
            ),
            Panel("Runs of scheduled jobs", "ops", per_second("job_runs_total", "job, outcome")),
            Panel("Time of a scheduled job", "s", quantiles("job_duration_seconds", "job")),
            Panel(
                "Stores",
                "none",
                (("min by (store) (store_up)", "{{store}}"),),
                kind="state-timeline",
                names=(("0", "down"), ("1", "up")),
            ),
        ),
    ),
)


def metric_names(query: str) -> set[str]:
    """Return the names of the metrics that a PromQL query reads."""
    bare = re.sub(r"\"[^\"]*\"|\{[^}]*\}|\[[^\]]*\]", "", query)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    # What a bracket follows is a function.
    return set(re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?![\w:])(?!\s*\()", bare)) - _OPERATORS


def known_names() -> dict[str, str]:
    """Return every sample name that the server can export, with the metric it belongs to."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from server.telemetry import metrics
    from server.telemetry.metrics.families import REGISTRY

    assert metrics.__doc__, "importing the module is what registers its metrics"
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {
        family.name + suffix: family.name + ("_total" if family.type == "counter" else "")
        for family in REGISTRY.collect()
        if not family.name.endswith(EXTREMES)
        for suffix in suffixes.get(family.type, ("",))
    }


def check(rows: Sequence[Row] = ROWS) -> None:
    """Raise ValueError for a query of a metric that does not exist, or a metric that no panel shows."""
    known = known_names()
    read = set().union(*(metric_names(query) for _, panels in rows for panel in panels for query, _ in panel.queries))
    if unknown := read - known.keys():
        raise ValueError(f"not exported by the server: {', '.join(sorted(unknown))}")
    if missing := set(known.values()) - {known[name] for name in read}:
        raise ValueError(f"on no panel: {', '.join(sorted(missing))}")


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "uid": "bacmr",
        "title": "BacMR",
        "tags": ["bacmr"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": list(_panels()),
    }


def text() -> str:
    """Return the file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for title, panels in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": PER_ROW * WIDTH, "h": 1},
        }
        top += 1
        for place, panel in enumerate(panels):
            number += 1
            down, across = divmod(place, PER_ROW)
            yield _panel(number, panel, x=across * WIDTH, y=top + down * HEIGHT)
        top += -(-len(panels) // PER_ROW) * HEIGHT


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.names:
        named = {value: {"text": word, "index": place} for place, (value, word) in enumerate(panel.names)}
        defaults["mappings"] = [{"type": "value", "options": named}]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend}
            for place, (query, legend) in enumerate(panel.queries)
        ],
    }


if __name__ == "__main__":
    check()
    FILE.write_text(text(), encoding="utf-8")
