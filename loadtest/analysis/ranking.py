"""How much slower than the fastest the variants under one load are, by p50.

Sorted by the p50 that tables show, which is of all calls. Ratios are of the rounds (see `comparison`), in which drift
cancels: that of two variants may differ a little from that of their p50. Cells that are not valid or have no p50 are
left out.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from loadtest.analysis.comparison import Comparison, Verdict
from loadtest.analysis.results import Cell, Results
from loadtest.analysis.validity import invalid_reason, is_valid
from loadtest.decision.constraints import span
from loadtest.plan import Load


@dataclass(frozen=True)
class Place:
    """A variant against the fastest; all but the cell is None for that one, and where there were too few calls."""

    cell: Cell
    ratio: float | None = None
    """How many times the fastest's time it takes."""
    interval: tuple[float, float] | None = None
    verdict: Verdict | None = None

    @property
    def against(self) -> str:
        """Returns ratio, interval and verdict in words; empty where they are not known."""
        if self.ratio is None or self.interval is None:
            return ""
        return f"{self.ratio:.2f}{span(*self.interval)}, {self.verdict}"


@dataclass(frozen=True)
class Ranking:
    """The variants under one load, the fastest first."""

    load: Load
    places: tuple[Place, ...]
    left_out: tuple[tuple[Cell, str], ...]
    """Cells that were not compared, with the reason."""


def rank_cells(results: Results, load: Load) -> Ranking:
    """Compares the cells of one load with the fastest of them."""
    mine = by_p50(cell for cell in results.cells if cell.load == load)
    able = [cell for cell in mine if is_valid(cell) and cell.latency_ms.p50 is not None]
    left_out = tuple((cell, invalid_reason(cell)) for cell in mine if cell not in able)
    known = [each for each in results.comparisons if each.load == load and each.figure == "p50"]
    return Ranking(load, tuple(_place(cell, able[0], known) for cell in able), left_out)


def by_p50(cells: Iterable[Cell]) -> list[Cell]:
    """Returns cells load by load, each by rising p50; those without one come last."""
    return sorted(cells, key=lambda cell: (cell.load, math.inf if cell.latency_ms.p50 is None else cell.latency_ms.p50))


def _place(cell: Cell, fastest: Cell, known: Iterable[Comparison]) -> Place:
    for each in known:
        if {each.faster, each.slower} == {cell.variant, fastest.variant}:
            return Place(cell, *each.of(cell.variant), each.verdict)
    return Place(cell)
