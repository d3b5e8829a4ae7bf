"""What is shown of a cell, and how what was not measured is shown."""

from dataclasses import replace
from typing import Any

import pytest

from loadtest.analysis.results import Cell, ServerSide
from loadtest.client.failures import Failure
from loadtest.measure.measurement import Search
from loadtest.measure.rate_search import Found, Objective
from loadtest.report.table import COLUMNS, SEARCH_COLUMNS, search_row, titled
from tests.support.loadtest.cells import cell


def shown(one: Cell) -> dict[str, str]:
    return {column.title: column.text(one) for column in titled(COLUMNS, [one])}


def test_figures_are_rounded_for_people() -> None:
    texts = shown(cell("int8-openvino", p99=2.6012, quality=0.97654, rps=1234.5))
    assert (texts["p99 ms"], texts["top-1"], texts["rps"], texts["generator CPU"]) == ("2.60", "97.65%", "1,234", "50%")


def test_the_metric_is_the_task_s() -> None:
    assert shown(cell("int8-openvino", quality=0.5, metric="ap"))["AP"] == "50.00%"


def test_intervals_are_in_percent_and_points_and_fp32_pytorch_is_below_itself_by_nothing() -> None:
    int8 = cell("int8-openvino", drop_interval=(-0.001, 0.0123))
    int8 = replace(int8, facts=replace(int8.facts, quality_interval=(0.9, 0.925)))
    assert (shown(int8)["top-1, 95%"], shown(int8)["drop, 95%"]) == ("90.00 to 92.50", "-0.10 to 1.23")
    assert shown(cell("fp32-pytorch", drop_interval=(-0.01, 0.01)))["drop, 95%"] == "0.00 to 0.00"
    assert shown(cell("fp32-pytorch"))["drop, 95%"] == "n/a"


def test_a_percentile_of_too_few_samples_says_how_many_there_were() -> None:
    assert shown(cell("int8-openvino", p99=None))["p99 ms"] == "n/a (120 samples)"


def test_what_was_not_measured_is_not_zero() -> None:
    texts = shown(cell("v1", quality=None))
    assert {texts[title] for title in ("accuracy", "agreement", "queue ms", "compute ms", "size MB")} == {"n/a"}


@pytest.mark.parametrize(
    ("bounded_by", "status", "words"),
    [
        ("p99", None, "p99"),
        ("errors", "RESOURCE_EXHAUSTED", "rejected requests"),
        ("errors", "UNAVAILABLE", "failed requests"),
        ("generator", None, "the load generator"),
        ("highest", None, "nothing: all trials held"),
    ],
)
def test_a_search_says_in_words_what_limits_the_rate(bounded_by: Any, status: str | None, words: str) -> None:
    said = (Failure(status, "full", 3),) if status else ()
    search = Search("a-x", Objective(20.0), Found(90.0, None, None, bounded_by, ()), said)
    assert dict(zip(SEARCH_COLUMNS, search_row(search), strict=True))["limited by"] == words


def test_every_column_says_why_a_measurement_has_no_value() -> None:
    reasons = {column.title: column.reason(cell("v1", None, None)) for column in COLUMNS}
    assert reasons["p99 ms"] == "too few samples: 120, 299 needed"
    assert reasons["p50 ms"] == "too few samples: 120, 5 needed"
    assert reasons["asked rps"] == "the server sets the pace of this load"
    assert reasons["compute ms"] == "the server's metrics page does not say it"


def test_cpu_is_that_of_a_thousand_answers() -> None:
    used = cell("v1", server=ServerSide(1, None, None, 896.4))
    assert shown(used)["CPU s per 1,000"] == "0.896"
