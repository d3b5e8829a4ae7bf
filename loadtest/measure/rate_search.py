"""The highest arrival rate at which a service level objective (SLO) holds: what all trials say together.

    bracket   double the rate until it breaks, or halve it until it holds
    narrow    try the rate that tells most of where the objective stops to hold (see `rate_model`), until that crossing
              is known to `WIDTH`, or `MOST_TRIALS` are made

No trial is thrown away: one that held above the crossing, or broke below it, widens the interval, and those outside it
are counted (`Found.contradicting`). A trial that the load generator limited proves nothing and is made again once.

In simulated queues (1 ms of service, p99 within 20 ms, trials of 3 s, 200 searches each) this share came true:

                                          M/M/1   M/D/1   one trial of ten spoilt: M/M/1   M/D/1
    the interval covers the crossing      96%     100%                             90%     97%
    `held` holds in 3 s more              96%     97%                              86%     92%
    `held` holds in 10 s more             94%     99%                              88%     88%
    1.25 times the upper end breaks       100%    100%                             100%    100%

Without `rate_model.SPOILT` the interval covered the crossing of M/M/1 in 89% and, where one trial of ten was spoilt, in
87%, and `held` held in 81%. `held` is 9% (M/D/1: 6%) below the interval's lower end in the median: the price of holding
again.

Nothing here sends load: `measure` does, and it must leave the server with an empty queue.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loadtest.measure.rate_model import RateModel
from protos.support import significance

Outcome = Literal["holds", "p99", "errors", "generator", "too few samples"]
"""What a trial says of the objective. Only `p99` and `errors` prove that it is broken."""
UNPROVEN = ("generator", "too few samples")

WIDTH = 1.1
"""The search ends where the upper end of the crossing's interval is at most this many times the lower one."""

MOST_TRIALS = 30
RELIABLE = 0.9
"""A rate to rely on holds in the next trial with this probability."""

ACHIEVED = 0.98
"""A trial must send this share of the calls that were due to count as one at its rate."""

SPARE = 1.1
"""A trial asks for this many times the samples needed, since a call at its edge may not count."""


@dataclass(frozen=True)
class Objective:
    """The service level objective: the highest p99, from the intended start, and the highest share of failed calls."""

    p99_ms: float
    error_rate: float = 0.001

    @property
    def calls_needed(self) -> int:
        """Calls that p99 needs (`significance.samples_needed`), and that keep one failed call within the error rate."""
        return max(significance.samples_needed(0.99), math.ceil(1 / self.error_rate) if self.error_rate else 0)

    def may_miss(self, calls: int) -> float:
        """Returns how many of a trial's calls may fail or be late; with more, p99 or error rate is broken for sure."""
        return (0.01 + self.error_rate) * calls + 1


@dataclass(frozen=True)
class Trial:
    """One stretch of load at one rate."""

    rate: float
    """Arrivals per second that were asked for."""
    achieved: float
    """Arrivals per second that the generator sent, answered or not."""
    calls: int
    failures: int
    p99_ms: float | None
    """The p99 of the calls that did not fail, from their intended start; None where they are too few."""
    generator_limited: bool
    """Whether the generator's own CPU may have been the limit (`stats.generator_limit`)."""
    ended_early: bool = False
    """Whether it ended as soon as the objective was broken beyond doubt."""

    @property
    def p99_text(self) -> str:
        """Returns the p99 in words."""
        return "too few calls for a p99" if self.p99_ms is None else f"p99 {self.p99_ms:.2f} ms"

    def outcome(self, objective: Objective) -> Outcome:
        """Returns what the trial says; a slow generator can break an objective, but cannot make it hold."""
        if self.achieved < ACHIEVED * self.rate:
            return "generator"
        if not self.ended_early and self.calls < objective.calls_needed:
            return "too few samples"
        if self.failures > objective.error_rate * self.calls:
            return "generator" if self.generator_limited else "errors"
        if self.p99_ms is None and not self.ended_early:
            return "too few samples"
        if self.p99_ms is not None and self.p99_ms <= objective.p99_ms:
            return "holds"
        return "generator" if self.generator_limited else "p99"


Measure = Callable[[float, float], Trial]
"""Makes a trial of a rate in arrivals per second and a length in seconds."""


@dataclass(frozen=True)
class Found:
    """The answer: where the objective stops to hold, and the rate to rely on."""

    held: float | None
    """Rate at which the next trial holds with probability `RELIABLE`; not above the interval, and not above every rate
    that held. None where no rate held."""
    crossing: float | None
    """Rate at which the objective holds in half of the trials; None where no rate held or none broke."""
    interval: tuple[float, float] | None
    """The `significance.CONFIDENCE` interval of `crossing`."""
    bounded_by: Outcome | Literal["highest"]
    """Why higher rates do not hold, or were not tried; `highest` where all trials held."""
    trials: tuple[Trial, ...]

    def contradicting(self, objective: Objective) -> int:
        """Returns how many trials held above the interval or broke below it."""
        if self.interval is None:
            return 0
        low, high = self.interval
        outcomes = ((trial.rate, trial.outcome(objective)) for trial in self.trials)
        return sum(rate > high if said == "holds" else rate < low and said not in UNPROVEN for rate, said in outcomes)


def find_max_rate(measure: Measure, objective: Objective, start: float, lowest: float, seconds: float) -> Found:
    """Searches as told at the top of this file, in at most `MOST_TRIALS` trials.

    `start` is the first rate, and nothing below `lowest` is bracketed. A trial lasts `seconds` or longer.
    """
    trials = list[Trial]()
    rate: float | None = start
    while rate and len(trials) < MOST_TRIALS:
        trials.append(measure(rate, max(seconds, SPARE * objective.calls_needed / rate)))
        rate = _next_rate(_Seen(trials, objective), lowest)
    return conclude(trials, objective)


def conclude(trials: Sequence[Trial], objective: Objective) -> Found:
    """Returns what trials say so far, in whatever order they were made."""
    seen, tried = _Seen(trials, objective), tuple(trials)
    why: list[Outcome] = [said for said in seen.outcomes if said in ("p99", "errors")]
    unproven: list[Outcome] = [said for said in seen.outcomes if said in UNPROVEN]
    bounded_by = Counter(why or unproven).most_common(1)[0][0] if why or unproven else "highest"
    if not seen.held:
        return Found(None, None, None, bounded_by, tried)
    model = seen.model()
    low, crossing, high = (model.crossing(q) for q in _quantiles())
    held = min(low, model.reliable(RELIABLE), max(seen.held))
    if not seen.broke:
        return Found(held, None, None, bounded_by, tried)
    if crossing > seen.limit:
        return Found(held, None, None, unproven[-1], tried)
    return Found(held, crossing, (low, high), bounded_by, tried)


def describe(found: Found) -> str:
    """Says in words what was found."""
    if found.held is None:
        lowest = min((trial.rate for trial in found.trials), default=None)
        return "nothing is known" if lowest is None else f"no rate held, {lowest:.4g} the lowest tried"
    if found.crossing is None or found.interval is None:
        return f"rely on {found.held:.4g}, no higher rate is known to break"
    low, high = found.interval
    interval = f"({significance.CONFIDENCE:.0%} interval {low:.4g} to {high:.4g})"
    return f"half of the trials hold at {found.crossing:.4g} {interval}, rely on {found.held:.4g}"


class _Seen:
    """What trials proved."""

    def __init__(self, trials: Sequence[Trial], objective: Objective) -> None:
        self.rates = [trial.rate for trial in trials]
        self.outcomes = [trial.outcome(objective) for trial in trials]
        said = [*zip(self.rates, self.outcomes, strict=True)]
        self.held = [rate for rate, outcome in said if outcome == "holds"]
        self.broke = [rate for rate, outcome in said if outcome in ("p99", "errors")]
        self.unproven = Counter(rate for rate, outcome in said if outcome in UNPROVEN)
        proved = max(self.held + self.broke, default=0.0)
        self.limit = min((r for r, count in self.unproven.items() if count > 1 and r > proved), default=math.inf)
        """Lowest rate, of those above all that proved something, at which two trials proved nothing."""

    def model(self) -> RateModel:
        """Returns what the trials that proved something say together."""
        held = [True] * len(self.held) + [False] * len(self.broke)
        return RateModel(np.array(self.held + self.broke), np.array(held))


def _next_rate(seen: _Seen, lowest: float) -> float | None:
    """Returns the rate to try next, or None where the search is done."""
    if seen.outcomes[-1] in UNPROVEN and seen.unproven[seen.rates[-1]] == 1:
        return seen.rates[-1]
    if not seen.held:
        low = min(seen.rates)
        return max(low / 2, lowest) if low > lowest else None
    high = max(seen.held)
    if not seen.broke:
        if seen.limit < math.inf:
            return math.sqrt(high * seen.limit) if seen.limit > WIDTH * high else None
        return 2 * high
    model = seen.model()
    low, _, high = (model.crossing(q) for q in _quantiles())
    return min(model.most_informative(low, high), seen.limit / WIDTH) if high > WIDTH * low else None


def _quantiles() -> tuple[float, float, float]:
    beyond = (1 - significance.CONFIDENCE) / 2
    return beyond, 0.5, 1 - beyond
