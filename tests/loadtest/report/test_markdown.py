"""`report.md` and `cells.csv`: the report without plots."""

import csv
from pathlib import Path

import numpy as np

from loadtest.analysis.decision import Choice, Decision, Loser
from loadtest.analysis.ranking import rank_cells
from loadtest.report.flips import gallery
from loadtest.report.markdown import cells_csv, markdown
from loadtest.report.page import write_report
from loadtest.report.table import COLUMNS, titled
from loadtest.users.recorder import SAMPLE, Samples
from tests.support.loadtest.cells import cell, closed, results

ASKED = "p99 within 20 ms"
NO_FLIPS = gallery(results(cell("a-x")))


def test_the_csv_has_every_column_as_it_was_measured() -> None:
    cells = [cell("a,x", 1 / 3, 0.5), cell("b-x", None, generator_limit="thread")]
    first, second = csv.DictReader(cells_csv(cells).splitlines())
    assert list(first) == [*(column.title for column in titled(COLUMNS, cells)), "generator limit"]
    assert (first["variant"], first["p99 ms"], first["generator limit"]) == ("a,x", "0.3333333333333333", "")
    assert (second["p99 ms"], second["generator limit"]) == ("", "thread")


def test_the_markdown_tells_the_decision_ranks_and_warnings() -> None:
    winner, slow = cell("int8-x", 9.0), cell("fp32-x", 30.0, failures=2)
    run = results(winner, slow)
    winning = Choice(cell=winner, sentence="fastest", tied_with=("b-x",))
    decision = Decision(ASKED, winner=winning, losers=(Loser("fp32-x", ("p99 | 30 ms",)),))
    text = markdown(run, decision, [rank_cells(run.cells, closed(1))], NO_FLIPS)
    assert "## For p99 within 20 ms\n\nShip **int8-x**: fastest. Tied with b-x." in text
    assert "| fp32-x | p99 \\| 30 ms |" in text
    assert "1 user:\n\n| rank | variant | p50 ms |\n| --- | --- | --- |\n| 1 | int8-x | 2.25 |" in text
    assert "| - | fp32-x: 2 calls failed |  |" in text
    assert "- fp32-x, 1 user: 2 of 1000 calls failed (2 UNAVAILABLE)" in text
    assert '```toml\ntarget = "localhost:1"' in text


def test_the_markdown_says_that_rounds_are_too_few_to_show_a_difference() -> None:
    run = results(cell("a-x"), cell("b-x"))
    text = markdown(run, Decision(""), [rank_cells(run.cells, closed(1))], NO_FLIPS)
    assert "1 user (2 rounds, 6 needed: no difference can be shown):" in text


def test_without_an_answer_the_markdown_says_why() -> None:
    run = results(cell("a-x"))
    text = markdown(run, Decision(ASKED, why_not="none holds"), [], NO_FLIPS)
    assert "No answer: none holds." in text


def test_both_are_written_beside_the_page(tmp_path: Path) -> None:
    nothing = Samples(np.zeros(0, SAMPLE), ("a-x",), (closed(1).key,))
    write_report(results(cell("a-x")), Decision(ASKED), nothing, tmp_path / "report.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.csv", "report.html", "report.md"]
