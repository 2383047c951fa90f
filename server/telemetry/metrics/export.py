"""What `/metrics/prometheus` and `/metrics/json` show, from one process or added up over several.

With several processes each keeps its figures in files of a common folder (`telemetry.seat`), which is handed in here;
processes that ended still count, but for live gauges.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from server.telemetry import calls
from server.telemetry.metrics.families import HIGHEST, LOWEST, REGISTRY

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
Labels = tuple[tuple[str, str], ...]


async def _known() -> None:
    """Every figure is in memory already."""


class Figures:
    """All metrics as they are shown. `refresh` brings up to date what the database alone knows; it must not fail."""

    def __init__(self, processes_dir: Path | None = None, refresh: Callable[[], Awaitable[None]] = _known) -> None:
        """Show this process, or all that keep their figures in `processes_dir`."""
        self._processes_dir = processes_dir
        self._refresh = refresh

    async def exposition(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        await self._refresh()
        return await asyncio.to_thread(exposition, self._processes_dir)

    async def snapshot(self) -> dict[str, Any]:
        """Return all metrics as JSON values."""
        await self._refresh()
        return await asyncio.to_thread(snapshot, self._processes_dir)


def exposition(processes_dir: Path | None = None) -> bytes:
    """Return all metrics in the Prometheus text format."""
    return generate_latest(_registry(processes_dir))


def snapshot(processes_dir: Path | None = None) -> dict[str, Any]:
    """Return all metrics as JSON values: histograms as count, sum, min, max, mean, p50, p95 and p99."""
    families = {family.name: family for family in _registry(processes_dir).collect()}
    metrics = {}
    for name, family in families.items():
        if family.type == "histogram":
            metrics[name] = _histogram(family, families.get(name + LOWEST), families.get(name + HIGHEST))
        elif not name.endswith((LOWEST, HIGHEST)):
            metrics[name + ("_total" if family.type == "counter" else "")] = _plain(family)
    return {"timestamp": datetime.now(UTC).isoformat(), "metrics": metrics}


def process_ended(seat: int, processes_dir: Path) -> None:
    """Take the live gauges of the process that had a seat out of the sums."""
    multiprocess.mark_process_dead(seat, str(processes_dir))  # type: ignore[no-untyped-call]


def quantile(bounds: Sequence[float], cumulative: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the observations lie, interpolated within its bucket.

    `bounds` ends with infinity; `cumulative` counts observations up to each bound. As Prometheus'
    `histogram_quantile`, but an answer in the last bucket is its lower bound. 0 without observations.
    """
    if not cumulative[-1]:
        return 0.0
    rank, below, lower = share * cumulative[-1], 0.0, 0.0
    for bound, count in zip(bounds, cumulative, strict=True):
        if count >= rank and count > below:
            return lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / (count - below)
        below, lower = count, lower if math.isinf(bound) else bound
    return lower


def _registry(processes_dir: Path | None) -> CollectorRegistry:
    calls.flush()
    if processes_dir is None:
        return REGISTRY
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=str(processes_dir))  # type: ignore[no-untyped-call]
    return registry


def _plain(family: Metric) -> dict[str, Any]:
    series = [
        {"labels": dict(sample.labels), "value": sample.value}
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]
    return {"type": family.type, "help": family.documentation, "series": series}


def _histogram(family: Metric, lowest: Metric | None, highest: Metric | None) -> dict[str, Any]:
    low, high = _by_labels(lowest), _by_labels(highest)
    series = []
    for labels, samples in _grouped(family.samples):
        buckets = sorted((float(s.labels["le"]), s.value) for s in samples if s.name.endswith("_bucket"))
        bounds, cumulative = [bound for bound, _ in buckets], [count for _, count in buckets]
        count = cumulative[-1]
        total = next(s.value for s in samples if s.name.endswith("_sum"))
        least, most = low.get(labels, 0.0), high.get(labels, 0.0)
        figures = {"count": count, "sum": total, "min": least, "max": most, "mean": total / count if count else 0.0}
        for name, share in QUANTILES.items():
            figures[name] = min(max(quantile(bounds, cumulative, share), least), most)
        series.append({"labels": dict(labels), **figures})
    return {"type": "histogram", "help": family.documentation, "series": series}


def _by_labels(family: Metric | None) -> dict[Labels, float]:
    return {_labels(sample): sample.value for sample in family.samples} if family else {}


def _labels(sample: Sample) -> Labels:
    return tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))


def _grouped(samples: Iterable[Sample]) -> Iterator[tuple[Labels, list[Sample]]]:
    groups: dict[Labels, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(_labels(sample), []).append(sample)
    yield from groups.items()
