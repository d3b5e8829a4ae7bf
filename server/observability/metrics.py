"""The instruments of `protos.telemetry`, on an injected registry, and what the server does with them.

Labels are resolved once for each variant, when it is registered: each series is there before it grows, without
which Prometheus' rate() would miss its first burst. Of a variant that is COLD and was never loaded, the series that
grow are not there: with a thousand such variants they would be all of the page.

A request that was answered only leaves its record behind; records are counted by the dozen, and always before they are
read. Counting each at once would touch a hundred places in memory that the caches have forgotten since the last one.
"""

import platform
import threading
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Literal, TypeVar, get_args

import grpc
from prometheus_client import Counter, Gauge, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

from protos import telemetry
from protos.manifest import Variant
from protos.support import program
from protos.support.machine import measured
from server.execution.engine import Reason
from server.observability.instruments import Histogram, Instruments, make
from server.observability.request_record import RequestRecord
from server.observability.statistics import Statistics
from server.status import ENDINGS

State = Literal["LOADING", "READY", "COLD", "FAILED", "UNLOADING"]
STATES: tuple[State, ...] = get_args(State)
REASONS: tuple[Reason, ...] = get_args(Reason)
FLUSH_EVERY = 64
"""Requests, or executions, that are counted together."""
Left = TypeVar("Left")


class Metrics:
    """Every instrument of one server."""

    def __init__(self, registry: Instruments) -> None:
        ProcessCollector(registry=registry)
        self.requests = make(registry, Counter, telemetry.REQUESTS)
        self.rejected = make(registry, Counter, telemetry.REJECTED)
        self.request_duration = make(registry, Histogram, telemetry.REQUEST_DURATION)
        self.queue_duration = make(registry, Histogram, telemetry.QUEUE_DURATION)
        self.compute_duration = make(registry, Histogram, telemetry.COMPUTE_DURATION)
        self.stage_seconds = make(registry, Counter, telemetry.STAGE_SECONDS)
        self.batch_rows = make(registry, Histogram, telemetry.BATCH_ROWS)
        self.inflight = make(registry, Gauge, telemetry.INFLIGHT)
        self.queue_depth = make(registry, Gauge, telemetry.QUEUE_DEPTH)
        self.load_duration = make(registry, Gauge, telemetry.LOAD_DURATION)
        self.loads = make(registry, Counter, telemetry.LOADS)
        self.evictions = make(registry, Counter, telemetry.EVICTIONS)
        self.info = make(registry, Gauge, telemetry.VARIANT_INFO)
        self.state = make(registry, Gauge, telemetry.VARIANT_STATE)
        self.default = make(registry, Gauge, telemetry.DEFAULT_VARIANT)
        self.quality = make(registry, Gauge, telemetry.VARIANT_QUALITY)
        self.artifact_bytes = make(registry, Gauge, telemetry.VARIANT_ARTIFACT_BYTES)
        self.memory_bytes = make(registry, Gauge, telemetry.VARIANT_MEMORY_BYTES)
        self.of_variants: list[MetricWrapperBase] = list(vars(self).values())
        self.handled = make(registry, Counter, telemetry.GRPC_HANDLED)
        make(registry, Gauge, telemetry.BUILD_INFO).labels(program.version(), platform.python_version()).set(1)
        self.variants: set[VariantMetrics] = set()
        registry.count = self._count

    def _count(self) -> None:
        for variant in list(self.variants):
            variant.count()


class VariantMetrics:
    """The series of one variant; the `Observer` of its engine. `lazy`: those that grow come with the first load."""

    def __init__(self, metrics: Metrics, model: str, name: str, lazy: bool = False) -> None:
        self._statistics = Statistics()
        self._answers: deque[RequestRecord] = deque()
        self._executions: deque[tuple[int, float | None]] = deque()
        self._mutex, self._counting = threading.Lock(), threading.Lock()
        self._metrics, self._labels, self._names = metrics, (model, name), {"model": model, "variant": name}
        metrics.variants.add(self)
        self._states = {state: metrics.state.labels(model, name, state) for state in STATES}
        self._in_flight = 0
        if not lazy:
            _ = self._growing

    @cached_property
    def _growing(self) -> "_Growing":
        return _Growing(self._metrics, self._labels, lambda: self._in_flight)

    def request_began(self) -> None:
        """Counts one request as in flight; for any thread, as all that follow."""
        with self._mutex:
            self._in_flight += 1
        self._statistics.arrived()

    def request_ended(self, record: RequestRecord) -> None:
        """Counts one request that is over, as `record` tells."""
        failed = record.code is not grpc.StatusCode.OK
        with self._mutex:
            self._in_flight -= 1
            if failed:
                self._statistics.fail.add(record.seconds)
        if failed:
            self._growing.requests[record.code].inc()
            return
        self._answers.append(record)
        if len(self._answers) >= FLUSH_EVERY:
            self.count()

    @property
    def in_flight(self) -> int:
        """How many requests have begun and are not over."""
        return self._in_flight

    @property
    def last_asked(self) -> float:
        """When the last request began, in seconds since the epoch; 0 before the first."""
        return self._statistics.last_request

    @property
    def statistics(self) -> Statistics:
        """The statistics up to now."""
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
            executions, answers = _taken(self._executions), _taken(self._answers)
            if not executions and not answers:
                return
            growing = self._growing
            growing.batch_rows.observe_all([rows for rows, _ in executions])
            growing.requests[grpc.StatusCode.OK].inc(len(answers))
            growing.request_duration.observe_all([record.seconds for record in answers])
            growing.queue_duration.observe_all([record.queue_seconds for record in answers])
            growing.compute_duration.observe_all([record.compute_seconds for record in answers])
            self._statistics.executed(executions)
            self._statistics.answered(answers)
            stages = [record.stages for record in answers]
            for counter, *spent in zip(growing.stage_seconds, *stages, strict=True):
                counter.inc(max(0.0, sum(spent)))  # what takes no time may be rounded to less than none

    def rejected(self, reason: Reason) -> None:
        """Counts a request that was refused."""
        self._growing.rejected[reason].inc()

    def set_state(self, state: State) -> None:
        """Shows 1 for `state` and 0 for the others."""
        for name, gauge in self._states.items():
            gauge.set(name == state)

    def set_default(self, default: bool) -> None:
        """Shows whether requests that name no variant come here."""
        self._metrics.default.labels(*self._labels).set(default)

    def loaded(self, seconds: float, depth: Callable[[], int]) -> None:
        """Counts that it came into memory, in `seconds`, and shows what `depth` returns whenever the page is read."""
        self._growing.loads.inc()
        self._metrics.load_duration.labels(*self._labels).set(seconds)
        self._metrics.queue_depth.labels(*self._labels).set_function(depth)

    def evicted(self) -> None:
        """Counts that it left memory; it has no queue then."""
        self._growing.evictions.inc()
        self._metrics.queue_depth.labels(*self._labels).set_function(lambda: 0)

    def describe(self, variant: Variant) -> None:
        """Shows what the manifest says, in place of what an earlier one said."""
        for instrument in (self._metrics.info, self._metrics.quality, self._metrics.memory_bytes):
            instrument.remove_by_labels(self._names)
        told = (variant.recipe.name, variant.runtime, variant.precision, measured(variant.machine))
        self._metrics.info.labels(*self._labels, *told).set(1)
        self._metrics.artifact_bytes.labels(*self._labels).set(variant.artifact_bytes)
        if variant.footprint is not None:
            self._metrics.memory_bytes.labels(*self._labels).set(variant.footprint.load_peak_bytes)
        if (quality := variant.quality) is not None:
            metric = quality.metric
            values = {metric: quality.value, f"{metric}_parent": quality.parent}
            if quality.fp32 is not None:
                values[f"{metric}_fp32"] = quality.fp32
            for name, value in {**values, telemetry.AGREEMENT: quality.agreement}.items():
                self._metrics.quality.labels(*self._labels, name).set(value)

    def remove(self) -> None:
        """Takes the series of the variant off the page."""
        _ = self._growing  # what is still under way is counted there, or would bring them back
        self._metrics.variants.discard(self)
        for instrument in self._metrics.of_variants:
            instrument.remove_by_labels(self._names)


class _Growing:
    """The series of one variant that grow with its requests and loads."""

    def __init__(self, metrics: Metrics, labels: tuple[str, str], in_flight: Callable[[], int]) -> None:
        self.requests = {code: metrics.requests.labels(*labels, code.name) for code in ENDINGS}
        self.rejected = {reason: metrics.rejected.labels(*labels, reason) for reason in REASONS}
        metrics.inflight.labels(*labels).set_function(in_flight)
        self.request_duration = metrics.request_duration.labels(*labels)
        self.queue_duration = metrics.queue_duration.labels(*labels)
        self.compute_duration = metrics.compute_duration.labels(*labels)
        self.stage_seconds = [metrics.stage_seconds.labels(*labels, stage) for stage in telemetry.STAGES]
        self.batch_rows = metrics.batch_rows.labels(*labels)
        self.loads = metrics.loads.labels(*labels)
        self.evictions = metrics.evictions.labels(*labels)


def _taken(left: "deque[Left]") -> "list[Left]":
    """Takes what is there now; other threads may add to it meanwhile."""
    return [left.popleft() for _ in range(len(left))]
