"""Which variants were shown to be more accurate than others, and how far each is below the FP32 baseline.

A variant's manifest has the 95% interval of its drop below `fp32-pytorch`; that of two other variants is made of theirs
(see `protos.frontier.is_more_accurate`). With a server whose manifests are not in the repository, or with manifests
from before intervals were taken, the values alone are compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.analysis.results import Cell
from protos.frontier import KnownAccuracy, drop_below_fp32, is_more_accurate, pareto_frontier
from protos.support.significance import Interval, difference_interval


@dataclass(frozen=True)
class Drop:
    """How many points of its metric a variant is below the FP32 baseline; `low` and `high` are None where not known."""

    points: float
    low: float | None = None
    """The lower end of the 95% interval."""
    high: float | None = None


def drop_interval(cell: Cell) -> Interval | None:
    """Returns the 95% interval of how far the variant is below `fp32-pytorch`, in shares."""
    return drop_below_fp32(f"{cell.facts.recipe}-{cell.facts.runtime}", cell.facts.drop_interval)


def more_accurate(cell: Cell, other: Cell) -> bool:
    """Returns whether a variant was shown to be more accurate than another: chance hardly explains the difference.

    Where an interval is not known, the greater metric is; nothing is shown where a metric is not known.
    """
    mine, others = _known(cell), _known(other)
    return mine is not None and others is not None and is_more_accurate(mine, others)


def frontier(cells: Sequence[Cell], cost: Callable[[Cell], float]) -> list[Cell]:
    """Returns the cells of known accuracy that none beats in cost and accuracy, by rising cost."""
    points = [(cell, known) for cell in cells if (known := _known(cell))]
    best = pareto_frontier([cost(cell) for cell, _ in points], [known for _, known in points])
    return [points[i][0] for i in best]


def drop_of(cell: Cell, baseline: Cell | None) -> Drop | None:
    """Returns how far a variant is below the baseline (`validity.baseline_of`), or None where a metric is not known.

    Where the baseline is another FP32 variant than `fp32-pytorch`, the interval is that of the difference of two drops.
    """
    mine, base = _known(cell), _known(baseline) if baseline else None
    if mine is None or base is None or baseline is None:
        return None
    points = 100 * (base.value - mine.value)
    if cell.variant == baseline.variant:
        return Drop(points, points, points)
    if mine.drop is None or base.drop is None:
        return Drop(points)
    low, high = difference_interval(mine.drop, base.drop)
    return Drop(points, 100 * low, 100 * high)


def _known(cell: Cell) -> KnownAccuracy | None:
    quality = cell.facts.quality
    return None if quality is None else KnownAccuracy(quality, drop_interval(cell))
