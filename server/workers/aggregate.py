"""The metrics of several processes as one page.

    counters, histograms    sum, those of processes that have ended included
    gauges                  sum where each process has its share (`SHARED_OUT`), else the largest: what all
                            have in common (quality, bytes), and of the states that a variant is in, each one
    process_*               never added: each process has its own, by the label `worker`

prometheus_client's own multiprocess mode is not used: it has no process metrics, and keeps files.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from protos import telemetry

Reading = list[Metric]
"""The metric families of one process at one moment."""

SHARED_OUT = frozenset({telemetry.INFLIGHT.name, telemetry.QUEUE_DEPTH.name})
_PROCESS = "process_"
_LASTING = ("counter", "histogram")


def dump(registry: CollectorRegistry) -> object:
    """Returns what a registry reads now, in plain values that JSON can carry."""
    return [
        [family.name, family.documentation, family.type, [sample[:3] for sample in family.samples]]
        for family in registry.collect()
    ]


def load(dumped: Iterable[tuple[str, str, str, list[tuple[str, dict[str, str], float]]]]) -> Reading:
    """Returns the reading that was dumped."""
    reading = []
    for name, documentation, kind, samples in dumped:
        family = Metric(name, documentation, kind)
        for sample in samples:
            family.add_sample(*sample)
        reading.append(family)
    return reading


def of_worker(reading: Reading, worker: str) -> Reading:
    """Returns the reading, its `process_*` marked as those of `worker`."""
    return [_marked(family, worker) if family.name.startswith(_PROCESS) else family for family in reading]


def lasting(reading: Reading) -> Reading:
    """Returns the part of a reading that remains true after the end of its process."""
    return [family for family in reading if family.type in _LASTING and not family.name.startswith(_PROCESS)]


def merge(readings: Sequence[Reading]) -> Reading:
    """Returns one reading for all; series that only some of them have are part of it."""
    families: dict[str, list[Metric]] = {}
    for family in chain.from_iterable(readings):
        families.setdefault(family.name, []).append(family)
    return [_merged(alike) for alike in families.values()]


def _marked(family: Metric, worker: str) -> Metric:
    marked = Metric(family.name, family.documentation, family.type)
    marked.samples = [sample._replace(labels={"worker": worker}) for sample in family.samples]
    return marked


def _merged(families: list[Metric]) -> Metric:
    """One family of several processes' samples, by name and labels, in order of arrival."""
    merged = Metric(families[0].name, families[0].documentation, families[0].type)
    rule: Callable[[list[float]], float] = sum if merged.type in _LASTING or merged.name in SHARED_OUT else max
    values: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = {}
    for sample in (sample for family in families for sample in family.samples):
        values.setdefault((sample.name, tuple(sample.labels.items())), []).append(sample.value)
    for (name, labels), found in values.items():
        merged.add_sample(name, dict(labels), rule(found))
    return merged
