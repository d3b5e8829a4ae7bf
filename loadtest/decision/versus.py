"""The variants that the constraints admit under a load, compared: which is the best, and which were shown to be slower.

`report/web/decide.js` compares in the same way in the report's page; a test holds it to this.
"""

import math
from collections.abc import Sequence

from loadtest.analysis.comparison import Comparison, Figure
from loadtest.analysis.results import Cell
from loadtest.decision import words
from loadtest.decision.accuracy import more_accurate
from loadtest.decision.constraints import span
from loadtest.plan import AT, Load, Plan


def deciding_figures(plan: Plan, load: Load) -> tuple[Figure, ...]:
    """Returns by which figures variants are compared under a load: the first, or the next where that is not clear."""
    return ("throughput",) if highest_throughput(plan) and load.scenario != "server" else ("p99", "p50")


class Versus:
    """The variants under one load, compared by the figure that decides there."""

    def __init__(self, plan: Plan, comparisons: Sequence[Comparison], load: Load) -> None:
        self._figures = deciding_figures(plan, load)
        self.by_throughput = self._figures == ("throughput",)
        self._known = {(c.figure, frozenset((c.faster, c.slower))): c for c in comparisons if c.load == load}

    def cost(self, cell: Cell) -> tuple[float, float]:
        """Returns what the best variant has least of."""
        return cost_of(cell, self.by_throughput)

    def winner(self, able: Sequence[Cell]) -> Cell:
        """Returns the winner of variants that come the best first."""
        compared = [cell for cell in able if cell is able[0] or self.between(cell, able[0])]
        unbeaten = [cell for cell in compared if not any(self.beats(other, cell) for other in able)]
        best = [cell for cell in unbeaten if not any(more_accurate(other, cell) for other in unbeaten)]
        return min(best or able[:1], key=lambda cell: (_size(cell), AT in cell.variant))

    def between(self, one: Cell, other: Cell) -> Comparison | None:
        """Returns the comparison by the first figure that is clear, or else by the first that there is."""
        pair = frozenset((one.variant, other.variant))
        found = [each for figure in self._figures if (each := self._known.get((figure, pair)))]
        return next((each for each in found if each.verdict == "clear"), next(iter(found), None))

    def beats(self, one: Cell, other: Cell) -> bool:
        """Returns whether the first is clearly faster."""
        found = self.between(one, other)
        return found is not None and found.verdict == "clear" and found.faster == one.variant

    def text(self, cell: Cell, winner: Cell) -> str:
        """Says how a variant compares with the winner, and where it is not clearly slower why it did not win."""
        found = self.between(cell, winner)
        if found is None:
            return words.UNCOMPARED
        ratio, interval = found.of(cell.variant)
        text = f"{words.COMPARED[found.figure].format(ratio)}{span(*interval)}, {found.verdict}"
        if self.beats(winner, cell):
            return f"{text}, {words.LIMITED}" if cell.generator_limited else text
        if more_accurate(winner, cell):
            return f"{text}, {words.LESS_ACCURATE}"
        return f"{text}, {words.LARGER}" if _size(cell) > _size(winner) else text


def highest_throughput(plan: Plan) -> bool:
    """Returns whether the highest throughput within a p99 is asked for, rather than the lowest p99."""
    return plan.rate is None and plan.p99 is not None


def cost_of(cell: Cell, by_throughput: bool) -> tuple[float, float]:
    """Returns what the best variant has least of: the throughput below zero and the p99, or the p99 and the p50."""
    p50, p99 = (math.inf if value is None else value for value in (cell.latency_ms.p50, cell.latency_ms.p99))
    return (-cell.throughput_rps, p99) if by_throughput else (p99, p50)


def _size(cell: Cell) -> float:
    return math.inf if cell.facts.artifact_bytes is None else cell.facts.artifact_bytes
