"""The highest arrival rate at which a service level objective (SLO) holds: an interval, not a point.

    bracket   double the rate until it breaks, or halve it until it holds
    bisect    until the bracket is `width` narrow
    verify    go one `width` below the rate that held, and measure that afresh; then `BEYOND` times it, which must
              break. If the first fails now, it is the new upper end; if the second holds, the new lower end; either
              way the search goes on from there

So what is returned held in fresh trials and broke at 1.25 times the rate, unless the result says otherwise. The step
down is there because the highest rate that held was chosen for holding. In simulated queues (M/M/1 and M/D/1, up to
one trial of ten spoilt) a further trial of 3 s held the chosen rate in 3 of 4 runs, and the one below it in 17 of 20;
a trial of 10 s in 18 of 20; and 1.25 times that rate broke in 18 to 20 of 20. Longer trials make a surer answer.

A rate is decided by the majority of up to three trials, because on a busy machine one may be bad by accident. The
latest decision on a rate counts, and a server that holds a rate above one that it broke is taken as it is.

Nothing here sends load: `measure` does, and it must leave the server with an empty queue.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from loadtest import stats

Failure = Literal["p99", "errors", "generator", "too few samples"]
"""Why a trial, or the majority at a rate, does not show that the objective holds; only the first two prove that not."""

Outcome = Literal["holds"] | Failure

MAJORITY = 2
"""Two of three trials decide: the third is made only where the first two disagree."""

BEYOND = 1.25
"""The objective must break at this many times the found rate."""

VERIFICATIONS = 6
"""How often a bracket is verified at most: a server that belies each one is given up unverified."""

ACHIEVED = 0.98
"""Share of the asked rate that a trial must reach to be one at that rate."""

SPARE = 1.1
"""Times the samples needed are asked for, since a call at the edge of a trial may not count."""


@dataclass(frozen=True)
class Objective:
    """What must hold."""

    p99_ms: float
    """p99 of the latency from the intended start, at most, in milliseconds"""
    error_rate: float = 0.001
    """share of the calls that may fail, at most"""

    def __post_init__(self) -> None:
        if not 0 < self.p99_ms < math.inf:
            raise ValueError(f"p99_ms: got {self.p99_ms}, expected milliseconds above 0")
        if not 0 <= self.error_rate < 1:
            raise ValueError(f"error_rate: got {self.error_rate}, expected a share of at least 0 and below 1")

    @property
    def calls_needed(self) -> int:
        """Enough for p99 (`stats.samples_needed`), and for one failed call alone not to exceed the error rate."""
        return max(stats.samples_needed(0.99), math.ceil(1 / self.error_rate) if self.error_rate else 0)


@dataclass(frozen=True)
class Trial:
    """One stretch of load at one rate."""

    rate: float
    """Arrivals per second that were asked for."""
    achieved: float
    """Arrivals per second that the generator made of it, whatever became of them."""
    calls: int
    failures: int
    p99_ms: float | None
    """The p99 of the calls that did not fail, from their intended start; None where they are too few."""
    generator_limited: bool
    """Whether the generator's own CPU or lag may have been the limit (`stats.is_generator_limited`)."""

    def outcome(self, objective: Objective) -> Outcome:
        """What the trial says about its rate.

        A slow generator adds latency and never takes any away: an objective that is met in spite of it holds, one
        that is not may be the generator's fault.
        """
        if self.achieved < ACHIEVED * self.rate:
            return "generator"
        if self.calls < objective.calls_needed:
            return "too few samples"
        broken: Outcome = "generator" if self.generator_limited else "errors"
        if self.failures > objective.error_rate * self.calls:
            return broken
        if self.p99_ms is None:
            return "too few samples"
        if self.p99_ms <= objective.p99_ms:
            return "holds"
        return "generator" if self.generator_limited else "p99"


Measure = Callable[[float, float], Trial]
"""Makes a trial of a rate in arrivals per second and a length in seconds."""


@dataclass(frozen=True)
class Range:
    """Where to search, in arrivals per second."""

    start: float
    """first rate to try"""
    lowest: float
    """rate below which nothing is tried"""
    highest: float = math.inf
    """rate above which nothing is tried, such as the generator's ceiling"""
    width: float = 0.05
    """where bisecting ends: the found interval is at most twice as wide"""
    seconds: float = 3.0
    """least length of a trial"""

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.start <= self.highest:
            raise ValueError(
                f"rates: got lowest {self.lowest}, start {self.start}, highest {self.highest}, expected rising ones"
                " above 0"
            )
        if not 0 < self.width < BEYOND - 1:
            raise ValueError(f"width: got {self.width}, expected a share above 0 and below {BEYOND - 1}")
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds: got {self.seconds}, expected more than 0")


@dataclass(frozen=True)
class Found:
    """The answer: the highest rate at which the objective holds lies between `held` and `broke`."""

    held: float | None
    """Rate to rely on; None where none held, down to the lowest that may be tried."""
    broke: float | None
    """Lowest rate above it that did not hold; None where none was found."""
    bounded_by: Failure | Literal["highest"]
    """Why `broke` did not hold, or that the search may go no higher."""
    held_again: bool
    """Whether fresh trials of `held` confirmed it."""
    breaks_beyond: bool | None
    """Whether the objective was seen broken at `BEYOND` times `held`; None where that rate could not be tried."""
    trials: tuple[Trial, ...]
    """All that were made, in turn."""


def trial_seconds(rate: float, objective: Objective, least: float) -> float:
    """How long a trial at this rate must last for the objective to be judged."""
    return max(least, SPARE * objective.calls_needed / rate)


def find_max_rate(measure: Measure, objective: Objective, within: Range) -> Found:
    """Searches as told at the top of this file, in some 30 trials, of which none is thrown away."""
    search = _Search(measure, objective, within)
    held: float | None = None
    held_again, breaks_beyond = False, None
    for _ in range(VERIFICATIONS):
        held, held_again, breaks_beyond = search.narrow(held), False, None
        if held is None:
            break
        if search.broke_above(held) is not None:
            held = max(held / (1 + within.width), within.lowest)
        if search.decide(held) != "holds":
            held = search.held_below(held)
            continue
        held_again, beyond = True, min(BEYOND * held, within.highest)
        if beyond == held:
            break
        if (outcome := search.decide(beyond)) != "holds":
            breaks_beyond = True if outcome in ("p99", "errors") else None
            break
        held, held_again = beyond, False
    broke = search.broke_above(held)
    return Found(
        held=held,
        broke=broke,
        bounded_by="highest" if broke is None else search.breaking[broke],
        held_again=held_again,
        breaks_beyond=breaks_beyond,
        trials=tuple(search.trials),
    )


@dataclass
class _Search:
    """The trials so far and what they decided."""

    measure: Measure
    objective: Objective
    within: Range
    trials: list[Trial] = field(default_factory=list)
    holding: set[float] = field(default_factory=set)
    breaking: dict[float, Failure] = field(default_factory=dict)
    """The rates decided so far, by the latest decision on each."""

    def decide(self, rate: float) -> Outcome:
        """Decides on a rate by fresh trials. A trial that was too short to be judged makes the next twice as long."""
        seconds = trial_seconds(rate, self.objective, self.within.seconds)
        held, failures = 0, list[Failure]()
        while max(held, len(failures)) < MAJORITY:
            trial = self.measure(rate, seconds)
            self.trials.append(trial)
            if (outcome := trial.outcome(self.objective)) == "holds":
                held += 1
            else:
                failures.append(outcome)
            seconds *= 2 if outcome == "too few samples" else 1
        self.holding.discard(rate)
        self.breaking.pop(rate, None)
        if held == MAJORITY:
            self.holding.add(rate)
            return "holds"
        self.breaking[rate] = failures[-1]
        return failures[-1]

    def narrow(self, held: float | None) -> float | None:
        """Brackets and bisects upwards of a rate that holds, or from the start; the held end, None without one."""
        within = self.within
        while True:
            broke = self.broke_above(held)
            if held is None:
                if broke == within.lowest:
                    return None
                rate = within.start if broke is None else max(broke / 2, within.lowest)
            elif broke is None:
                if held == within.highest:
                    return held
                rate = min(2 * held, within.highest)
            elif broke <= held * (1 + within.width):
                return held
            else:
                rate = math.sqrt(held * broke)
            if self.decide(rate) == "holds":
                held = rate

    def held_below(self, rate: float) -> float | None:
        """The highest rate below that holds, as far as is known."""
        return max((known for known in self.holding if known < rate), default=None)

    def broke_above(self, rate: float | None) -> float | None:
        """The lowest rate above that does not hold, as far as is known."""
        return min((known for known in self.breaking if known > (rate or 0.0)), default=None)
