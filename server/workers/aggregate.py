"""The metrics of several processes as one page: what a reading of each is, and how they are added up.

    counters, histograms    sum, those of processes that have ended included
    gauges                  sum where each process has its share (in flight, queued), else the largest: what all
                            have in common (quality, bytes), and of the states that a variant is in, each one
    process_*               never added: each process has its own, by the label `worker`

prometheus_client's own multiprocess mode is not used: it has no process metrics, and keeps files.
"""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from protos import telemetry

Reading = list[Metric]
"""The metric families of one process at one moment."""

SHARED_OUT = frozenset({telemetry.INFLIGHT.name, telemetry.QUEUE_DEPTH.name})
"""Gauges that are summed."""

_PROCESS = "process_"
_LASTING = ("counter", "histogram")


def dump(registry: CollectorRegistry) -> object:
    """What a registry reads now, in plain values that JSON can carry."""
    return [
        [family.name, family.documentation, family.type, [sample[:3] for sample in family.samples]]
        for family in registry.collect()
    ]


def load(dumped: Iterable[tuple[str, str, str, list[tuple[str, dict[str, str], float]]]]) -> Reading:
    """The reading that was dumped."""
    reading = []
    for name, documentation, kind, samples in dumped:
        family = Metric(name, documentation, kind)
        for sample in samples:
            family.add_sample(*sample)
        reading.append(family)
    return reading


def of_worker(reading: Reading, worker: str) -> Reading:
    """The reading, its `process_*` marked as those of `worker`."""
    return [_marked(family, worker) if family.name.startswith(_PROCESS) else family for family in reading]


def lasting(reading: Reading) -> Reading:
    """What remains true of a process after its end."""
    return [family for family in reading if family.type in _LASTING and not family.name.startswith(_PROCESS)]


def merge(readings: Sequence[Reading]) -> Reading:
    """One reading for all; series that only some of them have are part of it."""
    merged: dict[str, _Sums] = {}
    for family in (family for reading in readings for family in reading):
        merged.setdefault(family.name, _Sums(family)).add(family)
    return [sums.family() for sums in merged.values()]


def _marked(family: Metric, worker: str) -> Metric:
    marked = Metric(family.name, family.documentation, family.type)
    marked.samples = [sample._replace(labels={"worker": worker}) for sample in family.samples]
    return marked


class _Sums:
    """The samples of one family, by name and labels, in order of arrival."""

    def __init__(self, family: Metric) -> None:
        self._name, self._documentation, self._kind = family.name, family.documentation, family.type
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def add(self, family: Metric) -> None:
        """Adds one process's samples."""
        for sample in family.samples:
            key, value = (sample.name, tuple(sample.labels.items())), sample.value
            self._values[key] = self._rule(sample.name)(self._values[key], value) if key in self._values else value

    def family(self) -> Metric:
        """Returns the family with the sums."""
        family = Metric(self._name, self._documentation, self._kind)
        for (name, labels), value in self._values.items():
            family.add_sample(name, dict(labels), value)
        return family

    def _rule(self, sample: str) -> Callable[[float, float], float]:
        if sample.endswith("_created"):
            return min
        return float.__add__ if self._kind in _LASTING or self._name in SHARED_OUT else max
