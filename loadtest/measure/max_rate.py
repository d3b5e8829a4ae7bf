"""The highest rate that each variant of a run holds: `rate_search` decides what to try, real load tries it.

Two short closed loops come first, so that the search begins at a sensible rate. One user's latency is the least that
any rate can have; the answers to all connections are about the most that any rate can reach. An interrupted search
begins again with the closed loops and trials of the checkpoint instead of load, and so comes to where it was.

A trial ends early where its objective is broken beyond doubt (`RunContext.measure`), so that no long queue is built
and waited for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rich.console import Console

from loadtest import stats
from loadtest.client.failures import Failure
from loadtest.client.failures import merge as merge_failures
from loadtest.measure.block import RunContext
from loadtest.measure.checkpoint import Checkpoint
from loadtest.measure.measurement import OK, Measurement, Search, steady_latencies
from loadtest.measure.rate_search import Found, Objective, Outcome, Trial, conclude, describe, find_max_rate
from loadtest.plan import Block, Load
from loadtest.users.recorder import STEADY, Samples, merge
from protos.support import significance

CLOSED_LOOP_SECONDS = 1.0
"""A closed loop before a search lasts at most this long."""

START = 0.5
"""The search begins at this share of the closed loop's throughput."""

OUTCOMES: Mapping[Outcome, str] = {
    "holds": "holds",
    "p99": "broke",
    "errors": "broke",
    "generator": "shows nothing, the load generator was the limit",
    "too few samples": "shows nothing, too few calls",
}
"""What each outcome of a trial means."""

DEPTH = 16
"""No rate below 1/16 of the first is tried: there a trial with enough samples takes 16 times as long."""


def search_all(context: RunContext, checkpoint: Checkpoint, console: Console) -> tuple[tuple[Search, ...], Samples]:
    """Searches for each variant in turn; returns the calls of all trials too, each trial with its number as round."""
    plan = context.plan
    assert plan.p99 is not None, "a plan with a search has one"
    objective = Objective(plan.p99, plan.error_rate)
    searches, samples = list[Search](), list[Samples]()
    for number, variant in enumerate(context.variants, 1):
        search = _VariantSearch(context, checkpoint, console, number, variant, objective)
        found = search.find()
        searches.append(Search(variant, objective, found, merge_failures(search.failures)))
        samples += search.samples
    return tuple(searches), merge(samples)


@dataclass
class _VariantSearch:
    """The search for one variant's rate."""

    context: RunContext
    checkpoint: Checkpoint
    console: Console
    number: int
    variant: str
    objective: Objective
    turns: int = 0
    trials: list[Trial] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def find(self) -> Found:
        """Runs the closed loops, then searches, unless they show that no rate can hold."""
        plan, limit = self.context.plan, self.objective.p99_ms
        self._say(f"a search for the highest rate with p99 within {limit:g} ms")
        closed_loops = (Load("closed", users) for users in (1, plan.connections))
        seconds = min(CLOSED_LOOP_SECONDS, plan.duration)
        alone, together = (self._measure(load, seconds, 0) for load in closed_loops)
        waited = significance.quantile(steady_latencies(alone.samples.rows) * 1e3, 0.5)
        answered = together.answered / together.seconds
        if not answered or (waited is not None and waited > limit):
            return Found(None, None, None, "p99" if answered else "errors", ())
        start = START * answered
        found = find_max_rate(self._try, self.objective, start, start / DEPTH, plan.duration)
        self._say(describe(found))
        return found

    def _try(self, rate: float, seconds: float) -> Trial:
        number = len(self.trials) + 1
        so_far = describe(conclude(self.trials, self.objective))
        about = f"next, trial {number}, {rate:.4g} per second for {seconds:.1f} s; so far {so_far}"
        measured = self._measure(Load("server", rate), seconds, number, about)
        self.samples.append(measured.samples)
        trial = _trial(measured, rate, seconds)
        self.trials.append(trial)
        self._say(f"trial {number}, {rate:.4g} per second: {_said(trial, self.objective)}")
        return trial

    def _measure(self, load: Load, seconds: float, number: int, about: str = "") -> Measurement:
        """Returns a block of this load alone, from the checkpoint if it is there; else measures it."""
        self.turns += 1
        name, block = f"search-{self.number}-{self.turns}", Block(self.variant, load, number)
        measured = self.checkpoint.read(name, block) or self._load(name, block, seconds, about)
        self.failures += measured.failures
        return measured

    def _load(self, name: str, block: Block, seconds: float, about: str) -> Measurement:
        """Measures a block and keeps it."""
        load = block.load
        if about:
            self._say(about)
        users, rates = ((int(load.level),), ()) if load.scenario == "closed" else ((), (load.level,))
        plan = replace(self.context.plan, users=users, rates=rates, offline=(), duration=seconds)
        measured = replace(self.context, plan=plan).measure(block, self.objective if rates else None)
        self.checkpoint.keep(name, measured)
        return measured

    def _say(self, text: str) -> None:
        title = f"[{self.number}/{len(self.context.variants)}] {self.variant}"
        self.console.print(f"{title}: {text}", highlight=False, markup=False, soft_wrap=True)


def _said(trial: Trial, objective: Objective) -> str:
    """Says what a trial showed, for a person who watches."""
    outcome = trial.outcome(objective)
    early = ", ended early" if trial.ended_early else ""
    return f"{OUTCOMES[outcome]}, {trial.p99_text}, {trial.failures} of {trial.calls} calls failed{early}"


def _trial(measured: Measurement, rate: float, seconds: float) -> Trial:
    """Returns what a search must know of a block that was to last `seconds`.

    Calls that were due and never sent are the generator's doing, unless they were due after an early end.
    """
    rows = measured.samples.rows[measured.samples.rows["phase"] == STEADY]
    return Trial(
        rate=rate,
        achieved=rate * len(rows) / measured.due if measured.due else 0.0,
        calls=len(rows),
        failures=int((rows["status"] != OK).sum()),
        p99_ms=significance.quantile(steady_latencies(rows) * 1e3, 0.99),
        generator_limited=stats.generator_limit(measured.thread_seconds / measured.seconds) is not None,
        ended_early=measured.seconds < seconds,
    )
