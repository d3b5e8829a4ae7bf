"""The history's table and page."""

import io
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from loadtest.analysis.history import CellFigures, Entry, append
from loadtest.report.history import page, table
from protos.support.plot_style import color, shape
from tests.support.loadtest.runs import LOADTEST
from tests.support.serving import ROOT

A, B = CellFigures("a-x", "1 user", 1.0, 4.0, 90.0, 0.9), CellFigures("b-x", "1 user", 2.0, None, 50.0, None)
ENTRY = Entry("2026-01-01T00:01:00+00:00", "x", "toy", "c0ffee", "2 cores", "b-x", "1 user", (A, B))


def lines(text: str) -> list[tuple[str, list[object]]]:
    """Name and values of each line of the page's plots."""
    found = re.search(r'Plotly\.newPlot\(\s*"[^"]*",\s*(\[.*?\]),\s*\{"', text, re.DOTALL)
    assert found
    return [(trace["name"], trace["y"]) for trace in json.loads(found[1])]


def test_the_page_has_a_line_for_each_variant_and_figure_broken_where_the_machine_changed() -> None:
    moved = replace(ENTRY, machine="4 cores", cells=(replace(A, p50_ms=0.5),))
    assert lines(page([ENTRY, ENTRY, moved])) == [
        ("toy a-x", [1.0, 1.0, None, 0.5]),
        ("toy b-x", [2.0, 2.0]),
        ("toy a-x", [4.0, 4.0, None, 4.0]),
        ("toy b-x", [None, None]),
        ("toy a-x", [90.0, 90.0, None, 90.0]),
        ("toy b-x", [50.0, 50.0]),
    ]


def test_a_line_has_the_colour_of_its_runtime_and_the_dash_of_its_recipe() -> None:
    text = page([replace(ENTRY, cells=(replace(A, variant="channels50-openvino @ triton"),))])
    assert f'"line":{{"color":"{color("openvino")}","dash":"{shape("channels50").dash}"}}' in text
    assert len(text) < 2e6


def test_models_of_one_folder_are_apart() -> None:
    names = {name for name, _ in lines(page([ENTRY, replace(ENTRY, model="other")]))}
    assert names == {"toy a-x", "toy b-x", "other a-x", "other b-x"}


def test_the_page_needs_no_network_and_takes_no_name_for_markup() -> None:
    text = page([replace(ENTRY, run="</script><b>", cells=(replace(A, variant="</script><b>"),))])
    assert "</script><b>" not in text
    assert not re.search(r'<(script|link)[^>]*(src|href)="http', text)


def test_a_run_without_cells_has_a_page_too() -> None:
    assert "<html" in page([replace(ENTRY, cells=())])


def test_the_table_has_the_winner_of_each_run_or_the_fastest() -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(table([ENTRY, replace(ENTRY, winner=None)]))
    rows = [line.split() for line in console.export_text().splitlines() if "c0ffee" in line]
    assert [row[3:] for row in rows] == [
        ["b-x", "1", "user", "2.00", "n/a", "50.00"],
        ["a-x", "1", "user", "1.00", "4.00", "90.00"],
    ]


@pytest.mark.parametrize("named", ["", "history.jsonl"])
def test_the_program_writes_the_page_beside_the_history(named: str, tmp_path: Path) -> None:
    append(ENTRY, tmp_path / "history.jsonl")
    done = subprocess.run(
        [*LOADTEST, "history", str(tmp_path / named)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"runs": 1, "page": str(tmp_path / "history.html")}
    assert (tmp_path / "history.html").is_file()
