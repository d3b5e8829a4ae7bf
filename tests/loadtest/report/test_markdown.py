"""`report.md` and `measurements.csv`: the report without plots."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from loadtest.analysis.ranking import rank_cells
from loadtest.analysis.results import Results
from loadtest.client.failures import Failure
from loadtest.decision.decision import Decision, decide
from loadtest.report.flips import gallery
from loadtest.report.markdown import markdown, measurements_csv
from loadtest.report.page import write_report
from loadtest.report.table import COLUMNS, titled
from loadtest.users.recorder import SAMPLE, Samples
from tests.support.loadtest.cells import NO_SERVER, cell, closed, comparison, results

NO_FLIPS = gallery(results(cell("a-x")))


def test_the_csv_has_every_column_as_it_was_measured() -> None:
    cells = [cell("a,x", 1 / 3, 0.5), cell("b-x", None, generator_limit="thread")]
    first, second = csv.DictReader(measurements_csv(results(*cells)).splitlines())
    columns = [column.title for column in titled(COLUMNS, cells)]
    assert list(first) == [*columns, "generator limit", "highest rate per second"]
    assert columns[:4] == ["variant", "load", "p99 ms", "rps"]
    assert (first["variant"], first["p99 ms"], first["generator limit"]) == ("a,x", "0.3333333333333333", "")
    assert (second["p99 ms"], second["generator limit"]) == ("", "thread")


def made(run: Results, **constraints: float) -> str:
    """The Markdown of a run that was made under these constraints."""
    run = replace(run, plan=replace(run.plan, **constraints))
    return markdown(run, decide(run), [rank_cells(run, load) for load in run.plan.loads], NO_FLIPS)


def test_the_markdown_tells_the_decision_of_each_load_and_the_warnings() -> None:
    few = (cell("int8-x", 9.0), cell("fp32-x", 30.0), cell("half-x", 8.0, rps=50.0))
    many = (cell("int8-x", 25.0, users=8), cell("fp32-x", 90.0, users=8, failures=2))
    shows = (comparison("int8-x", "half-x", 4.0), comparison("int8-x", "half-x", 1.21, "likely", "p50"))
    text = made(results(*few, *many, users=(1, 8), comparisons=shows), p99=20.0)
    assert "## For p99 within 20 ms\n\nShip **int8-x**: p99 9.00 ms and 100 requests/s at 1 user, " in text
    assert "\n\nRunner-up: half-x: p99 8.00 ms and 50 requests/s at 1 user, " in text
    one, eight = text.partition("### 1 user")[2].split("### 8 users")
    assert "\n\n| variant | p99 within 20 ms | verdict |\n| --- | --- | --- |\n" in one
    assert "| int8-x | 9.00 (8.10 to 9.90) met | ships |" in one
    against = "takes 4.00 times as long per answer (2.00 to 8.00), clear"
    assert f"| half-x | 8.00 (7.20 to 8.80) met | runner-up; {against} |" in one
    missed = "p99 at 1 user is 30.00 ms (27.00 to 33.00), 10.00 more than the 20 allowed"
    assert f"| fp32-x | 30.00 (27.00 to 33.00) broken | {missed} |" in one
    assert "| int8-x | 25.00 (22.50 to 27.50) broken | nearest; p99 at 8 users is 25.00 ms " in eight
    assert "- Calls failed in 1 of 5 measurements (fp32-x at 8 users, 2 of 1000: 2 UNAVAILABLE): see What" in text
    assert '```toml\ntarget = "localhost:1"' in text


def test_the_markdown_tells_the_way_in_where_it_is_known() -> None:
    run = replace(results(cell("a-x")), way_in="ModelInfer by pygrpc-native")
    assert "pareto-serve 0.1.0 at localhost:1, ModelInfer by pygrpc-native, measured 2026-01-01T" in made(run)
    assert "pareto-serve 0.1.0 at localhost:1, measured 2026-01-01T" in made(replace(run, way_in=""))


def test_the_markdown_tells_the_slowdown_against_the_fastest_and_sorts_by_it() -> None:
    shows = (comparison("a-x", "b-x", 1.21, "too close to call", "p50"),)
    text = made(results(cell("b-x", 2.2), cell("c-x", failures=2), cell("a-x", 2.0), comparisons=shows))
    heads = "## Slowdown against the fastest\n\n1 user:\n\n| variant | p50 ms | slowdown |\n| --- | --- | --- |\n"
    rows = "| a-x | 0.50 |  |\n| b-x | 0.55 | 1.21 (0.83 to 1.33), too close to call |\n"
    assert f"{heads}{rows}| c-x | 0.25 | not compared: 2 calls failed |" in text
    all_ = text.partition("## All measurements")[2]
    assert all_.index("c-x") < all_.index("a-x") < all_.index("b-x")


def test_without_an_answer_the_markdown_says_what_comes_nearest() -> None:
    text = made(results(cell("a-x", 30.0), cell("b-x", 25.0)), p99=20.0)
    assert "No answer: no variant meets all constraints at 1 user.\n\nNearest: b-x: p99 25.00 ms and " in text


def test_without_constraints_the_markdown_tells_the_frontier_of_each_load() -> None:
    text = made(results(cell("a-x"), cell("a-x", 9.0, users=8), users=(1, 8)))
    assert "## The frontier\n\n### 1 user\n\n- **a-x**: p99 1.00 ms and 100 requests/s at 1 user, " in text
    assert "### 8 users\n\n- **a-x**: p99 9.00 ms" in text


def test_both_are_written_beside_the_page(tmp_path: Path) -> None:
    nothing = Samples(np.zeros(0, SAMPLE), ("a-x",), (closed(1).key,))
    write_report(results(cell("a-x")), Decision(""), nothing, tmp_path / "report.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["measurements.csv", "report.html", "report.md"]


def test_cost_and_capacity_are_told_for_every_variant() -> None:
    cells = [cell("a-x", 9.0, rps=300.0, server=replace(NO_SERVER, cpu_us_per_request=1234.5)), cell("b-x", 30.0)]
    cells.append(cell("a-x", 18.0, rps=450.4, users=8, generator_limit="thread"))
    text = made(results(*cells, users=(1, 8)), p99=20.0)
    heads = "| variant | CPU-seconds per thousand answers | highest rate per second | known from |"
    rules = "| --- | --- | --- | --- |"
    assert f"## Cost and capacity\n\n{heads}\n{rules}\n| a-x | 1.234 | at least 450 | 8 users |\n" in text
    assert "\n| b-x | n/a | n/a | n/a |\n" in text
    run = results(*cells, users=(1, 8))
    rows = csv.DictReader(measurements_csv(replace(run, plan=replace(run.plan, p99=20.0))).splitlines())
    assert [row["highest rate per second"] for row in rows] == ["450.4", "", "450.4"]
    assert [row["CPU s per 1,000"] for row in csv.DictReader(measurements_csv(run).splitlines())] == ["1.2345", "", ""]


def test_what_a_server_says_in_a_warning_is_no_markup() -> None:
    evil = replace(cell("a-x", failures=1), failure_texts=(Failure("INTERNAL", "<b>gone</b>", 1),))
    assert r"most often: \<b\>gone\</b\>): see What failed" in made(results(evil))
