"""Which configuration to use: the default, unless another one was shown to be faster.

    may be used    what meets the constraints of the run as `decision.constraints` judges them, and answered every call
    faster         clearly, by the comparison of the rounds that both were measured in (`analysis.comparison`): by
                   throughput where --p99 is given without --rate, else by p99, and where that is not clear by p50
    the best       of those that are faster than the default the first in rank: the highest throughput, or lowest p99

The intervals of all comparisons hold together, so that the best may be chosen after looking. Where the load generator
was the limit of the default, the default may be faster than was measured, and nothing is claimed.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtest.analysis.comparison import Comparison
from loadtest.analysis.results import Cell, Results
from loadtest.analysis.validity import invalid_reason
from loadtest.decision.constraints import Judgement, judge
from loadtest.decision.versus import Versus
from loadtest.tune.candidates import DEFAULT, Configuration


@dataclass(frozen=True)
class Place:
    """A configuration in the ranking."""

    configuration: Configuration
    cell: Cell
    judgements: tuple[Judgement, ...]
    """How it stands to each constraint."""
    against: Comparison | None
    """The comparison with the default; None for the default itself, and where there were too few calls."""

    @property
    def unmet(self) -> tuple[str, ...]:
        """Returns why it may not be used; nothing where it may."""
        failed = (invalid_reason(self.cell),) if self.cell.failures else ()
        return (*failed, *(each.text for each in self.judgements if not each.admits))

    @property
    def unsure(self) -> tuple[str, ...]:
        """Returns what it meets by what was measured, and not 95% surely."""
        return tuple(each.text for each in self.judgements if each.admits and each.state != "met")

    @property
    def times(self) -> tuple[float, float, float] | None:
        """Returns how many times the default's figure it has, and the interval: above 1 is better for throughput."""
        if self.against is None:
            return None
        by_throughput = self.against.figure == "throughput"
        one, other = self.against.faster, self.against.slower
        default = other if one == self.cell.variant else one
        ratio, (low, high) = self.against.of(default if by_throughput else self.cell.variant)
        return ratio, low, high

    @property
    def faster(self) -> bool:
        """Returns whether it is faster than the default, by as much as is known."""
        return self.against is not None and self.against.faster == self.cell.variant

    @property
    def evidence(self) -> str:
        """Says how it compares with the default; empty where that is not known."""
        if self.against is None or self.times is None:
            return ""
        ratio, low, high = self.times
        said = f"{low:.2f} to {high:.2f}, {self.against.verdict}"
        return f"{ratio:.2f} times the default's {self.against.figure}, {said}"


@dataclass(frozen=True)
class Verdict:
    """The ranking, the one to use, and the sentence that says so."""

    places: tuple[Place, ...]
    """Those that may be used first, the best of them first; then the others."""
    best: Configuration | None
    """None where no configuration meets the constraints."""
    sentence: str


def make_verdict(results: Results, configurations: Mapping[str, Configuration]) -> Verdict:
    """Returns the verdict on a run; `configurations` has the server of each variant, by its name in the results."""
    versus = Versus(results.plan, results.comparisons, results.cells[0].load)
    default = next(cell for cell in results.cells if configurations[cell.variant] == DEFAULT)
    places = [
        Place(
            configurations[cell.variant],
            cell,
            judge(cell, None, results.plan),
            None if cell is default else versus.between(cell, default),
        )
        for cell in sorted(results.cells, key=versus.cost)
    ]
    able = [place for place in places if not place.unmet]
    ranked = (*able, *(place for place in places if place.unmet))
    kept = next(place for place in places if place.cell is default)
    if not able:
        return Verdict(ranked, None, _none(places))
    if kept.unmet:
        return Verdict(ranked, *_instead(able, kept, results))
    faster = [place for place in able if place.faster and not default.generator_limited]
    shown = next((place for place in faster if place.against and place.against.verdict == "clear"), None)
    if shown:
        return Verdict(ranked, shown.configuration, f"use: {_command(shown, results)} ({shown.evidence})")
    return Verdict(ranked, DEFAULT, _default_stays(default, faster))


def _command(place: Place, results: Results) -> str:
    plan = results.plan
    return shlex.join(["pareto-serve", "--repository", str(plan.repository), *place.configuration.flags])


def _default_stays(default: Cell, faster: list[Place]) -> str:
    if default.generator_limited:
        return f"the default stays: nothing can be shown to be faster, it was {invalid_reason(default)}"
    text = "the default is best: no configuration was shown to be faster"
    likely = next((place for place in faster if place.against and place.against.verdict == "likely"), None)
    if likely is None:
        return text
    return f"{text}; {likely.configuration.label} is likely to be ({likely.evidence}): try a longer --duration"


def _instead(able: Sequence[Place], default: Place, results: Results) -> tuple[Configuration, str]:
    """Returns what takes the place of a default that may not be used: the first that surely meets the constraints."""
    best = next((place for place in able if not place.unsure), able[0])
    met = "; ".join(best.unsure) or "it meets the constraints"
    sentence = f"use: {_command(best, results)} ({met}; the default may not be used: {'; '.join(default.unmet)})"
    return best.configuration, sentence


def _none(places: list[Place]) -> str:
    first = f"{places[0].configuration.label}: {'; '.join(places[0].unmet)}"
    return f"use none: no configuration meets the constraints; the first in rank is {first}"
