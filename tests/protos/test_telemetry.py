"""Metric names, as Prometheus wants them."""

import pytest

from protos.telemetry import AGREEMENT, METRICS, SECONDS_BUCKETS, Metric


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_bear_base_units_and_no_suffix_of_their_kind(metric: Metric) -> None:
    assert not metric.name.endswith(("_total", "_ms", "_milliseconds", "_count", "_sum", "_bucket"))
    assert metric.name.startswith(("pareto_", "grpc_server_"))


def test_series_are_what_the_page_shows() -> None:
    assert Metric("a", "counter", "calls", "").series == ("a_total",)
    assert Metric("a", "gauge", "calls", "").series == ("a",)
    assert Metric("a", "histogram", "calls", "").series == ("a_bucket", "a_sum", "a_count")


def test_time_buckets_resolve_less_than_a_millisecond() -> None:
    assert list(SECONDS_BUCKETS) == sorted(set(SECONDS_BUCKETS))
    assert sum(edge <= 0.001 for edge in SECONDS_BUCKETS) >= 5


def test_the_name_of_a_quality_figure_is_the_one_that_dashboards_read() -> None:
    assert AGREEMENT == "agreement"
