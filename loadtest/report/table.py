"""The table that a run prints for people, whole at every width: no figure of it is ever cut."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.analysis.results import Results
from loadtest.measure.measurement import Search
from loadtest.measure.rate_search import BEYOND
from loadtest.report.columns import COLUMNS, Column

LEAVE_OUT = ("generator CPU", "compute ms", "failures", "p95 ms")
"""Columns that a narrow terminal does without, in this order; the report has them all."""


def table(results: Results, width: int) -> Table:
    """One row for each cell, the best p50 first within a load; red where a cell is not to be believed.

    Of the `LEAVE_OUT` as many are left out as `width` columns of characters ask for. If that is not enough,
    names are folded.
    """
    columns = [column for column in COLUMNS if column.brief]
    for title in LEAVE_OUT:
        if _width(grid := _grid(results, columns)) <= width:
            return grid
        columns = [column for column in columns if column.title != title]
    return _grid(results, columns)


def searches_table(results: Results) -> Table:
    """The highest rate of each variant, as the interval that was found, and whether fresh trials confirmed it."""
    objective = results.searches[0].objective
    title = f"highest rate with p99 within {objective.p99_ms:g} ms, failures {100 * objective.error_rate:g}%"
    grid = Table(title=title, box=box.SIMPLE_HEAD, collapse_padding=True)
    grid.add_column("variant", overflow="fold")
    for heading in ("rate that\nholds", "lowest that\nbroke"):
        grid.add_column(heading, justify="right")
    grid.add_column("bounded by")
    grid.add_column("confirmed")
    for search in results.searches:
        found = search.found
        rates = ("none" if rate is None else f"{rate:,.1f}" for rate in (found.held, found.broke))
        grid.add_row(search.variant, *rates, found.bounded_by, confirmed(search))
    return grid


def confirmed(search: Search) -> str:
    """What fresh trials said of the rate that was found."""
    found = search.found
    if found.held is None:
        return "n/a"
    if not found.held_again:
        return "no"
    return f"holds again, breaks at {BEYOND:g} times" if found.breaks_beyond else "holds again"


def _grid(results: Results, columns: Sequence[Column]) -> Table:
    grid = Table(title=f"{results.plan.model} on {results.plan.target}", box=box.SIMPLE_HEAD, collapse_padding=True)
    for column in columns:
        if column.title == "variant":
            grid.add_column(column.title, overflow="fold")
        else:
            grid.add_column(column.title.replace(" ", "\n"), justify="right", no_wrap=True)
    for cell in sorted(results.cells, key=lambda cell: (cell.load, cell.latency_ms.p50 or float("inf"))):
        style = "red" if cell.failures or cell.generator_limited else None
        grid.add_row(*(column.text(cell, brief=True) for column in columns), style=style)
    return grid


def _width(grid: Table) -> int:
    """Columns of characters that it takes with nothing folded."""
    return Console(width=10_000).measure(grid).maximum
