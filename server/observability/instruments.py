"""Makes instruments of what `protos.telemetry` declares. Light: a supervisor of workers needs no more than this."""

import collections
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable
from itertools import repeat
from typing import Any, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import RestrictedRegistry

from protos.telemetry import Metric

# Else each series has a second one, `_created`, which nothing here reads.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

Instrument = TypeVar("Instrument", bound=MetricWrapperBase)


class Instruments(CollectorRegistry):
    """A registry that has what was left behind counted before it is read, all of it or a few names."""

    def __init__(self) -> None:
        super().__init__(support_collectors_without_names=True)  # as that of the process is
        self.count: Callable[[], None] = lambda: None

    def collect(self) -> Iterable[prometheus_client.Metric]:
        """Yields every family."""
        self.count()
        yield from super().collect()

    def restricted_registry(self, names: Iterable[str]) -> RestrictedRegistry:
        """Returns what is to be read of some names, in any order of the instruments."""
        self.count()
        return super().restricted_registry(names)


class Histogram(prometheus_client.Histogram):
    """A histogram that counts many values at once."""

    def observe_all(self, amounts: Collection[float]) -> None:
        """Counts each of `amounts`, as `observe` would."""
        self._sum.inc(sum(amounts))
        buckets = map(bisect_left, repeat(self._upper_bounds), amounts)
        for bucket, count in collections.Counter(buckets).items():
            self._buckets[bucket].inc(count)


def make(registry: CollectorRegistry, kind: type[Instrument], metric: Metric) -> Instrument:
    """Returns an instrument that `registry` shows."""
    options: dict[str, Any] = {"buckets": metric.buckets} if metric.kind == "histogram" else {}
    return kind(metric.name, metric.help, metric.labels, registry=registry, **options)
