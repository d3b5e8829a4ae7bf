"""Which variant to ship under given constraints, and for each other one what speaks against it.

    accuracy    top-1 at most so many points below the FP32 baseline
    memory      what loading and answering once adds to a process, as the variant's manifest says
    rate        so many answers a second, at one of the loads that were measured
    p99         at that load

What is not known meets no constraint on it, and neither does a p99 that is not valid. Among the variants that meet
all, the best has the lowest p99 at the asked rate; without a rate, the highest throughput within p99. Where a paired
comparison of the rounds shows no difference to it (see `paired_comparison`), the more accurate of the two is preferred,
then the smaller. Without constraints nothing is decided: the frontier is named, point by point.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest import stats
from loadtest.analysis.paired_comparison import compare_pair
from loadtest.analysis.results import Cell, Results
from loadtest.analysis.validity import baseline_of, has_valid_p99, invalid_reason, p99_frontier
from loadtest.plan import Plan

KEPT_UP = 0.98
"""Share of the requests that arrive which a variant must answer in time to be said to carry their rate."""


@dataclass(frozen=True)
class Constraints:
    """What the variant must meet; None where anything will do."""

    p99_ms: float | None = None
    rate: float | None = None
    """Answers in a second."""
    max_drop: float | None = None
    """Points of top-1 below the FP32 baseline."""
    max_megabytes: float | None = None
    """Memory that loading and answering once adds to a process."""

    @staticmethod
    def of(plan: Plan) -> "Constraints":
        """Returns the constraints of a plan."""
        return Constraints(plan.p99, plan.rate, plan.max_drop, plan.max_memory)

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return any(value is not None for value in vars(self).values())


@dataclass(frozen=True)
class Choice:
    """A variant at the load that speaks best for it, and what does."""

    cell: Cell
    sentence: str
    tied_with: tuple[str, ...] = ()
    """Variants of which enough rounds showed no difference to this one."""


@dataclass(frozen=True)
class Loser:
    """A variant that is not shipped, and why."""

    variant: str
    cell: Cell | None
    """The cell in which it was nearest to the constraints."""
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """The answer; where there is no `winner`, `why_not` says why."""

    constraints: Constraints
    winner: Choice | None = None
    runner_up: Choice | None = None
    losers: tuple[Loser, ...] = ()
    """All others, the runner-up included where there is one."""
    frontier: tuple[Choice, ...] = ()
    why_not: str = ""


def decide(results: Results) -> Decision:
    """Returns the variant of a run to ship under the constraints of its plan, or without constraints its frontier."""
    constraints = Constraints.of(results.plan)
    baseline = baseline_of(results.cells)
    if not constraints.any:
        return Decision(constraints, frontier=_frontier(results), why_not="no constraints were given")
    judged = {name: _judge(name, results.cells, baseline, constraints) for name in _variants(results.cells)}
    able = sorted((each for each in judged.values() if isinstance(each, Cell)), key=lambda c: _key(c, constraints))
    losers = [each for each in judged.values() if isinstance(each, Loser)]
    if not able:
        return Decision(constraints, losers=tuple(losers), why_not="no variant meets all constraints")
    winner, verdicts = _pick(able, constraints)
    others = [cell for cell in able if cell is not winner]
    beaten = [
        Loser(cell.variant, cell, (_against(cell, winner, constraints, verdicts[cell.variant]),)) for cell in others
    ]
    tied = tuple(variant for variant, verdict in verdicts.items() if verdict == "tied")
    return Decision(
        constraints,
        Choice(winner, _sentence(winner, baseline), tied),
        Choice(others[0], _sentence(others[0], baseline)) if others else None,
        (*beaten, *losers),
    )


def _judge(variant: str, cells: Sequence[Cell], baseline: Cell | None, constraints: Constraints) -> Cell | Loser:
    """Returns the cell in which a variant meets the constraints best, or which it breaks and by how much."""
    mine = [cell for cell in cells if cell.variant == variant]
    reasons = [*_of_accuracy(mine[0], baseline, constraints), *_of_memory(mine[0], constraints)]
    carrying = [cell for cell in mine if _carries(cell, constraints.rate)]
    if not carrying:
        most = max(mine, key=lambda cell: cell.throughput_rps)
        short = f"{(constraints.rate or 0) - most.throughput_rps:,.0f} fewer than the {constraints.rate:g} asked for"
        return Loser(variant, most, (*reasons, f"{most.throughput_rps:,.0f} requests/s at most, {short}"))
    quick = [cell for cell in carrying if not _of_speed(cell, constraints)]
    if reasons or not quick:
        nearest = min(quick or carrying, key=lambda cell: _key(cell, constraints))
        return Loser(variant, nearest, (*reasons, *_of_speed(nearest, constraints)))
    return min(quick, key=lambda cell: _key(cell, constraints))


def _of_accuracy(cell: Cell, baseline: Cell | None, constraints: Constraints) -> list[str]:
    if constraints.max_drop is None:
        return []
    drop = drop_of(cell, baseline)
    if drop is None:
        return ["how much accuracy it lost is not known"]
    over = drop - constraints.max_drop
    allowed = f"{over:.2f} more than the {constraints.max_drop:g} allowed"
    return [f"top-1 is {drop:.2f} points below FP32, {allowed}"] if over > 1e-9 else []


def _of_memory(cell: Cell, constraints: Constraints) -> list[str]:
    if constraints.max_megabytes is None:
        return []
    if cell.facts.memory_bytes is None:
        return ["how much memory it takes is not known"]
    over = cell.facts.memory_bytes / 1e6 - constraints.max_megabytes
    allowed = f"{over:.1f} more than the {constraints.max_megabytes:g} allowed"
    return [f"{cell.facts.memory_bytes / 1e6:.1f} MB of memory, {allowed}"] if over > 0 else []


def _of_speed(cell: Cell, constraints: Constraints) -> list[str]:
    p99, limit = cell.latency_ms.p99, constraints.p99_ms
    if p99 is None:
        needed = f"{cell.samples} of the {stats.samples_needed(0.99)} needed"
        return [f"not enough samples for p99 at {cell.load.name}: {needed}"]
    if not has_valid_p99(cell):
        return [f"at {cell.load.name} it could not be judged: {invalid_reason(cell)}"]
    if limit is not None and p99 > limit:
        return [f"p99 is {p99:.2f} ms at {cell.load.name}, {p99 - limit:.2f} more than the {limit:g} allowed"]
    return []


def _carries(cell: Cell, rate: float | None) -> bool:
    if rate is None:
        return True
    if cell.asked_rps is not None:
        return cell.load.level >= rate and cell.throughput_rps >= KEPT_UP * cell.asked_rps
    return cell.throughput_rps >= rate


def _key(cell: Cell, constraints: Constraints) -> float:
    """Returns what a variant's cells, and the best cells of variants, are ordered by: less is better."""
    if constraints.rate is None and constraints.p99_ms is not None:
        return -cell.throughput_rps
    return float("inf") if cell.latency_ms.p99 is None else cell.latency_ms.p99


def _pick(cells: Sequence[Cell], constraints: Constraints) -> tuple[Cell, dict[str, str]]:
    """Returns the winner and the verdict on each other cell, compared with it; `cells` have the best first.

    A more accurate or smaller cell wins against the best where no difference of the two was shown.
    """
    best, *others = cells
    verdicts = {cell.variant: _compared(cell, best, constraints) for cell in others}
    tied = [best, *(cell for cell in others if verdicts[cell.variant] == "tied")]
    winner = min(tied, key=lambda cell: (-(cell.facts.top1 or 0.0), cell.facts.artifact_bytes or 0))
    if winner is not best:
        others = [cell for cell in others if cell is not winner]
        verdicts = {best.variant: "tied"} | {cell.variant: _compared(cell, winner, constraints) for cell in others}
    return winner, verdicts


def _compared(cell: Cell, other: Cell, constraints: Constraints) -> str:
    """Returns the verdict on a cell, compared with another round by round: by seconds per answer, or by p50."""
    by_rate = constraints.rate is None and constraints.p99_ms is not None
    pairs = [
        (1 / mine.throughput_rps, 1 / its.throughput_rps) if by_rate else (mine.latency_ms.p50, its.latency_ms.p50)
        for mine, its in zip(cell.rounds, other.rounds, strict=True)
        if mine.throughput_rps and its.throughput_rps
    ]
    known = [(mine, its) for mine, its in pairs if mine is not None and its is not None]
    return compare_pair(*zip(*known, strict=True)).verdict if known else "too few rounds"


def _against(cell: Cell, winner: Cell, constraints: Constraints, verdict: str) -> str:
    """Says what speaks for the winner; `verdict` is on the cell, compared with it."""
    if constraints.rate is None and constraints.p99_ms is not None:
        text = f"{cell.throughput_rps:,.0f} requests/s within p99 against {winner.throughput_rps:,.0f}"
    else:
        text = f"p99 is {cell.latency_ms.p99:.2f} ms against {winner.latency_ms.p99:.2f}"
    shown = {"slower": "", "tied": "; no difference was shown", "too few rounds": "; too few rounds to show it"}
    return text + shown.get(verdict, "")


def _sentence(cell: Cell, baseline: Cell | None) -> str:
    parts = [f"p99 {_ms(cell)} and {cell.throughput_rps:,.0f} requests/s at {cell.load.name}"]
    if cell.facts.top1 is not None:
        drop = drop_of(cell, baseline)
        below = "" if drop is None else f" ({abs(drop):.2f} points {'above' if drop < 0 else 'below'} FP32)"
        parts.append(f"top-1 {cell.facts.top1:.2%}{below}")
    if cell.facts.memory_bytes is not None:
        parts.append(f"{cell.facts.memory_bytes / 1e6:.1f} MB of memory")
    if cell.facts.serving:
        parts.append(cell.facts.serving)
    return ", ".join(parts)


def _frontier(results: Results) -> tuple[Choice, ...]:
    """Returns the cells of the first load that nothing beats in p99 and accuracy, the fastest first."""
    first = [cell for cell in results.cells if cell.load == results.cells[0].load]
    best, choices = p99_frontier(first), list[Choice]()
    for place, cell in enumerate(best):
        before = best[place - 1] if place else None
        if before is None:
            text = "the fastest of all" if len(best) > 1 else "the fastest and the most accurate"
        else:
            more = 100 * ((cell.facts.top1 or 0.0) - (before.facts.top1 or 0.0))
            text = f"{more:.2f} points more accurate than {before.variant}"
            text += f", and {(cell.latency_ms.p99 or 0.0) / (before.latency_ms.p99 or 1.0):.1f} times its p99"
        choices.append(Choice(cell, f"{text}: {_sentence(cell, baseline_of(first))}"))
    return tuple(choices)


def drop_of(cell: Cell, baseline: Cell | None) -> float | None:
    """Returns by how many points of top-1 a variant is below the FP32 baseline, or None where that is not known."""
    if baseline is None or baseline.facts.top1 is None or cell.facts.top1 is None:
        return None
    return 100 * (baseline.facts.top1 - cell.facts.top1)


def _ms(cell: Cell) -> str:
    if cell.latency_ms.p99 is None:
        return f"unknown (not enough samples: {cell.samples} of {stats.samples_needed(0.99)})"
    return f"{cell.latency_ms.p99:.2f} ms"


def _variants(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.variant for cell in cells))
