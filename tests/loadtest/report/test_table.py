"""What is shown of a cell, and how what was not measured is shown."""

from dataclasses import replace

from loadtest.analysis.results import Cell
from loadtest.report.table import COLUMNS, titled
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
