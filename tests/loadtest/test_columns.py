"""What is shown of a cell, and how what was not measured is shown."""

import io

from rich.console import Console

from loadtest.columns import COLUMNS
from loadtest.results import Cell
from loadtest.table import table
from tests.loadtest.cells import cell, results


def shown(one: Cell) -> dict[str, str]:
    return {column.title: column.text(one) for column in COLUMNS}


def test_figures_are_rounded_for_people() -> None:
    texts = shown(cell("int8-openvino", p99=2.6012, top1=0.97654, rps=1234.5))
    assert (texts["p99 ms"], texts["top-1"], texts["rps"], texts["generator CPU"]) == ("2.60", "97.65%", "1,234", "50%")


def test_a_percentile_of_too_few_samples_says_how_many_there_were() -> None:
    assert shown(cell("int8-openvino", p99=None))["p99 ms"] == "n/a (900 samples)"


def test_what_was_not_measured_is_not_zero() -> None:
    texts = shown(cell("v1", top1=None))
    assert {texts[title] for title in ("top-1", "agreement", "queue ms", "compute ms", "size MB")} == {"n/a"}


def test_the_terminal_s_table_has_the_fastest_first() -> None:
    console = Console(width=140, file=(output := io.StringIO()))
    console.print(table(results(cell("fp32-pytorch", 8.0), cell("int8-openvino", 2.0))))
    text = output.getvalue()
    assert 0 < text.index("int8-openvino") < text.index("fp32-pytorch")
