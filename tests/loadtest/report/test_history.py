"""The history's page, and the program that writes it."""

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.__main__ import main
from loadtest.analysis.history import CellFigures, Entry, append
from loadtest.report.history import page
from protos.support.plots.style import color, shape
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


@pytest.mark.parametrize("named", ["", "history.jsonl"])
def test_the_program_writes_the_page_beside_the_history(
    named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(ENTRY, tmp_path / "history.jsonl")
    assert main(["history", str(tmp_path / named)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "Ship b-x, as the last run (x) decided at 1 user",
        f"Report: {tmp_path / 'history.html'}",
    ]
    assert (tmp_path / "history.html").is_file()


def test_json_is_alone_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append(ENTRY, tmp_path / "history.jsonl")
    assert main(["history", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["report"] == str(tmp_path / "history.html")
    assert [(run["run"], run["winner"], len(run["cells"])) for run in document["runs"]] == [("x", "b-x", 2)]


def test_a_reader_that_is_gone_is_no_traceback(tmp_path: Path) -> None:
    append(ENTRY, tmp_path / "history.jsonl")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        command = [*LOADTEST, "history", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (141, "")
