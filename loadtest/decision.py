"""Which variant to ship under what a person asks for: the winner, the runner-up, and what each loser broke."""

from dataclasses import dataclass

from loadtest.results import Cell, Results
from loadtest.verdict import believable, p99_frontier


@dataclass(frozen=True)
class Constraints:
    """What is asked for; None where nothing is."""

    p99_ms: float | None
    rate: float | None
    """Requests in a second."""
    max_drop: float | None
    """Points of top-1 against FP32."""
    max_megabytes: float | None


@dataclass(frozen=True)
class Choice:
    """A variant under a load, and what speaks for it."""

    cell: Cell
    tied_with: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Loser:
    """A variant that broke a constraint, or several."""

    variant: str
    cell: Cell | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """The answer; without constraints it is the frontier."""

    constraints: Constraints
    winner: Choice | None
    runner_up: Choice | None
    losers: tuple[Loser, ...]
    frontier: tuple[Choice, ...]
    why_not: str


def decide(results: Results, constraints: Constraints) -> Decision:
    """A stand-in: looks at p99 only."""
    load = max(cell.load for cell in results.cells)
    mine = [cell for cell in results.cells if cell.load == load]
    best = tuple(
        Choice(cell, (), f"{cell.facts.top1:.2%} at p99 {cell.latency_ms.p99} ms.") for cell in p99_frontier(mine)
    )
    limit = constraints.p99_ms
    if limit is None:
        return Decision(constraints, None, None, (), best, "" if best else "no cell can be believed")
    good = [choice for choice in best if (choice.cell.latency_ms.p99 or limit) <= limit][::-1]
    losers = []
    for cell in mine:
        p99 = cell.latency_ms.p99
        if not believable(cell):
            losers.append(Loser(cell.variant, cell, ("not enough samples for p99",)))
        elif p99 is not None and p99 > limit:
            losers.append(
                Loser(cell.variant, cell, (f"p99 {p99:.1f} ms, {p99 - limit:.1f} more than {limit:g} allowed",))
            )
    return Decision(
        constraints,
        good[0] if good else None,
        good[1] if good[1:] else None,
        tuple(losers),
        best,
        "" if good else f"no variant answers within {limit:g} ms",
    )
