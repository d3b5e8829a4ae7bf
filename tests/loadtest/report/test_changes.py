"""What `compare` found, on a terminal, as Markdown and as JUnit XML."""

import io
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from rich.console import Console

from loadtest.analysis.run_comparison import Change, Changes, LeftOut
from loadtest.report.changes import junit, markdown, tables

SLOWER = Change("a|b", "1 user", "p50 ms", 1.0, 1.5, 1.5, (1.3, 1.7), "clear", "slower")
SAME = Change("a|b", "1 user", "p99 ms", 2.0, 2.1, 1.05, (0.9, None), "too close to call", "slower")
FASTER = Change("c", "8 users", "p50 ms", 2.0, 1.8, 0.9, (0.8, 1.01), "likely", "faster")
GONE = LeftOut("d", "1 user", "only in the first run")


def found(*changes: Change, tolerance: float = 0.0) -> Changes:
    return Changes(changes, (GONE,), ("server: <a> in the first run, b in the second",), tolerance)


@pytest.mark.parametrize("width", [80, 200])
def test_a_terminal_has_a_table_for_each_load_in_which_nothing_is_cut(width: int) -> None:
    names = "channels50-int8-onnxruntime", "fp32-torchscript"
    changes = [replace(SLOWER, variant=names[0], figure="ms per answer", before=123.456, after=1234.567)]
    changes += [replace(SAME, variant=names[1]), replace(FASTER, variant=names[0])]
    console = Console(width=width, record=True, file=io.StringIO())
    for table in tables(found(*changes), width):
        console.print(table)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert [line.strip() for line in text.splitlines() if " user" in line] == ["1 user", "8 users"]
    assert {"123.456", "1234.567", "1.500", "1.700", "1.050", "0.900", "likely", "faster"} <= set(text.split())
    assert "…" not in text


def test_markdown_has_the_verdict_what_changed_and_what_else_differed() -> None:
    assert markdown(found(SAME, FASTER, SLOWER)).split("\n\n") == [
        "**1 of 3 figures got slower beyond doubt: 1 likely faster, 1 slower, 1 too close to call**",
        "| variant | load | figure | first | second | ratio | 95% interval | the second is |\n"
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| a\\|b | 1 user | p50 ms | 1.000 | 1.500 | 1.500 | 1.300 to 1.700 | slower |\n"
        "| c | 8 users | p50 ms | 2.000 | 1.800 | 0.900 | 0.800 to 1.010 | likely faster |",
        "- left out: d, 1 user: only in the first run\n"
        "- not the same: server: \\<a\\> in the first run, b in the second\n",
    ]


def test_junit_fails_what_is_slower_and_skips_what_could_not_be_compared() -> None:
    suite = ElementTree.fromstring(junit(found(SLOWER, SAME)))
    assert (suite.tag, suite.attrib) == (
        "testsuite",
        {"name": "pareto-loadtest compare", "tests": "3", "failures": "1", "errors": "0", "skipped": "1"},
    )
    cases = [(case.get("classname"), case.get("name"), [each.tag for each in case]) for case in suite]
    assert cases == [
        ("a|b", "1 user, p50 ms", ["failure", "system-out"]),
        ("a|b", "1 user, p99 ms", ["system-out"]),
        ("d", "1 user", ["skipped"]),
    ]
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "a|b, 1 user, p50 ms: 1.000, then 1.500: 1.500 times (1.300 to 1.700), slower"


@pytest.mark.parametrize(("tolerance", "failures"), [(0.29, 1), (0.31, 0)])
def test_what_may_be_slower_by_less_than_the_tolerance_is_no_failure(tolerance: float, failures: int) -> None:
    suite = ElementTree.fromstring(junit(found(SLOWER, tolerance=tolerance)))
    assert suite.get("failures") == str(failures)
    assert len(suite.findall("testcase/failure")) == failures


def test_a_name_with_control_characters_is_still_xml() -> None:
    odd = Changes((), (LeftOut("a\x00<", "1 user", "\x1b[31m"),), ())
    (case,) = ElementTree.fromstring(junit(odd))
    assert case.get("classname") == "a <"
