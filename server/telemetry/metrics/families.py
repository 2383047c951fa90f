"""Metric families whose children are looked up once, bounded in number, and histograms that keep their extremes.

A child is kept because `labels()` costs several times what counting costs. `Timing` writes its lowest and highest value
into two gauges of their own, since buckets cannot tell them; the gauges add up over processes like everything else.
"""

import math
from collections.abc import Callable
from typing import Final, Generic, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Mode = Literal["mostrecent", "livesum", "livemax", "livemin", "max", "min"]
Child = TypeVar("Child")

REGISTRY: Final = CollectorRegistry()
MAX_SERIES: Final = 500
"""Label combinations of one family before the rest is counted under `other`."""
CALL_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
JOB_SECONDS: Final = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
LOWEST: Final = "_lowest"
HIGHEST: Final = "_highest"


class Family(Generic[Child]):
    """The children of one metric by label values."""

    __slots__ = ("_children", "_make", "labels")

    def __init__(self, labels: tuple[str, ...], make: Callable[[tuple[str, ...]], Child]) -> None:
        """Make children by `make(values)` when their label values are first seen."""
        self.labels = labels
        self._make = make
        self._children: dict[tuple[str, ...], Child] = {}

    def child(self, *values: str) -> Child:
        """Return the child of these label values."""
        found = self._children.get(values)
        if found is None:
            if len(self._children) >= MAX_SERIES:
                values = ("other",) * len(values)
            found = self._children.get(values) or self._children.setdefault(values, self._make(values))
        return found


class Timing:
    """One histogram child with its extremes. Units: seconds."""

    __slots__ = ("_high", "_highest", "_histogram", "_low", "_lowest")

    def __init__(self, histogram: Histogram, lowest: Gauge, highest: Gauge) -> None:
        """Observe into `histogram` and keep the extremes in the two gauges."""
        self._histogram, self._lowest, self._highest = histogram, lowest, highest
        # Not from nothing: with several processes, an earlier one in our seat may have observed.
        self._low, self._high = _shown(lowest) or math.inf, _shown(highest)

    def observe(self, seconds: float) -> None:
        """Add one observation."""
        self._histogram.observe(seconds)
        if seconds < self._low:
            self._low = seconds
            self._lowest.set(seconds)
        if seconds > self._high:
            self._high = seconds
            self._highest.set(seconds)


def _shown(gauge: Gauge) -> float:
    """Return what a gauge shows, 0 when it was never set."""
    return next(iter(gauge.collect())).samples[0].value


def counter(name: str, text: str, *labels: str) -> Family[Counter]:
    """Make a counter."""
    metric = Counter(name, text, labels, registry=REGISTRY)
    return Family(labels, lambda values: metric.labels(*values))


def gauge(name: str, text: str, *labels: str, mode: Mode) -> Family[Gauge]:
    """Make a gauge; `mode` says how the values of several processes become one."""
    metric = Gauge(name, text, labels, registry=REGISTRY, multiprocess_mode=mode)
    return Family(labels, lambda values: metric.labels(*values) if values else metric)


def timing(name: str, text: str, *labels: str, buckets: tuple[float, ...] = CALL_SECONDS) -> Family[Timing]:
    """Make a histogram of seconds."""
    histogram = Histogram(name, text, labels, registry=REGISTRY, buckets=buckets)
    lowest = Gauge(name + LOWEST, f"{text} The shortest.", labels, registry=REGISTRY, multiprocess_mode="min")
    highest = Gauge(name + HIGHEST, f"{text} The longest.", labels, registry=REGISTRY, multiprocess_mode="max")
    return Family(
        labels, lambda values: Timing(histogram.labels(*values), lowest.labels(*values), highest.labels(*values))
    )
