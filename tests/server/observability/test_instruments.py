"""Our histogram counts what the library's own counts."""

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from protos.telemetry import BATCH_BUCKETS, SECONDS_BUCKETS
from server.observability.instruments import Histogram


@pytest.mark.parametrize("buckets", [SECONDS_BUCKETS, BATCH_BUCKETS])
def test_every_value_falls_into_the_bucket_that_the_library_finds(buckets: tuple[float, ...]) -> None:
    values = [0.0, -1.0, 1e9, float("inf")]
    values += [edge * factor for edge in buckets for factor in (0.999, 1.0, 1.001)]
    pages = []
    for kind in (Histogram, prometheus_client.Histogram):
        registry = CollectorRegistry()
        child = kind("x", "x", ("variant",), registry=registry, buckets=buckets).labels("a")
        for value in values:
            child.observe(value)
        pages.append([line for line in generate_latest(registry).decode().splitlines() if "created" not in line])
    assert pages[0] == pages[1]
