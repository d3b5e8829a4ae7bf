"""Which variants need no more slices: what `--until-decided` asks after every stretch of a load.

    a constraint is broken       beyond doubt: by the interval of its p99, or by what its manifest says
    the winner is faster         clearly, and meets all constraints itself; or the variant's p99 is not lower either, so
                                 that it would break what the winner may still break
    nothing is left to decide    one variant is left, or all that are left are within `EQUAL` of the winner

Looking often finds more by chance. So of the share of runs that may be wrong, `ALPHA`, one half is for the looks on the
way, of which the k-th may take 1 / (k (k + 1)) of it, and one half for the end (alpha spending: Lan & DeMets 1983,
https://doi.org/10.1093/biomet/70.3.659, with the bound of Bonferroni). The comparisons of a run that raced are made at
the share of the look at which the first of the two stopped.

Under an open loop slices show only that a p99 is too high, never that it holds: there the winner stops nobody.
In every run a variant of which no call was answered in `SILENT` rounds stops too.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from loadtest.analysis.comparison import ALPHA, Comparison, Slices, compare_all
from loadtest.analysis.results import Cell, make_cells
from loadtest.client.metrics_page import Facts
from loadtest.decision.decision import Standing, decide_load
from loadtest.decision.versus import Versus, deciding_figures
from loadtest.measure.measurement import Interleaved, Stop
from loadtest.plan import Load, Plan

EQUAL = 1.02
"""Times that differ by at most this ratio need not be told apart."""
FEWEST_ROUNDS, FIRST_SHARE = 5, 0.25
"""Nobody looks before so many rounds, and before this share of all: every variant gets figures that can be shown."""
SILENT = 3


@dataclass(frozen=True)
class _SoFar:
    """What is known of a load, as `decision.decide_load` takes it."""

    plan: Plan
    cells: Sequence[Cell]
    comparisons: Sequence[Comparison]
    stops: Sequence[Stop] = ()


class Race:
    """Looks at the loads of one run; `facts` are by variant."""

    def __init__(self, plan: Plan, facts: Mapping[str, Facts]) -> None:
        self._plan, self._facts = plan, facts

    def look(self, load: Load, measured: Interleaved) -> list[Stop]:
        """Returns who stops now, by all that was measured under a load so far."""
        last, gone = measured.stretches[-1].last_round, {stop.variant for stop in measured.stops}
        going = [variant for variant in self._facts if variant not in gone]
        more, first = last < self._plan.rounds, max(FEWEST_ROUNDS, FIRST_SHARE * self._plan.rounds)
        reasons = {name: "no call was answered" for name in going if more and _is_silent(measured, name, load)}
        looks = sum(each.last_round >= first for each in measured.stretches)
        alpha = share_of_look(max(1, looks))
        if self._plan.until_decided and more and looks:
            found = self._decided(load, measured, alpha, [name for name in going if name not in reasons])
            reasons |= dict(found)
        return [Stop(variant, load, last, reason, alpha) for variant, reason in reasons.items()]

    def _decided(
        self, load: Load, measured: Interleaved, alpha: float, going: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        """Yields those that need no more slices, with the reason."""
        slices, alphas = Slices(measured.samples, load), alphas_of(measured.stops, load, self._facts, alpha)
        compared = [c for figure in deciding_figures(self._plan, load) for c in compare_all(slices, figure, alphas)]
        cells = make_cells(self._plan, measured, self._facts, loads=(load,), alpha=alpha)
        known = _SoFar(self._plan, cells, compared)
        decision, versus = decide_load(known, load), Versus(self._plan, compared, load)
        standings = {each.variant: each for each in decision.standings}
        broken = {name: why for name in going if (why := _broken(standings[name]))}
        yield from broken.items()
        winner = decision.winner
        if winner is None or (load.scenario == "server" and self._plan.sustained):
            return
        others = [standings[name] for name in going if name not in broken and name != winner.variant]
        holds = all(each.state == "met" for each in winner.judgements if each.constraint in ("p99", "rate"))
        beaten = [
            each
            for each in others
            if versus.beats(winner.cell, each.cell) and (holds or _p99(each.cell) >= _p99(winner.cell))
        ]
        yield from ((each.variant, versus.text(each.cell, winner.cell)) for each in beaten)
        left = [each for each in others if each not in beaten]
        if holds and all(_is_equal(versus.between(each.cell, winner.cell)) for each in left):
            yield from ((each.variant, f"within {EQUAL - 1:.0%} of {winner.variant}") for each in left)
            if winner.variant in going:
                yield winner.variant, "decided"


def share_of_look(number: int) -> float:
    """Returns the share of runs in which the `number`-th look, from 1, may claim something wrong."""
    return ALPHA / 2 / (number * (number + 1))


def alphas_of(stops: Sequence[Stop], load: Load, variants: Iterable[str], others: float) -> dict[str, float]:
    """Returns the share of wrong runs for each variant: that of the look at which it stopped, else `others`."""
    return dict.fromkeys(variants, others) | {stop.variant: stop.alpha for stop in stops if stop.load == load}


def _is_silent(measured: Interleaved, variant: str, load: Load) -> bool:
    answered = measured.samples.slices_of(variant, load)["answered"][-SILENT:]
    return len(answered) == SILENT and not answered.any()


def _broken(standing: Standing) -> str:
    return "; ".join(each.text for each in standing.judgements if each.state == "broken")


def _p99(cell: Cell) -> float:
    return math.inf if cell.latency_ms.p99 is None else cell.latency_ms.p99


def _is_equal(found: Comparison | None) -> bool:
    return found is not None and found.interval[0] >= 1 / EQUAL and found.interval[1] <= EQUAL
