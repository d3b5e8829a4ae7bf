"""What a run and a history print: no number is cut at any width, and the answer stands last."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from loadtest.analysis.history import CellFigures, Entry
from loadtest.analysis.results import Results, ServerSide
from loadtest.decision.decision import decide
from loadtest.report.terminal import decision_lines, document, history_table, last_run, show, tables
from protos.support.terminal import Screen
from tests.support.loadtest.cells import cell, comparison, results

A = CellFigures("channels50-int8-onnxruntime", "1 user", 1.0, 4.0, 90.0, 0.9)
B = CellFigures("b-x", "100 per second", 2.0, None, 1234.5, None)
ENTRY = Entry("2026-01-01T00:01:00+00:00", "x", "toy", "c0ffee", "2 cores", "b-x", "100 per second", (A, B))


def printed(run: Results, width: int) -> str:
    console = Console(width=width, file=(output := io.StringIO()))
    for table in tables(run, decide(run), width):
        console.print(table)
    return output.getvalue()


def test_each_load_has_a_table_with_the_fastest_first() -> None:
    cells = cell("fp32-pytorch", 8.0), cell("int8-openvino", 2.0), cell("int8-openvino", 9.0, users=8)
    heading = [
        "                p99                p50   p95  compute  generator",
        "variant          ms  rps   top-1    ms    ms       ms        CPU  failures",
        "─" * 74,
    ]
    assert [line.rstrip() for line in printed(results(*cells, users=(1, 8)), 80).splitlines()] == [
        "1 user",
        *heading,
        "int8-openvino  2.00  100  90.00%  0.50  1.00      n/a        50%         0",
        "fp32-pytorch   8.00  100  90.00%  2.00  4.00      n/a        50%         0",
        "8 users",
        *heading,
        "int8-openvino  9.00  100  90.00%  2.25  4.50      n/a        50%         0",
    ]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_figure_of_the_table_is_cut(width: int) -> None:
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


SHIPPED = results(
    cell("a-x", 9.0, None, rps=300),
    cell("b-x", 9.5, None, rps=200),
    cell("c-x", 9.5, None, rps=150),
    cell("d-x", 9.5, None, rps=90),
    cell("e-x", 40.0, None, rps=80),
    cell("a-x", 30.0, None, rps=400, users=8),
    users=(1, 8),
    comparisons=(
        comparison("a-x", "b-x", 1.21, "likely"),
        comparison("a-x", "c-x", 1.21, "too close to call"),
        comparison("a-x", "d-x", 4.0),
    ),
)


def test_what_ships_stands_last_after_all_others_at_the_load_that_decides_and_the_best_at_other_loads() -> None:
    assert lines(SHIPPED, p99=20.0) == [
        "For p99 within 20 ms, at 1 user:",
        "  runner-up b-x: takes 1.21 times as long per answer (0.83 to 1.33), likely",
        "  close c-x: takes 1.21 times as long per answer (0.83 to 1.33), too close to call",
        "  not d-x: takes 4.00 times as long per answer (2.00 to 8.00), clear",
        "  not e-x: p99 at 1 user is 40.00 ms (36.00 to 44.00), 20.00 more than the 20 allowed",
        "At 8 users: ship nothing; nearest a-x: p99 30.00 ms and 400 requests/s at 8 users;"
        " p99 at 8 users is 30.00 ms (27.00 to 33.00), 10.00 more than the 20 allowed",
        "",
        "Ship a-x: p99 9.00 ms and 300 requests/s at 1 user",
    ]


def test_where_nothing_ships_the_nearest_is_named_before_that_is_said() -> None:
    heading, first, second, _, last = lines(results(cell("a-x", 40.0), cell("b-x", 30.0)), p99=20.0)
    assert heading == "For p99 within 20 ms, at 1 user:"
    assert (first[:16], second[:10]) == ("  nearest b-x: p", "  not a-x:")
    assert last == "Ship nothing: no variant meets all constraints at 1 user"


def test_without_constraints_the_frontier_is_told_in_words() -> None:
    run = results(cell("a-x", 40.0, 0.95), cell("b-x", 30.0, 0.9), cell("c-x", 50.0, 0.8))
    assert lines(run) == [
        "Frontier at 1 user, the fastest first",
        "  b-x: p99 30.00 ms and 100 requests/s at 1 user, top-1 90.00%; the fastest",
        "  a-x: p99 40.00 ms and 100 requests/s at 1 user, top-1 95.00%; 5.00 points more accurate than b-x, and 1.3"
        " times its p99",
    ]


def test_a_load_without_a_frontier_says_so() -> None:
    (said,) = lines(results(cell("a-x", None), cell("b-x", 30.0, None)))
    assert said == "Frontier at 1 user: none, p99 or accuracy is not known"


def test_lines_break_between_words_with_what_follows_indented(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = replace(SHIPPED, plan=replace(SHIPPED.plan, p99=20.0), way_in="ModelInfer by grpcio")
    show(run, decide(run), Screen())
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "toy on localhost:1, ModelInfer by grpcio"
    assert max(map(len, shown)) <= 80
    assert shown[-7:] == [
        "  not e-x: p99 at 1 user is 40.00 ms (36.00 to 44.00), 20.00 more than the 20",
        "    allowed",
        "At 8 users: ship nothing; nearest a-x: p99 30.00 ms and 400 requests/s at 8",
        "    users; p99 at 8 users is 30.00 ms (27.00 to 33.00), 10.00 more than the 20",
        "    allowed",
        "",
        "Ship a-x: p99 9.00 ms and 300 requests/s at 1 user",
    ]


def test_the_document_names_what_ships_or_the_frontier() -> None:
    run = replace(SHIPPED, plan=replace(SHIPPED.plan, p99=20.0))
    asked = json.loads(document(run, decide(run), {"report": "r"}))
    assert (asked["report"], asked["winner"], asked["load"], asked["frontier"]["1 user"]) == ("r", "a-x", "1 user", [])
    free = results(cell("a-x", 40.0, 0.95), cell("b-x", 30.0, 0.9))
    open_ = json.loads(document(free, decide(free), {}))
    assert (open_["winner"], open_["load"], open_["frontier"]) == (None, None, {"1 user": ["b-x", "a-x"]})


def history(width: int, *entries: Entry) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(history_table(entries, width))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_history_has_the_winner_of_each_run_or_the_fastest() -> None:
    rows = [line.split("  ") for line in history(140, ENTRY, replace(ENTRY, winner=None)) if "c0ffee" in line]
    assert [[cell.strip() for cell in row if cell] for row in rows] == [
        ["2026-01-01 00:01", "x", "c0ffee", "b-x", "100 per second", "2.00", "n/a", "1,234"],
        ["2026-01-01 00:01", "x", "c0ffee", "channels50-int8-onnxruntime", "1 user", "1.00", "4.00", "90"],
    ]


def test_80_columns_have_all_of_the_history_but_the_commit() -> None:
    assert history(80, replace(ENTRY, run="nightly-2"), replace(ENTRY, winner=None, run="nightly-3")) == [
        "the last 2 of 2 runs",
        "                                                              p50   p99",
        "finished    run        variant                      load       ms    ms    rps",
        "─" * 78,
        "2026-01-01  nightly-2  b-x                          100 per  2.00   n/a  1,234",
        "00:01                                               second",
        "2026-01-01  nightly-3  channels50-int8-onnxruntime  1 user   1.00  4.00     90",
        "00:01",
    ]


def test_an_empty_line_parts_machines() -> None:
    assert [bool(line) for line in history(140, ENTRY, replace(ENTRY, machine="4 cores"))[-3:]] == [True, False, True]
    assert all(history(140, ENTRY, ENTRY))


def test_the_last_run_s_winner_is_said() -> None:
    assert last_run([ENTRY]) == "Ship b-x, as the last run (x) decided at 100 per second"
    assert last_run([replace(ENTRY, winner=None)]).startswith("The last run (x) has no winner: ")
