"""The table that a run prints for people."""

from rich import box
from rich.table import Table

from loadtest.columns import COLUMNS
from loadtest.results import Results


def table(results: Results) -> Table:
    """One row for each cell, the best p50 first within a number of users; red where a cell is not to be believed."""
    columns = [column for column in COLUMNS if column.brief]
    grid = Table(title=f"{results.plan.model} on {results.plan.target}", box=box.SIMPLE_HEAD)
    for column in columns:
        justify = "left" if column.title == "variant" else "right"
        grid.add_column(column.title.replace(" ", "\n"), justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for cell in sorted(results.cells, key=lambda cell: (cell.users, cell.latency_ms.p50 or float("inf"))):
        style = "red" if cell.failures or cell.generator_limited else None
        grid.add_row(*(column.text(cell) for column in columns), style=style)
    return grid
