"""Makes instruments of what `protos.telemetry` declares. Light: a supervisor of workers needs no more than this."""

from bisect import bisect_left
from typing import Any, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from protos.telemetry import Metric

# Else each series has a second one, `_created`, which nothing here reads.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

Instrument = TypeVar("Instrument", bound=MetricWrapperBase)


class Histogram(prometheus_client.Histogram):
    """A histogram that finds its bucket by bisection, which saves microseconds a request; it takes no exemplars."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Counts one value."""
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)


def make(registry: CollectorRegistry, kind: type[Instrument], metric: Metric) -> Instrument:
    """Returns an instrument that `registry` shows."""
    options: dict[str, Any] = {"buckets": metric.buckets} if metric.kind == "histogram" else {}
    return kind(metric.name, metric.help, metric.labels, registry=registry, **options)
