"""Which cells can be believed, and which of those nothing beats.

A cell whose calls failed, that the generator limited, or that has too few samples for p99 is on no frontier and ships
nowhere. It is no evidence either way: one that the generator limited is at least as fast as was seen.
"""

import math
from collections.abc import Sequence

from loadtest.analysis.results import Cell
from protos.frontier import FP32, fp32_baseline, pareto_frontier


def spoiled(cell: Cell) -> bool:
    """Whether the cell's speed is not the variant's: calls failed, or the generator may have been the limit."""
    return cell.generator_limited or bool(cell.failures)


def believable(cell: Cell) -> bool:
    """Whether the cell's p99 can be compared."""
    return not spoiled(cell) and cell.latency_ms.p99 is not None


def doubt(cell: Cell) -> str:
    """Why a cell that is not believable could not be judged, and what is known of it all the same."""
    reasons = []
    if cell.failures:
        reasons.append("1 call failed" if cell.failures == 1 else f"{cell.failures} calls failed")
    if cell.latency_ms.p99 is None:
        reasons.append("too few samples")
    if cell.generator_limited:
        reasons.append("limited by the generator")
        if not cell.failures and cell.latency_ms.p99 is not None:
            reasons.append(f"p99 at most {cell.latency_ms.p99:.2f} ms")
    return ", ".join(reasons)


def baseline_of(cells: Sequence[Cell]) -> Cell | None:
    """Returns the slowest cell of the FP32 variant that the others are compared with, of those of known accuracy."""
    fp32 = [cell for cell in cells if cell.facts.recipe == FP32 and cell.facts.top1 is not None]
    name = fp32_baseline({cell.variant: cell.facts.top1 for cell in fp32})
    return max((cell for cell in fp32 if cell.variant == name), key=_p99, default=None)


def p99_frontier(cells: Sequence[Cell]) -> list[Cell]:
    """The believable cells of known accuracy that none beats in both p99 and top-1, by rising p99."""
    able = [cell for cell in cells if believable(cell) and cell.facts.top1 is not None]
    return [able[i] for i in pareto_frontier([_p99(cell) for cell in able], [_top1(cell) for cell in able])]


def throughput_frontier(cells: Sequence[Cell]) -> list[Cell]:
    """The same for throughput, by falling throughput."""
    able = [cell for cell in cells if believable(cell) and cell.facts.top1 is not None]
    return [able[i] for i in pareto_frontier([-cell.throughput_rps for cell in able], [_top1(cell) for cell in able])]


def _top1(cell: Cell) -> float:
    assert cell.facts.top1 is not None
    return cell.facts.top1


def _p99(cell: Cell) -> float:
    return math.inf if cell.latency_ms.p99 is None else cell.latency_ms.p99
