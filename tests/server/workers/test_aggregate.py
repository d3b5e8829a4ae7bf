"""Readings of several processes made one: what is added, what is not, and what remains of the dead."""

import json

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from protos import telemetry
from server.workers.aggregate import SHARED_OUT, Reading, dump, lasting, load, merge, of_worker

ALIKE = {"pareto_model_load_duration_seconds", "pareto_variant_info", "pareto_variant_state",
         "pareto_variant_quality", "pareto_variant_artifact_bytes", "pareto_variant_memory_bytes",
         "pareto_default_variant", "pareto_build_info", "pareto_workers"}  # fmt: skip
"""Gauges of which the largest is shown."""


def process(calls: int = 0, seconds: tuple[float, ...] = (), **gauges: float) -> CollectorRegistry:
    """What one process measured."""
    registry = CollectorRegistry()
    Counter("calls", "Calls.", ["code"], registry=registry).labels("OK").inc(calls)
    histogram = Histogram("seconds", "Seconds.", registry=registry, buckets=(1, 2))
    for value in seconds:
        histogram.observe(value)
    for name, value in gauges.items():
        Gauge(name, "A gauge.", registry=registry).set(value)
    return registry


def reading(*args: object, **gauges: float) -> Reading:
    return load(json.loads(json.dumps(dump(process(*args, **gauges)))))  # type: ignore[arg-type]


def values(reading: Reading) -> dict[str, float]:
    """Value by name and labels, without the times of creation."""
    return {
        sample.name + "".join(f"{{{name}={value}}}" for name, value in sample.labels.items()): sample.value
        for family in reading
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def page(reading: Reading) -> bytes:
    registry = CollectorRegistry()
    registry.register(type("Fixed", (), {"collect": lambda self: reading})())
    return generate_latest(registry)


def test_a_reading_survives_the_way_between_two_processes() -> None:
    registry = process(3, (0.5, 1.5), depth=2.5)
    assert page(load(json.loads(json.dumps(dump(registry))))) == generate_latest(registry)


def test_counters_and_histograms_are_summed() -> None:
    assert values(merge([reading(3, (0.5, 1.5)), reading(4, (1.5,))])) == {
        "calls_total{code=OK}": 7,
        "seconds_bucket{le=1.0}": 1,
        "seconds_bucket{le=2.0}": 3,
        "seconds_bucket{le=+Inf}": 3,
        "seconds_count": 3,
        "seconds_sum": 3.5,
    }


def test_series_that_only_one_process_has_are_kept() -> None:
    other = CollectorRegistry()
    Counter("calls", "Calls.", ["code"], registry=other).labels("INTERNAL").inc()
    assert values(merge([lasting(reading(3)), load(dump(other))]))["calls_total{code=INTERNAL}"] == 1  # type: ignore[arg-type]


def test_gauges_are_shared_out_or_alike() -> None:
    first = reading(pareto_queue_depth=2, pareto_variant_state=1)
    merged = values(merge([first, reading(pareto_queue_depth=3, pareto_variant_state=0)]))
    assert (merged["pareto_queue_depth"], merged["pareto_variant_state"]) == (5, 1)


def test_of_every_gauge_it_is_settled_whether_it_is_summed() -> None:
    metrics = (*telemetry.METRICS, *telemetry.SUPERVISOR_METRICS)
    assert {metric.name for metric in metrics if metric.kind == "gauge"} == SHARED_OUT | ALIKE


def test_process_metrics_stay_apart_by_worker() -> None:
    one, two = reading(process_open_fds=5), reading(process_open_fds=7)
    merged = values(merge([of_worker(one, "0"), of_worker(two, "1")]))
    assert {name: value for name, value in merged.items() if name.startswith("process_")} == {
        "process_open_fds{worker=0}": 5,
        "process_open_fds{worker=1}": 7,
    }
    assert merged["calls_total{code=OK}"] == 0


def test_of_the_dead_remain_counters_and_histograms() -> None:
    dead = reading(3, (0.5,), pareto_queue_depth=2, process_open_fds=5)
    assert {family.name for family in lasting(dead)} == {"calls", "seconds"}
