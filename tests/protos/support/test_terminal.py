"""How wide what programs print is, and what gives way where that is not enough."""

from pathlib import Path

import pytest

from protos.support.terminal import Screen, fits, fitting

HEADINGS = ("variant", "figure", "95% interval")
ROWS = [("channels50-int8-onnxruntime", "ms per answer", "1.300 to 1.700"), ("fp32-pytorch", "p50 ms", "from 0.900")]


def printed(width: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    screen = Screen()
    screen.width = width
    screen.print(fitting("8 users", HEADINGS, ROWS, right=(2,), width=width))
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_table_that_fits_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(80, capsys) == [
        "8 users",
        "variant                      figure           95% interval",
        "──────────────────────────────────────────────────────────",
        "channels50-int8-onnxruntime  ms per answer  1.300 to 1.700",
        "fp32-pytorch                 p50 ms             from 0.900",
    ]


def test_texts_break_between_words_before_names_are_folded(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(48, capsys) == [
        "8 users",
        "                                            95%",
        "variant                      figure    interval",
        "───────────────────────────────────────────────",
        "channels50-int8-onnxruntime  ms per    1.300 to",
        "                             answer       1.700",
        "fp32-pytorch                 p50 ms  from 0.900",
    ]


def test_names_are_folded_where_nothing_else_can_give_way(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(36, capsys)
    assert max(map(len, lines)) <= 36
    assert {"ms", "per", "answer", "1.300", "to", "1.700", "from", "0.900"} <= set(" ".join(lines).split())
    assert "channels50-int8-onnxruntime" in "".join(line[:16].strip() for line in lines)


def test_what_fits_is_known_before_it_is_printed() -> None:
    table = fitting("8 users", HEADINGS, ROWS, right=(2,), width=80)
    assert (fits(table, 58), fits(table, 57)) == (True, False)


@pytest.mark.parametrize(("columns", "width"), [("", 80), ("120", 120), ("wide", 80)])
def test_without_a_terminal_a_line_is_as_long_as_columns_says_else_80(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert (Screen().width, Screen(stderr=True).width) == (width, width)


def test_a_long_line_breaks_between_words_and_a_path_never(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    screen = Screen()
    screen.say("[b] of :x: waits: p99 is 40.00 ms")
    screen.report(Path("runs/a b/report-of-the-night.html"))
    assert capsys.readouterr().out.splitlines() == [
        "[b] of :x: waits:",
        "  p99 is 40.00 ms",
        "Report: runs/a b/report-of-the-night.html",
    ]
