"""What `compare` found, for a terminal, for Markdown (GitHub's step summary) and as JUnit XML for a CI's list of tests.

JUnit has a test case for each comparison: one that failed is slower by more than the tolerance beyond doubt, one that
was skipped could not be compared.
"""

from collections.abc import Iterator
from xml.etree import ElementTree

from rich.table import Table

from loadtest.analysis.run_comparison import Change, Changes
from protos.support.markdown import inert
from protos.support.markdown import table as markdown_table
from protos.support.terminal import fitting

HEADINGS = ("variant", "load", "figure", "first", "second", "ratio", "95% interval", "the second is")
"""Columns of the table in Markdown; on a terminal the load is a heading."""
NUMBERS = 3
"""The first of the columns that are numbers."""


def tables(changes: Changes, width: int) -> Iterator[Table]:
    """Yields a table for each load with a row for each comparison, the slowest first."""
    for load in dict.fromkeys(each.load for each in changes.changes):
        mine = [each for each in _slowest_first(changes) if each.load == load]
        headings, *rows = ([row[0], *row[2:]] for row in (HEADINGS, *map(_row, mine)))
        table = fitting(load, headings, rows, range(2, 6), width)
        for each, row in zip(mine, table.rows, strict=True):
            row.style = "red" if each.fails(changes.tolerance) else None
        yield table


def markdown(changes: Changes) -> str:
    """Returns the verdict, a table of what changed, and what else was not the same."""
    moved = [each for each in _slowest_first(changes) if each.verdict != "too close to call"]
    sections = [f"**{changes.summary}**"]
    if moved:
        sections.append(markdown_table(HEADINGS, [_row(each) for each in moved], NUMBERS))
    if notes := [*changes.notes()]:
        sections.append("\n".join(f"- {inert(note)}" for note in notes))
    return "\n\n".join(sections) + "\n"


def junit(changes: Changes) -> str:
    """Returns one test suite with a test case for each comparison, as JUnit XML."""
    skipped, counts = len(changes.left_out), {"tests": len(changes.changes) + len(changes.left_out)}
    counts |= {"failures": changes.failures, "errors": 0, "skipped": skipped}
    shown = {name: str(count) for name, count in counts.items()}
    suite = ElementTree.Element("testsuite", {"name": "pareto-loadtest compare", **shown})
    for each in changes.changes:
        case = _case(suite, each.variant, f"{each.load}, {each.figure}")
        if each.fails(changes.tolerance):
            ElementTree.SubElement(case, "failure", message=_printable(str(each)))
        ElementTree.SubElement(case, "system-out").text = _printable(str(each))
    for gone in changes.left_out:
        ElementTree.SubElement(_case(suite, gone.variant, gone.what), "skipped", message=_printable(gone.reason))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, "unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, variant: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_printable(variant), name=_printable(name))


def _printable(text: str) -> str:
    """Returns the text without the control characters that XML cannot hold."""
    return "".join(character if character.isprintable() else " " for character in text)


def _slowest_first(changes: Changes) -> Iterator[Change]:
    return iter(sorted(changes.changes, key=lambda each: -each.ratio))


def _row(change: Change) -> tuple[str, ...]:
    numbers = (f"{value:.3f}" for value in (change.before, change.after, change.ratio))
    return change.variant, change.load, change.figure, *numbers, change.interval_text, change.said
