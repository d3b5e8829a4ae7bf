"""Which cells are valid, and which valid cells no other beats (see `accuracy.frontier`).

A cell whose calls failed, that the load generator limited, or that has too few samples for p99 is on no frontier and
never ships. It shows nothing either way: a variant that the generator limited is at least as fast as was measured.
"""

import math
from collections.abc import Iterable, Sequence

from loadtest import stats
from loadtest.analysis.results import Cell
from loadtest.decision.accuracy import frontier
from loadtest.tasks.table import title
from protos.frontier import FP32, fp32_baseline


def is_valid(cell: Cell) -> bool:
    """Returns whether the cell's speed is the variant's: no call failed, and the generator was not the limit."""
    return not (cell.generator_limited or cell.failures)


def has_valid_p99(cell: Cell) -> bool:
    """Returns whether the cell's p99 can be compared."""
    return is_valid(cell) and cell.latency_ms.p99 is not None


def invalid_reason(cell: Cell) -> str:
    """Returns why a cell without a valid p99 could not be judged, and what is known of it all the same."""
    reasons = []
    if cell.failures:
        reasons.append("1 call failed" if cell.failures == 1 else f"{cell.failures} calls failed")
    if cell.latency_ms.p99 is None:
        reasons.append("too few samples")
    if cell.generator_limit:
        reasons.append(stats.LIMIT_TEXTS[cell.generator_limit])
        if not cell.failures and cell.latency_ms.p99 is not None:
            reasons.append(f"p99 at most {cell.latency_ms.p99:.2f} ms")
    return ", ".join(reasons)


def title_of(cells: Iterable[Cell]) -> str:
    """Returns what people call the metric of the cells."""
    return title([cell.facts.metric for cell in cells])


def baseline_of(cells: Sequence[Cell]) -> Cell | None:
    """Returns the slowest cell of the FP32 variant that the others are compared with, of those of known accuracy."""
    fp32 = [cell for cell in cells if cell.facts.recipe == FP32 and cell.facts.quality is not None]
    name = fp32_baseline({cell.variant: cell.facts.quality for cell in fp32})
    return max((cell for cell in fp32 if cell.variant == name), key=_p99, default=None)


def p99_frontier(cells: Sequence[Cell]) -> list[Cell]:
    """Returns the valid cells of known accuracy that none beats in both p99 and quality, by rising p99."""
    return frontier([cell for cell in cells if has_valid_p99(cell)], _p99)


def throughput_frontier(cells: Sequence[Cell]) -> list[Cell]:
    """Returns the valid cells of known accuracy that none beats in throughput and quality, by falling throughput."""
    return frontier([cell for cell in cells if has_valid_p99(cell)], lambda cell: -cell.throughput_rps)


def _p99(cell: Cell) -> float:
    return math.inf if cell.latency_ms.p99 is None else cell.latency_ms.p99
