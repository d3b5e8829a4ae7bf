"""Reading a metrics page, served over a real socket."""

from urllib.parse import urlsplit

import pytest

from loadtest.client.metrics_page import Deltas, Facts, Page, Sample, ScrapeError, deltas, read_pages, scrape
from tests.support.loadtest.pages import pages

BEFORE = """\
# TYPE pareto_requests counter
pareto_requests_total{model="m",variant="a",code="OK"} 10
pareto_requests_total{model="m",variant="b",code="OK"} 99
# TYPE pareto_queue_duration_seconds histogram
pareto_queue_duration_seconds_bucket{model="m",variant="a",le="+Inf"} 10
pareto_queue_duration_seconds_sum{model="m",variant="a"} 0.25
pareto_queue_duration_seconds_count{model="m",variant="a"} 10
# TYPE process_cpu_seconds counter
process_cpu_seconds_total 5.0
"""

AFTER = """\
# TYPE pareto_requests counter
pareto_requests_total{model="m",variant="a",code="OK"} 13
pareto_requests_total{model="m",variant="a",code="INTERNAL"} 1
pareto_requests_total{model="m",variant="b",code="OK"} 99
# TYPE pareto_queue_duration_seconds histogram
pareto_queue_duration_seconds_bucket{model="m",variant="a",le="+Inf"} 14
pareto_queue_duration_seconds_sum{model="m",variant="a"} 0.75
pareto_queue_duration_seconds_count{model="m",variant="a"} 14
# TYPE process_cpu_seconds counter
process_cpu_seconds_total 5.5
# TYPE pareto_variant_info gauge
pareto_variant_info{model="m",variant="a",recipe="int8",runtime="openvino",precision="int8"} 1
# TYPE pareto_variant_quality gauge
pareto_variant_quality{model="m",variant="a",metric="top1"} 0.75
pareto_variant_quality{model="m",variant="a",metric="agreement"} 0.5
# TYPE pareto_variant_artifact_bytes gauge
pareto_variant_artifact_bytes{model="m",variant="a"} 1.5e+06
# TYPE pareto_variant_memory_bytes gauge
pareto_variant_memory_bytes{model="m",variant="a"} 5e+07
"""


def read(text: str) -> Page:
    with pages(lambda: text) as url:
        return scrape(url)


def test_only_what_moved_between_two_readings_counts() -> None:
    assert deltas(read(BEFORE), read(AFTER), "m", "a") == Deltas(
        requests=4.0,
        queue_seconds=0.5,
        queue_count=4.0,
        compute_seconds=None,
        compute_count=None,
        cpu_seconds=0.5,
    )


def test_the_page_of_one_server_is_read_once_for_all_its_variants() -> None:
    readings = []

    def page() -> str:
        readings.append(AFTER)
        return AFTER

    with pages(page) as url:
        assert list(read_pages([url, None, url, url])) == [url]
    assert len(readings) == 1


def test_the_handlers_time_and_the_engines_batches_are_read() -> None:
    after = """\
# TYPE pareto_request_duration_seconds histogram
pareto_request_duration_seconds_sum{model="m",variant="a"} 0.5
pareto_request_duration_seconds_count{model="m",variant="a"} 8
# TYPE pareto_batch_rows histogram
pareto_batch_rows_sum{model="m",variant="a"} 8
pareto_batch_rows_count{model="m",variant="a"} 2
"""
    moved = deltas(read(BEFORE), read(after), "m", "a")
    assert (moved.handler_seconds, moved.handler_count) == (0.5, 8.0)
    assert (moved.batch_rows, moved.batch_count) == (8.0, 2.0)


def test_the_seconds_of_each_stage_are_read() -> None:
    page = """\
# TYPE pareto_stage_seconds counter
pareto_stage_seconds_total{{model="m",variant="a",stage="receive"}} {receive}
pareto_stage_seconds_total{{model="m",variant="a",stage="encode"}} 4.0
pareto_stage_seconds_total{{model="m",variant="b",stage="receive"}} 9.0
"""
    moved = deltas(read(page.format(receive=0.5)), read(page.format(receive=0.75)), "m", "a")
    assert moved.stage_seconds == {"receive": 0.25, "encode": 0.0}


def test_a_variant_that_got_nothing_moved_by_nothing() -> None:
    assert deltas(read(BEFORE), read(AFTER), "m", "b").requests == 0.0


def test_facts_are_those_of_the_labels_and_gauges() -> None:
    told = Facts("int8", "openvino", "int8", "top1", 0.75, 0.5, 1_500_000, 50_000_000)
    assert read(AFTER).facts("m", "a") == told


def test_a_detector_s_quality_is_its_average_precision() -> None:
    detector = """\
# TYPE pareto_variant_quality gauge
pareto_variant_quality{model="m",variant="a",metric="ap_hard"} 0.7
pareto_variant_quality{model="m",variant="a",metric="ap_fp32"} 0.9
pareto_variant_quality{model="m",variant="a",metric="ap"} 0.8
"""
    facts = read(detector).facts("m", "a")
    assert (facts.metric, facts.quality) == ("ap", 0.8)


def test_facts_that_the_page_does_not_state_are_absent() -> None:
    assert read(AFTER).facts("m", "b") == Facts()


def test_cpu_is_summed_over_processes() -> None:
    samples = [Sample("process_cpu_seconds_total", {"worker": str(i)}, float(i)) for i in (1, 2)]
    assert Page(tuple(samples)).total("process_cpu_seconds_total") == 3.0


@pytest.mark.parametrize(("text", "status"), [("gone", 404), ("<html>", 200), ('x{a="b" 1', 200)])
def test_what_is_not_a_metrics_page_is_an_error(text: str, status: int) -> None:
    with pages(lambda: text, status) as url, pytest.raises(ScrapeError, match=f"metrics page {url}"):
        scrape(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/metrics", "nonsense"])
def test_an_address_where_nothing_answers_is_an_error(url: str) -> None:
    with pytest.raises(ScrapeError, match=f"metrics page {url}"):
        scrape(url)


def test_a_port_that_does_not_exist_is_not_taken_for_another() -> None:
    with pages(lambda: "x 1\n") as url:
        beyond = urlsplit(url)._replace(netloc=f"127.0.0.1:{(urlsplit(url).port or 0) + 2**16}").geturl()
        with pytest.raises(ScrapeError, match=f"metrics page {beyond}: Port out of range"):
            scrape(beyond)
