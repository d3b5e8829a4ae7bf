"""Which variant to ship under the constraints of a plan, load by load, and why not each of the others.

Under each load the variants that the constraints admit (see `constraints`) are compared with each other, those only:

    the best    the lowest p99; where --p99 is given and --rate is not, the highest throughput within it. Arrivals come
                at a rate of their own, so there the p99 counts all the same
    the winner  of the best and those that are not clearly slower (see `comparison`: by throughput, or by p99 and where
                that is not clear by p50) the one that was shown to be more accurate, then the smaller
    nearest     where none is admitted: the one that breaks the fewest constraints, by the smallest share of a limit

Of the loads the one that `--rate` is decides, or else the smallest that carries it; without a rate the one at which the
winner does best. Without constraints nothing is decided: the frontier of each load is named, point by point.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from loadtest.analysis.comparison import Comparison, Figure
from loadtest.analysis.results import Cell, Results
from loadtest.analysis.validity import baseline_of, invalid_reason, p99_frontier, title_of
from loadtest.decision.accuracy import drop_of, more_accurate
from loadtest.decision.constraints import Judgement, drop_text, judge, span
from loadtest.measure.measurement import Stop
from loadtest.plan import Load, Plan
from protos.support import significance

Place = Literal["winner", "runner-up", "close", "beaten", "nearest", "ruled out", "frontier"]


class Known(Protocol):
    """What a decision is made of: `Results`, or what is known while a run goes on."""

    @property
    def plan(self) -> Plan:
        """The constraints."""

    @property
    def cells(self) -> Sequence[Cell]:
        """Returns one cell for each variant and load."""

    @property
    def comparisons(self) -> Sequence[Comparison]:
        """Returns what was shown of every two variants."""

    @property
    def stops(self) -> Sequence[Stop]:
        """Returns who was stopped, and why."""


COMPARED: Mapping[Figure, str] = {
    "throughput": "takes {:.2f} times as long per answer",
    "p99": "its p99 is {:.2f} times as long",
    "p50": "its p50 is {:.2f} times as long",
}


@dataclass(frozen=True)
class Standing:
    """How a variant stands under one load."""

    cell: Cell
    place: Place
    """`close` is not the winner and not clearly slower, `beaten` clearly; `ruled out` breaks a constraint."""
    figures: str
    """What was measured, in words."""
    reasons: tuple[str, ...] = ()
    """Why it has its place, and whether it was stopped."""
    judgements: tuple[Judgement, ...] = ()

    @property
    def variant(self) -> str:
        """Returns the variant's name."""
        return self.cell.variant

    @property
    def sentence(self) -> str:
        """Returns its figures and the reasons."""
        return "; ".join((self.figures, *self.reasons))

    @property
    def verdict(self) -> str:
        """Returns the place, where it is one of the first, and the reasons."""
        named = {"winner": "ships", "runner-up": "runner-up", "nearest": "nearest"}.get(self.place)
        return "; ".join(filter(None, (named, *self.reasons)))


@dataclass(frozen=True)
class LoadDecision:
    """The answer for one load."""

    load: Load
    standings: tuple[Standing, ...]
    """The best first; each has a judgement for each constraint."""

    def at(self, *places: Place) -> tuple[Standing, ...]:
        """Returns the variants in these places."""
        return tuple(each for each in self.standings if each.place in places)

    @property
    def winner(self) -> Standing | None:
        """Returns the variant to ship; None where no variant is admitted."""
        return next(iter(self.at("winner")), None)

    @property
    def runner_up(self) -> Standing | None:
        """Returns the best of the other admitted variants."""
        return next(iter(self.at("runner-up")), None)

    @property
    def nearest(self) -> Standing | None:
        """Returns the variant that comes nearest, where none is admitted."""
        return next(iter(self.at("nearest")), None)

    @property
    def losers(self) -> tuple[Standing, ...]:
        """Returns the variants that were clearly beaten or break a constraint."""
        return self.at("beaten", "ruled out")


@dataclass(frozen=True)
class Decision:
    """The answer for all loads."""

    asked: str
    """The constraints in words; empty where there are none."""
    loads: tuple[LoadDecision, ...] = ()
    shown: LoadDecision | None = None
    """The one of the load that decides; None where no load was measured."""


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
    """Returns the variant of a run to ship under each load, or without constraints the frontier of each."""
    loads = tuple(decide_load(results, load) for load in dict.fromkeys(cell.load for cell in results.cells))
    shown = _shown(loads, results.plan) if loads else None
    return Decision(asked(results.plan, title_of(results.cells)), loads, shown)


def _shown(loads: Sequence[LoadDecision], plan: Plan) -> LoadDecision:
    """Returns the decision of the load that decides."""
    won = [(each.winner.cell, each) for each in loads if each.winner]
    if plan.rate is not None:
        asked_for = [each for each in loads if each.load == Load("server", plan.rate)]
        if first := next(iter([*asked_for, *sorted((each for _, each in won), key=lambda each: each.load)]), None):
            return first
    if won:
        return min(won, key=lambda each: _cost(each[0], _by_throughput(plan)))[1]
    return min(loads, key=lambda each: _distance(each.nearest) if each.nearest else (0, 0, 0.0))


def decide_load(results: Known, load: Load) -> LoadDecision:
    """Returns the answer for one load."""
    plan, baseline = results.plan, baseline_of(results.cells)
    cells = [cell for cell in results.cells if cell.load == load]
    if not plan.constrained:
        return LoadDecision(load, _frontier(cells, baseline))
    versus = Versus(results, load)
    stops = {stop.variant: stop for stop in results.stops if stop.load == load}
    able, unable = list[Standing](), list[Standing]()
    for cell in sorted(cells, key=versus.cost):
        judgements = judge(cell, baseline, plan)
        broken = [each.text for each in judgements if not each.admits]
        broken += [invalid_reason(cell)] if cell.failures and plan.p99 is None else []
        reasons = broken or [each.text for each in judgements if each.state != "met"]
        if stop := stops.get(cell.variant):
            reasons.append(f"stopped after round {stop.round}: {stop.reason}")
        place: Place = "ruled out" if broken else "close"
        standing = Standing(cell, place, _figures(cell, baseline), tuple(reasons), judgements)
        (unable if broken else able).append(standing)
    unable.sort(key=_distance)
    if not able:
        unable[0] = replace(unable[0], place="nearest")
    return LoadDecision(load, (*_placed(able, versus), *unable))


def _placed(able: Sequence[Standing], versus: "Versus") -> Iterator[Standing]:
    """Yields the admitted variants, the winner first; they come the best first."""
    if not able:
        return
    winner = versus.winner([each.cell for each in able])
    others = [each for each in able if each.cell is not winner]
    yield from (replace(each, place="winner") for each in able if each.cell is winner)
    for each in others:
        place: Place = "beaten" if versus.beats(winner, each.cell) else "close"
        reasons = (versus.text(each.cell, winner), *each.reasons)
        yield replace(each, place="runner-up" if each is others[0] else place, reasons=reasons)


def deciding_figures(plan: Plan, load: Load) -> tuple[Figure, ...]:
    """Returns by which figures variants are compared under a load: the first, or the next where that is not clear."""
    return ("throughput",) if _by_throughput(plan) and load.scenario != "server" else ("p99", "p50")


class Versus:
    """The variants under one load, compared by the figure that decides there."""

    def __init__(self, results: Known, load: Load) -> None:
        self._figures = deciding_figures(results.plan, load)
        self.by_throughput = self._figures == ("throughput",)
        self._known = {(c.figure, frozenset((c.faster, c.slower))): c for c in results.comparisons if c.load == load}

    def cost(self, cell: Cell) -> tuple[float, float]:
        """Returns what the best variant has least of."""
        return _cost(cell, self.by_throughput)

    def winner(self, able: Sequence[Cell]) -> Cell:
        """Returns the winner of variants that come the best first."""
        compared = [cell for cell in able if cell is able[0] or self.between(cell, able[0])]
        unbeaten = [cell for cell in compared if not any(self.beats(other, cell) for other in able)]
        best = [cell for cell in unbeaten if not any(more_accurate(other, cell) for other in unbeaten)]
        return min(best or able[:1], key=_size)

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
            return "too few calls to compare it"
        ratio, interval = found.of(cell.variant)
        text = f"{COMPARED[found.figure].format(ratio)}{span(*interval)}, {found.verdict}"
        if self.beats(winner, cell):
            return f"{text}, but the load generator was the limit" if cell.generator_limited else text
        less = more_accurate(winner, cell)
        return f"{text}, {'less accurate' if less else 'larger'}" if less or _size(cell) > _size(winner) else text


def _by_throughput(plan: Plan) -> bool:
    """Returns whether the highest throughput within a p99 is asked for, rather than the lowest p99."""
    return plan.rate is None and plan.p99 is not None


def _cost(cell: Cell, by_throughput: bool) -> tuple[float, float]:
    p50, p99 = (math.inf if value is None else value for value in (cell.latency_ms.p50, cell.latency_ms.p99))
    return (-cell.throughput_rps, p99) if by_throughput else (p99, p50)


def _distance(standing: Standing) -> tuple[int, int, float]:
    """Returns how many constraints a variant breaks, how many it is not known to meet, and the share that it misses."""
    missed = [each for each in standing.judgements if not each.admits]
    broken = sum(each.state == "broken" for each in missed) + bool(standing.cell.failures)
    return broken, len(missed) - broken, sum(each.excess for each in missed)


def _size(cell: Cell) -> float:
    return math.inf if cell.facts.artifact_bytes is None else cell.facts.artifact_bytes


def _figures(cell: Cell, baseline: Cell | None) -> str:
    p99, drop = cell.latency_ms.p99, drop_of(cell, baseline)
    needed = significance.samples_needed(0.99)
    said = f"unknown (not enough samples: {cell.samples} of {needed})" if p99 is None else f"{p99:.2f} ms"
    parts = [f"p99 {said} and {cell.throughput_rps:,.0f} requests/s at {cell.load.name}"]
    if cell.facts.quality is not None:
        below = "" if drop is None else f", {drop_text(drop)}"
        parts.append(f"{title_of([cell])} {cell.facts.quality:.2%}{below}")
    if cell.facts.memory_bytes is not None:
        parts.append(f"{cell.facts.memory_bytes / 1e6:.1f} MB of memory")
    if cell.facts.serving:
        parts.append(cell.facts.serving)
    return ", ".join(parts)


def _frontier(cells: Sequence[Cell], baseline: Cell | None) -> tuple[Standing, ...]:
    """Returns the cells of a load that nothing beats in p99 and accuracy, the fastest first."""
    best, standings = p99_frontier(cells), list[Standing]()
    for faster, cell in zip([None, *best], best, strict=False):
        if faster is None:
            text = "the fastest" if len(best) > 1 else "the fastest, and none is more accurate"
        else:
            more = 100 * ((cell.facts.quality or 0.0) - (faster.facts.quality or 0.0))
            times = (cell.latency_ms.p99 or 0.0) / (faster.latency_ms.p99 or 1.0)
            text = f"{more:.2f} points more accurate than {faster.variant}, and {times:.1f} times its p99"
        standings.append(Standing(cell, "frontier", _figures(cell, baseline), (text,)))
    return tuple(standings)
