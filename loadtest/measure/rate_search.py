"""The highest arrival rate at which a service level objective (SLO) holds: an interval, not a point.

    bracket   double the rate until it breaks, or halve it until it holds
    bisect    until the ends of the bracket are `WIDTH` apart
    verify    measure afresh one `WIDTH` below the rate that held, then `BEYOND` times that rate, which must break. If
              the first fails now, it is the new upper end; if the second holds, it is the new lower end; either way
              the search goes on from there

The step down is there because the highest rate that held was chosen for holding. In simulated queues (M/M/1 and M/D/1,
up to one trial of ten spoilt) a further trial of 3 s held the chosen rate in 3 of 4 runs, and the one below it in 17 of
20; a trial of 10 s in 18 of 20; and 1.25 times that rate broke in 18 to 20 of 20.

The majority of up to three trials decides on a rate, because on a busy machine one may be bad by accident. Nothing
here sends load: `measure` does, and it must leave the server with an empty queue.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from protos.support import significance

Outcome = Literal["holds", "p99", "errors", "generator", "too few samples"]
"""What a trial, or the majority at a rate, says of the objective. Only `p99` and `errors` prove that it is broken."""

MAJORITY = 2
"""Two of three trials decide: the third is made only where the first two disagree."""

WIDTH = 0.05
"""Bisecting ends where the upper end is at most this share above the lower one."""

BEYOND = 1.25
"""The objective must break at this many times the found rate; more than 1 + `WIDTH`."""

VERIFICATIONS = 6
"""A bracket is verified at most this many times. A server that contradicts each one is given up unverified."""

ACHIEVED = 0.98
"""A trial must reach this share of the asked rate to count as one at that rate."""

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

    def outcome(self, objective: Objective) -> Outcome:
        """Returns what the trial says; a slow generator can break an objective, but cannot make it hold."""
        if self.achieved < ACHIEVED * self.rate:
            return "generator"
        if self.calls < objective.calls_needed:
            return "too few samples"
        if self.failures > objective.error_rate * self.calls:
            return "generator" if self.generator_limited else "errors"
        if self.p99_ms is None:
            return "too few samples"
        if self.p99_ms <= objective.p99_ms:
            return "holds"
        return "generator" if self.generator_limited else "p99"


Measure = Callable[[float, float], Trial]
"""Makes a trial of a rate in arrivals per second and a length in seconds."""


@dataclass(frozen=True)
class Found:
    """The answer: the highest rate at which the objective holds lies between `held` and `broke`."""

    held: float | None
    """Rate to rely on; None where no rate held."""
    broke: float | None
    """Lowest rate above `held` that did not hold; None where every rate held."""
    bounded_by: Outcome | Literal["highest"]
    """Why `broke` did not hold; `highest` where there is no such rate."""
    held_again: bool
    """Whether fresh trials of `held` confirmed it."""
    breaks_beyond: bool | None
    """True where trials at `BEYOND` times `held` proved the objective broken there; else None."""
    trials: tuple[Trial, ...]


def find_max_rate(measure: Measure, objective: Objective, start: float, lowest: float, seconds: float) -> Found:
    """Searches as told at the top of this file, in some 30 trials, of which none is thrown away.

    `start` is the first rate, and nothing below `lowest` is tried. A trial lasts `seconds` or longer.
    """
    search = _Search(measure, objective, start, lowest, seconds)
    held: float | None = None
    held_again, breaks_beyond = False, None
    for _ in range(VERIFICATIONS):
        held, held_again, breaks_beyond = search.narrow(held), False, None
        if held is None:
            break
        held = max(held / (1 + WIDTH), lowest)
        if search.decide(held) != "holds":
            held = search.held_below(held)
            continue
        held_again, beyond = True, BEYOND * held
        if (outcome := search.decide(beyond)) != "holds":
            breaks_beyond = True if outcome in ("p99", "errors") else None
            break
        held, held_again = beyond, False
    broke = search.broke_above(held)
    bounded_by = "highest" if broke is None else search.decided[broke]
    return Found(held, broke, bounded_by, held_again, breaks_beyond, tuple(search.trials))


@dataclass
class _Search:
    """The trials so far, and the latest decision on each rate."""

    measure: Measure
    objective: Objective
    start: float
    lowest: float
    seconds: float
    trials: list[Trial] = field(default_factory=list)
    decided: dict[float, Outcome] = field(default_factory=dict)

    def decide(self, rate: float) -> Outcome:
        """Decides on a rate by fresh trials. A trial with too few samples makes the next one twice as long."""
        seconds = max(self.seconds, SPARE * self.objective.calls_needed / rate)
        outcomes = list[Outcome]()
        while max(held := outcomes.count("holds"), len(outcomes) - held) < MAJORITY:
            trial = self.measure(rate, seconds)
            self.trials.append(trial)
            outcomes.append(trial.outcome(self.objective))
            seconds *= 2 if outcomes[-1] == "too few samples" else 1
        self.decided[rate] = outcomes[-1]
        return outcomes[-1]

    def narrow(self, held: float | None) -> float | None:
        """Brackets and bisects upwards of a rate that holds, or from the start. Returns the end that holds, if any."""
        while True:
            broke = self.broke_above(held)
            if held is None:
                if broke == self.lowest:
                    return None
                rate = self.start if broke is None else max(broke / 2, self.lowest)
            elif broke is None:
                rate = 2 * held
            elif broke <= held * (1 + WIDTH):
                return held
            else:
                rate = math.sqrt(held * broke)
            if self.decide(rate) == "holds":
                held = rate

    def held_below(self, rate: float) -> float | None:
        """Returns the highest rate below `rate` that holds, as far as is known."""
        return max((known for known, said in self.decided.items() if said == "holds" and known < rate), default=None)

    def broke_above(self, rate: float | None) -> float | None:
        """Returns the lowest rate above `rate` that does not hold, as far as is known."""
        broke = (known for known, said in self.decided.items() if said != "holds" and known > (rate or 0.0))
        return min(broke, default=None)
