"""The instruments of `protos.telemetry`, on an injected registry, and what the server does with them.

Labels are resolved once for each variant, when it is registered: each series is there before it grows, without
which Prometheus' rate() would miss its first burst. A request that was answered only leaves its figures behind;
they are counted by the dozen, and always before they are read. Counting each at once would touch a hundred
places in memory that the caches have forgotten since the last request. The page is served by prometheus_client,
from a thread and a port of its own.
"""

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal, get_args

import grpc
import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

from protos import telemetry
from protos.manifest import Quality, Variant
from protos.telemetry import Metric
from server.execution.engine import Reason
from server.observability.request_record import RequestRecord
from server.observability.statistics import Statistics
from server.status import ENDINGS

State = Literal["LOADING", "READY", "FAILED", "UNLOADING"]
STATES: tuple[State, ...] = get_args(State)
REASONS: tuple[Reason, ...] = get_args(Reason)
FLUSH_EVERY = 64
"""Requests, or executions, that are counted together."""


class Histogram(prometheus_client.Histogram):
    """A histogram that finds its bucket by bisection; it takes no exemplars.

    The library searches from the first edge on, which takes microseconds with 35 buckets, three times a request.
    """

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Counts one value."""
        self._sum.inc(amount)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(1)


class Metrics:
    """Every instrument of one server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        registry.register(self)  # before the instruments, so that it is asked before them
        ProcessCollector(registry=registry)
        self.requests = _counter(telemetry.REQUESTS, registry)
        self.rejected = _counter(telemetry.REJECTED, registry)
        self.request_duration = _histogram(telemetry.REQUEST_DURATION, registry)
        self.queue_duration = _histogram(telemetry.QUEUE_DURATION, registry)
        self.compute_duration = _histogram(telemetry.COMPUTE_DURATION, registry)
        self.batch_size = _histogram(telemetry.BATCH_SIZE, registry)
        self.inflight = _gauge(telemetry.INFLIGHT, registry)
        self.queue_depth = _gauge(telemetry.QUEUE_DEPTH, registry)
        self.load_duration = _gauge(telemetry.LOAD_DURATION, registry)
        self.info = _gauge(telemetry.VARIANT_INFO, registry)
        self.state = _gauge(telemetry.VARIANT_STATE, registry)
        self.quality = _gauge(telemetry.VARIANT_QUALITY, registry)
        self.artifact_bytes = _gauge(telemetry.VARIANT_ARTIFACT_BYTES, registry)
        self.of_variants: list[MetricWrapperBase] = list(vars(self).values())
        self.handled = _counter(telemetry.GRPC_HANDLED, registry)
        self.variants: set[VariantMetrics] = set()

    def collect(self) -> Iterable[prometheus_client.Metric]:
        """The page is about to be read. Has no series itself."""
        for variant in list(self.variants):
            variant.count()
        return ()


class VariantMetrics:
    """The series of one variant; the `Observer` of its engine."""

    def __init__(self, metrics: Metrics, model: str, name: str) -> None:
        self._statistics = Statistics()
        self._answers: deque[RequestRecord] = deque()
        self._executions: deque[tuple[int, float | None]] = deque()
        self._counting = threading.Lock()
        self._metrics, self._labels = metrics, (model, name)
        metrics.variants.add(self)
        self._names = {"model": model, "variant": name}
        self._requests = {code: metrics.requests.labels(model, name, code.name) for code in ENDINGS}
        self._rejected = {reason: metrics.rejected.labels(model, name, reason) for reason in REASONS}
        self._states = {state: metrics.state.labels(model, name, state) for state in STATES}
        self._in_flight = 0  # counted on the event loop
        metrics.inflight.labels(model, name).set_function(lambda: self._in_flight)
        self._request_duration = metrics.request_duration.labels(model, name)
        self._queue_duration = metrics.queue_duration.labels(model, name)
        self._compute_duration = metrics.compute_duration.labels(model, name)
        self._batch_size = metrics.batch_size.labels(model, name)

    def request_began(self) -> None:
        """Counts one request as in flight."""
        self._in_flight += 1
        self._statistics.arrived()

    def request_ended(self, record: RequestRecord) -> None:
        """Counts one request that is over, as `record` tells."""
        self._in_flight -= 1
        if record.code is not grpc.StatusCode.OK:
            self._requests[record.code].inc()
            self._statistics.failed(record.seconds)
            return
        self._answers.append(record)
        if len(self._answers) >= FLUSH_EVERY:
            self.count()

    @property
    def statistics(self) -> Statistics:
        """What the protocol's ModelStatistics tells, up to now."""
        self.count()
        return self._statistics

    def executed(self, rows: int, seconds: float | None) -> None:
        """Notes an execution of `rows` rows, which took `seconds`, or None where it failed."""
        self._executions.append((rows, seconds))
        if len(self._executions) >= FLUSH_EVERY:  # answers whose callers went away may be none
            self.count()

    def count(self) -> None:
        """Counts what was left behind; for any thread."""
        with self._counting:
            while self._executions:
                rows, seconds = self._executions.popleft()
                self._batch_size.observe(rows)
                if seconds is not None:
                    self._statistics.executed(rows, seconds)
            while self._answers:
                self._count_answer(self._answers.popleft())

    def _count_answer(self, record: RequestRecord) -> None:
        self._requests[grpc.StatusCode.OK].inc()
        self._request_duration.observe(record.seconds)
        self._queue_duration.observe(record.queue_seconds)
        self._compute_duration.observe(record.compute_seconds)
        self._statistics.answered(record)

    def rejected(self, reason: Reason) -> None:
        """Counts a request that was refused."""
        self._rejected[reason].inc()

    def set_state(self, state: State) -> None:
        """1 for `state`, 0 for the others."""
        for name, gauge in self._states.items():
            gauge.set(name == state)

    def follow_queue(self, depth: Callable[[], int]) -> None:
        """`depth` is called whenever the page is read."""
        self._metrics.queue_depth.labels(*self._labels).set_function(depth)

    def loaded(self, seconds: float) -> None:
        """The variant became READY `seconds` after its loading began."""
        self._metrics.load_duration.labels(*self._labels).set(seconds)

    def describe(self, variant: Variant) -> None:
        """What the manifest says of the variant, in place of what an earlier one said."""
        for instrument in (self._metrics.info, self._metrics.quality):
            instrument.remove_by_labels(self._names)
        self._metrics.info.labels(*self._labels, variant.recipe.name, variant.runtime, variant.precision).set(1)
        self._metrics.artifact_bytes.labels(*self._labels).set(variant.artifact_bytes)
        for metric, value in _figures(variant.quality).items():
            self._metrics.quality.labels(*self._labels, metric).set(value)

    def remove(self) -> None:
        """The variant is not served any more: its series leave the page."""
        self._metrics.variants.discard(self)
        for instrument in self._metrics.of_variants:
            instrument.remove_by_labels(self._names)


def _figures(quality: Quality | None) -> dict[str, float]:
    """`top1`, `top1_parent`, `top1_fp32` and `agreement`, where the metric is top1."""
    if quality is None:
        return {}
    return {
        quality.metric: quality.value,
        f"{quality.metric}_parent": quality.parent,
        f"{quality.metric}_fp32": quality.fp32,
        telemetry.AGREEMENT: quality.agreement,
    }


def _counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    return Counter(metric.name, metric.help, metric.labels, registry=registry)


def _gauge(metric: Metric, registry: CollectorRegistry) -> Gauge:
    return Gauge(metric.name, metric.help, metric.labels, registry=registry)


def _histogram(metric: Metric, registry: CollectorRegistry) -> Histogram:
    return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
