"""What is shown of a cell, and how what was not measured is shown."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from loadtest.analysis.results import Cell, Results, ServerSide
from loadtest.client.failures import Failure
from loadtest.decision.decision import decide
from loadtest.measure.measurement import Search
from loadtest.measure.rate_search import Found, Objective
from loadtest.report.table import COLUMNS, SEARCH_COLUMNS, decision_lines, search_row, table, titled
from tests.support.loadtest.cells import cell, comparison, results


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


def printed(run: Results, width: int) -> str:
    console = Console(width=width, file=(output := io.StringIO()))
    console.print(table(run, width))
    return output.getvalue()


def test_the_terminal_s_table_has_the_fastest_first() -> None:
    text = printed(results(cell("fp32-pytorch", 8.0), cell("int8-openvino", 2.0)), 140)
    assert 0 < text.index("int8-openvino") < text.index("fp32-pytorch")


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_figure_of_the_terminal_s_table_is_cut(width: int) -> None:
    slow = replace(cell("channels50-int8-torchscript", 1234.56, rps=12_345.0), server=ServerSide(1, 0.1, 1012.34, 9.0))
    text = printed(results(slow, cell("fp32-pytorch", None)), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert {"channels50-int8-torchscript", "308.64", "1234.56", "12,345", "90.00%", "n/a"} <= set(text.split())


def test_a_narrow_terminal_does_without_what_matters_least() -> None:
    run = results(cell("channels50-int8-torchscript", 1234.56), cell("fp32-pytorch", None))
    assert all(title in printed(run, 140) for title in ("generator", "compute", "failures", "p95"))
    assert "generator" not in printed(run, 80)


def test_a_name_longer_than_the_terminal_is_folded_and_no_figure_is_cut() -> None:
    text = printed(results(cell("a" * 100 + "-x", 1234.56)), 80)
    assert "…" not in text
    assert {"308.64", "1234.56", "90.00%"} <= set(text.split())
    assert text.count("a") >= 100


def lines(run: Results, **constraints: float) -> list[str]:
    return [*decision_lines(decide(replace(run, plan=replace(run.plan, **constraints))))]


def test_a_terminal_shows_all_variants_under_the_load_that_decides_and_the_best_under_others() -> None:
    cells = (
        cell("a-x", 9.0, None, rps=300),
        cell("b-x", 9.5, None, rps=200),
        cell("c-x", 9.5, None, rps=150),
        cell("d-x", 9.5, None, rps=90),
        cell("e-x", 40.0, None, rps=80),
        cell("a-x", 30.0, None, rps=400, users=8),
    )
    shows = (
        comparison("a-x", "b-x", 1.21, "likely"),
        comparison("a-x", "c-x", 1.21, "too close to call"),
        comparison("a-x", "d-x", 4.0),
    )
    assert lines(results(*cells, users=(1, 8), comparisons=shows), p99=20.0) == [
        "ship a-x: p99 9.00 ms and 300 requests/s at 1 user",
        "  runner-up b-x: takes 1.21 times as long per answer (0.83 to 1.33), likely",
        "  close c-x: takes 1.21 times as long per answer (0.83 to 1.33), too close to call",
        "  not d-x: takes 4.00 times as long per answer (2.00 to 8.00), clear",
        "  not e-x: p99 at 1 user is 40.00 ms (36.00 to 44.00), 20.00 more than the 20 allowed",
        "at 8 users: ship nothing; nearest a-x: p99 30.00 ms and 400 requests/s at 8 users;"
        " p99 at 8 users is 30.00 ms (27.00 to 33.00), 10.00 more than the 20 allowed",
    ]


def test_a_terminal_names_the_nearest_where_nothing_ships_and_says_nothing_without_constraints() -> None:
    run = results(cell("a-x", 40.0), cell("b-x", 30.0))
    first, second, third = lines(run, p99=20.0)
    assert first == "ship nothing: no variant meets all constraints at 1 user"
    assert (second[:16], third[:10]) == ("  nearest b-x: p", "  not a-x:")
    assert lines(run) == []


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
