"""Which variant to ship under the constraints of a plan, and why not each of the others.

    --max-drop     top-1 or AP at most so many points below the FP32 baseline
    --max-memory   what loading and answering once adds to a process, as the variant's manifest says
    --rate         so many answers a second, at one of the loads that were measured
    --p99          at that load

What is not known meets no constraint on it, and neither does a p99 that is not valid. Among the variants that meet
all, the best has the lowest p99 at the asked rate; without a rate, the highest throughput within p99. Where a paired
comparison of the rounds shows no difference to it (see `paired_comparison`), the more accurate of the two is preferred,
then the smaller. Without constraints nothing is decided: the frontier is named, point by point.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.analysis.accuracy import drop_of
from loadtest.analysis.paired_comparison import compare_pair
from loadtest.analysis.results import Cell, Results
from loadtest.analysis.validity import baseline_of, has_valid_p99, invalid_reason, p99_frontier, title_of
from loadtest.plan import Plan
from protos.support import significance

KEPT_UP = 0.98
"""A variant that answers this share of the requests that arrive carries their rate."""


@dataclass(frozen=True)
class Choice:
    """A variant, the load at which it does best, and how well."""

    cell: Cell
    sentence: str
    tied_with: tuple[str, ...] = ()
    """Variants that had enough rounds, and from which this one was not shown to differ."""


@dataclass(frozen=True)
class Loser:
    """A variant that is not shipped, and why."""

    variant: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """The answer; where there is no `winner`, `why_not` says why."""

    asked: str
    """The constraints in words; empty where there are none."""
    winner: Choice | None = None
    runner_up: Choice | None = None
    losers: tuple[Loser, ...] = ()
    """All others, the runner-up included where there is one."""
    frontier: tuple[Choice, ...] = ()
    why_not: str = ""


def asked(plan: Plan, metric: str) -> str:
    """Says in words what the variant to ship must meet; empty without constraints. `metric` is the metric's title."""
    limits = {
        "p99 within {:g} ms": plan.p99,
        "{:g} requests per second": plan.rate,
        metric + " at most {:g} points below FP32": plan.max_drop,
        "at most {:g} MB of memory": plan.max_memory,
    }
    return ", ".join(words.format(limit) for words, limit in limits.items() if limit is not None)


def decide(results: Results) -> Decision:
    """Returns the variant of a run to ship under the constraints of its plan, or without constraints its frontier."""
    plan, baseline = results.plan, baseline_of(results.cells)
    words = asked(plan, title_of(results.cells))
    if not words:
        return Decision(words, frontier=_frontier(results), why_not="no constraints were given")
    able, losers = list[Cell](), list[Loser]()
    for variant in dict.fromkeys(cell.variant for cell in results.cells):
        cell, reasons = _judge([cell for cell in results.cells if cell.variant == variant], baseline, plan)
        if reasons:
            losers.append(Loser(variant, tuple(reasons)))
        else:
            able.append(cell)
    if not able:
        return Decision(words, losers=tuple(losers), why_not="no variant meets all constraints")
    able.sort(key=lambda cell: _key(cell, plan))
    winner, verdicts = _pick(able, plan)
    others = [cell for cell in able if cell is not winner]
    beaten = [Loser(cell.variant, (_against(cell, winner, plan, verdicts[cell.variant]),)) for cell in others]
    tied = tuple(variant for variant, verdict in verdicts.items() if verdict == "tied")
    return Decision(
        words,
        Choice(winner, _sentence(winner, baseline), tied),
        Choice(others[0], _sentence(others[0], baseline)) if others else None,
        (*beaten, *losers),
    )


def _judge(cells: Sequence[Cell], baseline: Cell | None, plan: Plan) -> tuple[Cell, list[str]]:
    """Returns the cell in which a variant meets the constraints best, and which it breaks and by how much."""
    reasons = [*_limits_broken(cells[0], baseline, plan)]
    carrying = [cell for cell in cells if _carries(cell, plan.rate)]
    if not carrying:
        most = max(cells, key=lambda cell: cell.throughput_rps)
        short = f"{(plan.rate or 0) - most.throughput_rps:,.0f} fewer than the {plan.rate:g} asked for"
        return most, [*reasons, f"{most.throughput_rps:,.0f} requests/s at most, {short}"]
    quick = [cell for cell in carrying if not _too_slow(cell, plan.p99)]
    best = min(quick or carrying, key=lambda cell: _key(cell, plan))
    return best, reasons + _too_slow(best, plan.p99)


def _limits_broken(cell: Cell, baseline: Cell | None, plan: Plan) -> Iterator[str]:
    """Says which limits that do not depend on the load a variant breaks, and by how much."""
    dropped = drop_of(cell, baseline)
    drop = dropped.points if dropped else None
    memory = None if cell.facts.memory_bytes is None else cell.facts.memory_bytes / 1e6
    for what, words, value, limit in (
        ("accuracy it lost", title_of([cell]) + " is {:.2f} points below FP32, {:.2f}", drop, plan.max_drop),
        ("memory it takes", "{:.1f} MB of memory, {:.1f}", memory, plan.max_memory),
    ):
        if limit is not None and value is None:
            yield f"how much {what} is not known"
        elif limit is not None and value is not None and value - limit > 1e-9:
            yield words.format(value, value - limit) + f" more than the {limit:g} allowed"


def _too_slow(cell: Cell, limit: float | None) -> list[str]:
    """Says why the p99 of a cell is not within the limit; an empty list where it is."""
    p99, where = cell.latency_ms.p99, cell.load.name
    if p99 is None:
        return [
            f"not enough samples for p99 at {where}: {cell.samples} of the {significance.samples_needed(0.99)} needed"
        ]
    if not has_valid_p99(cell):
        return [f"at {where} it could not be judged: {invalid_reason(cell)}"]
    if limit is not None and p99 > limit:
        return [f"p99 is {p99:.2f} ms at {where}, {p99 - limit:.2f} more than the {limit:g} allowed"]
    return []


def _carries(cell: Cell, rate: float | None) -> bool:
    if rate is None:
        return True
    if cell.asked_rps is not None:
        return cell.load.level >= rate and cell.throughput_rps >= KEPT_UP * cell.asked_rps
    return cell.throughput_rps >= rate


def _by_throughput(plan: Plan) -> bool:
    """Returns whether the highest throughput within a p99 is asked for, rather than the lowest p99."""
    return plan.rate is None and plan.p99 is not None


def _key(cell: Cell, plan: Plan) -> float:
    """Returns what a variant's cells, and the best cells of variants, are ordered by: less is better."""
    if _by_throughput(plan):
        return -cell.throughput_rps
    return float("inf") if cell.latency_ms.p99 is None else cell.latency_ms.p99


def _pick(cells: Sequence[Cell], plan: Plan) -> tuple[Cell, dict[str, str]]:
    """Returns the winner and the verdict on each other cell, compared with it; `cells` have the best first.

    A more accurate or smaller cell wins against the best where no difference of the two was shown.
    """
    best, *others = cells
    verdicts = {cell.variant: _compared(cell, best, plan) for cell in others}
    tied = [best, *(cell for cell in others if verdicts[cell.variant] == "tied")]
    winner = min(tied, key=lambda cell: (-(cell.facts.quality or 0.0), cell.facts.artifact_bytes or 0))
    if winner is not best:
        others = [cell for cell in others if cell is not winner]
        verdicts = {best.variant: "tied"} | {cell.variant: _compared(cell, winner, plan) for cell in others}
    return winner, verdicts


def _compared(cell: Cell, other: Cell, plan: Plan) -> str:
    """Returns the verdict on a cell, compared with another round by round: by seconds per answer, or by p50."""
    pairs = [
        (1 / a.throughput_rps, 1 / b.throughput_rps) if _by_throughput(plan) else (a.latency_ms.p50, b.latency_ms.p50)
        for a, b in zip(cell.rounds, other.rounds, strict=True)
        if a.throughput_rps and b.throughput_rps
    ]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return compare_pair(*zip(*known, strict=True)).verdict if known else "too few rounds"


def _against(cell: Cell, winner: Cell, plan: Plan, verdict: str) -> str:
    """Says why the winner is better than a cell; `verdict` is on the cell, compared with the winner."""
    if _by_throughput(plan):
        text = f"{cell.throughput_rps:,.0f} requests/s within p99 against {winner.throughput_rps:,.0f}"
    else:
        text = f"p99 is {cell.latency_ms.p99:.2f} ms against {winner.latency_ms.p99:.2f}"
    shown = {"slower": "", "tied": "; no difference was shown", "too few rounds": "; too few rounds to show it"}
    return text + shown.get(verdict, "")


def _sentence(cell: Cell, baseline: Cell | None) -> str:
    p99, drop = (
        f"unknown (not enough samples: {cell.samples} of {significance.samples_needed(0.99)})",
        drop_of(cell, baseline),
    )
    if cell.latency_ms.p99 is not None:
        p99 = f"{cell.latency_ms.p99:.2f} ms"
    parts = [f"p99 {p99} and {cell.throughput_rps:,.0f} requests/s at {cell.load.name}"]
    if cell.facts.quality is not None:
        below = (
            "" if drop is None else f" ({abs(drop.points):.2f} points {'above' if drop.points < 0 else 'below'} FP32)"
        )
        parts.append(f"{title_of([cell])} {cell.facts.quality:.2%}{below}")
    if cell.facts.memory_bytes is not None:
        parts.append(f"{cell.facts.memory_bytes / 1e6:.1f} MB of memory")
    if cell.facts.serving:
        parts.append(cell.facts.serving)
    return ", ".join(parts)


def _frontier(results: Results) -> tuple[Choice, ...]:
    """Returns the cells of the first load that nothing beats in p99 and accuracy, the fastest first."""
    first = [cell for cell in results.cells if cell.load == results.cells[0].load]
    best, choices = p99_frontier(first), list[Choice]()
    for faster, cell in zip([None, *best], best, strict=False):
        if faster is None:
            text = "the fastest of all" if len(best) > 1 else "the fastest and the most accurate"
        else:
            more = 100 * ((cell.facts.quality or 0.0) - (faster.facts.quality or 0.0))
            times = (cell.latency_ms.p99 or 0.0) / (faster.latency_ms.p99 or 1.0)
            text = f"{more:.2f} points more accurate than {faster.variant}, and {times:.1f} times its p99"
        choices.append(Choice(cell, f"{text}: {_sentence(cell, baseline_of(first))}"))
    return tuple(choices)
