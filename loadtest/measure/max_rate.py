"""The highest rate that each variant of a run holds, searched with real load: what `search` plans, `blocks` measures.

Before the search of a variant two short looks, each in a closed loop, so that it begins at a sensible rate: what a
single user waits for, below which no rate can bring a latency; and how many requests all connections get answered,
which no rate can be much above. A trial waits for all calls that it sent, so the next one finds an empty queue.

Each look and each trial is kept in the run's journal. A search that was interrupted begins again with those answers
instead of load, and so comes to where it was.
"""

from dataclasses import replace

from rich.console import Console

from loadtest import stats
from loadtest.measure.block import Bench
from loadtest.measure.checkpoint import Journal
from loadtest.measure.measurement import Measurement, Search, steady_latencies
from loadtest.measure.rate_search import Found, Objective, Range, Trial, find_max_rate
from loadtest.plan import Block, Load
from loadtest.users.recorder import STATUSES, STEADY, Samples, merge

LOOK_SECONDS = 1.0
"""Each look before a search lasts so long at most."""

START = 0.5
"""The search begins at this share of what was answered in a closed loop."""

DEPTH = 16
"""By how much below that rate no more is tried: there, a trial with samples enough takes so many times as long."""


def search_all(bench: Bench, journal: Journal, console: Console) -> tuple[tuple[Search, ...], Samples]:
    """The plan's search for each variant in turn, and the calls of all trials, numbered as rounds of each variant."""
    plan = bench.plan
    assert plan.p99 is not None, "a plan with a search has one"
    objective = Objective(plan.p99, plan.error_rate)
    searches, samples = list[Search](), list[Samples]()
    for number, variant in enumerate(bench.subjects, 1):
        bout = _Bout(bench, journal, number, variant, objective, console)
        searches.append(Search(variant, objective, bout.find()))
        samples += bout.samples
    return tuple(searches), merge(samples)


class _Bout:
    """The search of one variant."""

    def __init__(
        self, bench: Bench, journal: Journal, number: int, variant: str, objective: Objective, console: Console
    ) -> None:
        self._bench, self._journal, self._variant, self._objective = bench, journal, variant, objective
        self._console, self._number = console, number
        self._turns = 0
        self._trials = list[Trial]()
        self.samples = list[Samples]()

    def find(self) -> Found:
        """Looks, then searches; does without the search where no rate can hold."""
        plan, limit = self._bench.plan, self._objective.p99_ms
        self._say(f"a search for the highest rate with p99 within {limit:g} ms")
        alone, together = (self._look(users) for users in (1, plan.connections))
        waited = stats.quantile(steady_latencies(alone.samples.rows) * 1e3, 0.5)
        answered = together.answered / together.seconds
        if not answered or (waited is not None and waited > limit):
            return Found(None, None, "p99" if answered else "errors", False, None, ())
        start = START * answered
        found = find_max_rate(self._try, self._objective, Range(start, start / DEPTH, seconds=plan.duration))
        self._say(self._so_far())
        return found

    def _look(self, users: int) -> Measurement:
        return self._measure(Load("closed", users), min(LOOK_SECONDS, self._bench.plan.duration), 0)

    def _try(self, rate: float, seconds: float) -> Trial:
        number = len(self._trials) + 1
        about = f"trial {number}, {rate:.4g} per second for {seconds:.1f} s; {self._so_far()}"
        measured = self._measure(Load("server", rate), seconds, number, about)
        self.samples.append(measured.samples)
        trial = _trial(measured, rate, seconds)
        self._trials.append(trial)
        return trial

    def _measure(self, load: Load, seconds: float, number: int, about: str = "") -> Measurement:
        """One block of this load only, from the journal if it is there; else `about` is said first."""
        self._turns += 1
        name, block = f"search-{self._number}-{self._turns}", Block(self._variant, load, number)
        if (kept := self._journal.load(name, block)) is not None:
            return kept
        if about:
            self._say(about)
        users, rates = ((int(load.level),), ()) if load.scenario == "closed" else ((), (load.level,))
        plan = replace(self._bench.plan, users=users, rates=rates, offline=(), duration=seconds)
        measured = replace(self._bench, plan=plan).measure(block)
        self._journal.keep(name, measured)
        return measured

    def _so_far(self) -> str:
        """What the trials say, each for itself."""
        outcomes = [(trial.rate, trial.outcome(self._objective)) for trial in self._trials]
        held = max((rate for rate, outcome in outcomes if outcome == "holds"), default=None)
        broke = min((rate for rate, outcome in outcomes if outcome in ("p99", "errors")), default=None)
        texts = [] if held is None else [f"held {held:.4g}"]
        texts += [] if broke is None else [f"broke at {broke:.4g}"]
        return "so far " + (", ".join(texts) or "nothing is known")

    def _say(self, text: str) -> None:
        title = f"[{self._number}/{len(self._bench.subjects)}] {self._variant}"
        self._console.print(f"{title}: {text}", highlight=False, markup=False, soft_wrap=True)


def _trial(measured: Measurement, rate: float, seconds: float) -> Trial:
    """What a search wants to know of a block. Arrivals that the generator was too late for were never sent."""
    rows = measured.samples.rows[measured.samples.rows["phase"] == STEADY]
    return Trial(
        rate=rate,
        achieved=len(rows) / seconds,
        calls=len(rows),
        failures=int((rows["status"] != STATUSES.index("OK")).sum()),
        p99_ms=stats.quantile(steady_latencies(rows) * 1e3, 0.99),
        generator_limited=stats.is_generator_limited(measured.thread_seconds / measured.seconds),
    )
