"""The plain answer of a run: which variant is the fastest that is still about as accurate as FP32.

Only cells that can be believed take part: no failures, the generator not the limit, enough samples for p99,
accuracy known. The others are no evidence that the winner is the fastest: a cell that the generator limited,
for one, is at least as fast as was seen. So those that may be faster are named beside the answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest import stats
from loadtest.plan import Load
from loadtest.results import Cell
from protos.repository import FIRST_DEFAULT

POINTS = 1.0
"""Percentage points of top-1 that the answer may lose against FP32."""

_ROUNDING = 1e-9  # 0.98 - 0.01 is not 0.97 in binary


@dataclass(frozen=True)
class Verdict:
    """The answer for one load; where there is no `winner`, `why_not` says why."""

    load: Load
    winner: Cell | None
    baseline: Cell | None
    """`fp32-pytorch`, or without it the most accurate FP32 cell, of those the slowest."""
    why_not: str = ""
    unjudged: tuple[Cell, ...] = ()
    """Cells that are accurate enough but cannot be believed."""

    @property
    def rivals(self) -> tuple[Cell, ...]:
        """The unjudged cells that were not seen to be slower than the winner."""
        bound = _p99(self.winner) if self.winner else math.inf
        return tuple(cell for cell in self.unjudged if cell.latency_ms.p99 is None or cell.latency_ms.p99 <= bound)


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


def verdict(cells: Sequence[Cell], load: Load) -> Verdict:
    """The believable cell of lowest p99 that is within `POINTS` of FP32, for one load."""
    mine = [cell for cell in cells if cell.load == load]
    known = [cell for cell in mine if cell.facts.top1 is not None]
    if not known:
        return Verdict(load, None, None, "the server does not say how accurate its variants are")
    baseline = baseline_of(known)
    if baseline is None:
        return Verdict(load, None, None, "no FP32 variant was measured to compare with")
    close = [cell for cell in known if _top1(cell) >= _top1(baseline) - POINTS / 100 - _ROUNDING]
    able, unjudged = [cell for cell in close if believable(cell)], tuple(c for c in close if not believable(c))
    if not able:
        return Verdict(load, None, baseline, "no cell can be believed, see the warnings", unjudged)
    return Verdict(load, min(able, key=_p99), baseline, unjudged=unjudged)


def baseline_of(cells: Sequence[Cell]) -> Cell | None:
    """What the others are compared with: `fp32-pytorch`, or the most accurate FP32 cell, of those the slowest."""
    fp32 = [cell for cell in cells if cell.facts.recipe == "fp32" and cell.facts.top1 is not None]
    return max(fp32, key=lambda cell: (cell.variant == FIRST_DEFAULT, _top1(cell), _p99(cell)), default=None)


def p99_frontier(cells: Sequence[Cell]) -> list[Cell]:
    """The believable cells of known accuracy that none beats in both p99 and top-1, by rising p99."""
    able = [cell for cell in cells if believable(cell) and cell.facts.top1 is not None]
    return [able[i] for i in stats.frontier([_p99(cell) for cell in able], [_top1(cell) for cell in able])]


def throughput_frontier(cells: Sequence[Cell]) -> list[Cell]:
    """The same for throughput, by falling throughput."""
    able = [cell for cell in cells if believable(cell) and cell.facts.top1 is not None]
    return [able[i] for i in stats.frontier([-cell.throughput_rps for cell in able], [_top1(cell) for cell in able])]


def _top1(cell: Cell) -> float:
    assert cell.facts.top1 is not None
    return cell.facts.top1


def _p99(cell: Cell) -> float:
    return math.inf if cell.latency_ms.p99 is None else cell.latency_ms.p99
