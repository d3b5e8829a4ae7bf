"""Which variant to ship under the constraints of a plan, load by load, and why not each of the others.

Under each load the variants that the constraints admit (see `constraints`) are compared with each other, those only:

    the best    the lowest p99; where --p99 is given and --rate is not, the highest throughput within it. Arrivals come
                at a rate of their own, so there the p99 counts all the same
    the winner  of the best and those that are not clearly slower (see `comparison`: by throughput, or by p99 and where
                that is not clear by p50) the one that was shown to be more accurate, then the smaller, then the one on
                the first server
    nearest     where none is admitted: the one that breaks the fewest constraints, by the smallest share of a limit

Of the loads the one that `--rate` is decides, or else the smallest that carries it; without a rate the one at which the
winner does best. Without constraints nothing is decided: the frontier of each load is named, point by point.

In the report's page a reader moves the limits, so `report/web/decide.js` decides there as `decide_load` does here; a
test compares the two.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from loadtest.analysis.comparison import Comparison
from loadtest.analysis.results import Cell, Results
from loadtest.analysis.validity import baseline_of, invalid_reason, p99_frontier, title_of
from loadtest.decision import words
from loadtest.decision.accuracy import drop_of
from loadtest.decision.constraints import Judgement, drop_text, judge
from loadtest.decision.versus import Versus, cost_of, highest_throughput
from loadtest.measure.measurement import Stop
from loadtest.plan import Load, Plan
from protos.support import significance

Place = Literal["winner", "runner-up", "close", "beaten", "nearest", "ruled out", "frontier"]

_NUMBER = re.compile(r"[0-9][0-9.,]*")


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
    texts = {**words.HEADINGS, "max_drop": f"{metric} {words.HEADINGS['max_drop']}"}
    return ", ".join(texts[name].format(limit) for name, limit in plan.limits.items() if limit is not None)


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
        return min(won, key=lambda each: cost_of(each[0], highest_throughput(plan)))[1]
    return min(loads, key=lambda each: _distance(each.nearest) if each.nearest else (0, 0, 0.0))


def decide_load(results: Known, load: Load) -> LoadDecision:
    """Returns the answer for one load."""
    plan, baseline = results.plan, baseline_of(results.cells)
    cells = [cell for cell in results.cells if cell.load == load]
    if not plan.constrained:
        return LoadDecision(load, frontier_of(cells, baseline))
    versus = Versus(plan, results.comparisons, load)
    standings = [_judged(cell, baseline, plan) for cell in sorted(cells, key=versus.cost)]
    able = [each for each in standings if each.place == "close"]
    unable = sorted((each for each in standings if each.place == "ruled out"), key=_distance)
    if not able:
        unable[0] = replace(unable[0], place="nearest")
    stops = {stop.variant: stop for stop in results.stops if stop.load == load}
    placed = (*_placed(able, versus), *unable)
    return LoadDecision(load, tuple(_with_stop(each, stops.get(each.variant)) for each in placed))


def _judged(cell: Cell, baseline: Cell | None, plan: Plan) -> Standing:
    """Returns how a variant stands to the constraints: ruled out, or close until it is compared with others."""
    judgements = judge(cell, baseline, plan)
    broken = [each.text for each in judgements if not each.admits]
    broken += [invalid_reason(cell)] if cell.failures and plan.p99 is None else []
    reasons = broken or [each.text for each in judgements if each.state != "met"]
    place: Place = "ruled out" if broken else "close"
    return Standing(cell, place, figures_text(cell, baseline), tuple(reasons), judgements)


def _placed(able: Sequence[Standing], versus: Versus) -> Iterator[Standing]:
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


def _with_stop(standing: Standing, stop: Stop | None) -> Standing:
    """Adds that a variant was stopped, and why unless its reasons say so already, be it with other numbers."""
    if stop is None:
        return standing
    said = {_NUMBER.sub("", text) for text in standing.reasons}
    repeated = all(_NUMBER.sub("", text) in said for text in stop.reason.split("; "))
    text = words.STOPPED.format(stop.round) + ("" if repeated else f": {stop.reason}")
    return replace(standing, reasons=(*standing.reasons, text))


def _distance(standing: Standing) -> tuple[int, int, float]:
    """Returns how many constraints a variant breaks, how many it is not known to meet, and the share that it misses."""
    missed = [each for each in standing.judgements if not each.admits]
    broken = sum(each.state == "broken" for each in missed) + bool(standing.cell.failures)
    return broken, len(missed) - broken, sum(each.excess for each in missed)


def figures_text(cell: Cell, baseline: Cell | None) -> str:
    """Says what was measured of a variant; `baseline` is the FP32 cell (`validity.baseline_of`)."""
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


def frontier_of(cells: Sequence[Cell], baseline: Cell | None) -> tuple[Standing, ...]:
    """Returns the cells of a load that nothing beats in p99 and accuracy, the fastest first."""
    best, standings = p99_frontier(cells), list[Standing]()
    for faster, cell in zip([None, *best], best, strict=False):
        if faster is None:
            text = "the fastest" if len(best) > 1 else "the fastest, and none is more accurate"
        else:
            more = 100 * ((cell.facts.quality or 0.0) - (faster.facts.quality or 0.0))
            times = (cell.latency_ms.p99 or 0.0) / (faster.latency_ms.p99 or 1.0)
            text = f"{more:.2f} points more accurate than {faster.variant}, and {times:.1f} times its p99"
        standings.append(Standing(cell, "frontier", figures_text(cell, baseline), (text,)))
    return tuple(standings)
