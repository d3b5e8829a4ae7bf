"""How a variant stands to the constraints of a plan under one load: it meets each, breaks it, or nobody can tell.

--p99          met where the upper end of its 95% interval is within the limit, broken where the lower end is above.
               Where calls failed it can only be broken; where the load generator was the limit, only met
--rate         so many answers a second; of arrivals at that rate or a higher one, `KEPT_UP` of those that came
--max-drop     by the 95% interval of how many points of top-1 or AP are lost (see `accuracy.within`)
--max-memory   what loading and answering once adds to a process, as the variant's manifest says
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from loadtest.analysis.results import Cell
from loadtest.analysis.validity import invalid_reason, title_of
from loadtest.decision import accuracy
from loadtest.plan import Plan
from protos.support import significance

KEPT_UP = 0.98
"""A variant that answers this share of the requests that arrive carries their rate."""

Constraint = Literal["p99", "rate", "max_drop", "max_memory"]
State = Literal["met", "broken", "unknown"]
Ends = tuple[float | None, float | None]

SHOWN: Mapping[Constraint, tuple[str, str]] = {
    "p99": ("p99 within {:g} ms", "{:.2f}"),
    "rate": ("{:g} requests/s", "{:,.0f}"),
    "max_drop": ("at most {:g} points below FP32", "{:.2f}"),
    "max_memory": ("at most {:g} MB", "{:.1f}"),
}
"""What tables call a constraint with its limit, and how they show a value."""

_UNKNOWN = (None, None)
_ROUNDING = 1e-9
_LIMITED = "but the load generator was the limit"


@dataclass(frozen=True)
class Judgement:
    """How a variant stands to one constraint under one load."""

    constraint: Constraint
    state: State
    value: float | None
    """In the unit of the limit: ms, answers per second, points, MB. None where it was not measured or shows nothing."""
    interval: Ends
    """The ends of its 95% interval, None where they are not known."""
    limit: float
    text: str
    """The value, and by how much it misses the limit or that it is not 95% sure."""

    @property
    def admits(self) -> bool:
        """Returns whether the variant may be chosen: the constraint is met, or is by the value and not 95% sure."""
        return self.state == "met" or (self.state == "unknown" and self.value is not None and self.excess <= _ROUNDING)

    @property
    def excess(self) -> float:
        """Returns by what share of the limit the value, or else the interval's lower end, misses it; inf if unknown."""
        value = self.interval[0] if self.value is None else self.value
        if value is None:
            return float("inf")
        return (self.limit - value if self.constraint == "rate" else value - self.limit) / (self.limit or 1.0)

    @property
    def heading(self) -> str:
        """Returns what tables call the constraint: `p99 within 20 ms`."""
        return SHOWN[self.constraint][0].format(self.limit)

    @property
    def shown(self) -> str:
        """Returns the value and its interval as tables show them: `9.00 (8.10 to 9.90)`."""
        form = SHOWN[self.constraint][1]
        return ("n/a" if self.value is None else form.format(self.value)) + span(*self.interval)


def judge(cell: Cell, baseline: Cell | None, plan: Plan) -> tuple[Judgement, ...]:
    """Returns a judgement for each constraint of the plan; `baseline` is the FP32 cell (`validity.baseline_of`)."""
    judgements = (
        None if plan.p99 is None else _judge_p99(cell, plan.p99),
        None if plan.rate is None else _judge_rate(cell, plan.rate),
        None if plan.max_drop is None else _judge_drop(cell, baseline, plan.max_drop),
        None if plan.max_memory is None else _judge_memory(cell, plan.max_memory),
    )
    return tuple(each for each in judgements if each)


def span(low: float | None, high: float | None) -> str:
    """Returns an interval in brackets, after a space; empty where neither end is known."""
    if low is None or high is None:
        return "" if low == high else f" (at most {high:.2f})" if low is None else f" (at least {low:.2f})"
    return f" ({low:.2f} to {high:.2f})"


def drop_text(drop: accuracy.Drop) -> str:
    """Says how far a variant is below or above FP32, with the interval."""
    low, high = (None, None) if drop.low == drop.high else (drop.low, drop.high)
    if drop.points < 0 and low is not None and high is not None:
        low, high = 0.0 - high, 0.0 - low
    return f"{abs(drop.points):.2f} points {'above' if drop.points < 0 else 'below'} FP32{span(low, high)}"


def _judge_p99(cell: Cell, limit: float) -> Judgement:
    p99, (low, high), where = cell.latency_ms.p99, cell.p99_interval_ms, f"at {cell.load.name}"
    state: State = "unknown"
    if p99 is not None and high is not None and high <= limit and not cell.failures:
        state = "met"
    elif low is not None and low > limit and not cell.generator_limited:
        state = "broken"
    if state == "unknown" and (cell.failures or p99 is None):
        said = invalid_reason(cell)
        if not cell.failures:
            said = f"{cell.samples} samples, {significance.samples_needed(0.99)} needed"
        return Judgement("p99", state, None, _UNKNOWN, limit, f"p99 {where} is not known: {said}")
    said = f"p99 {where} is at least {low:.2f} ms" if p99 is None else f"p99 {where} is {p99:.2f} ms{span(low, high)}"
    miss = (low or 0.0) - limit if p99 is None else p99 - limit
    doubt = _LIMITED if cell.generator_limited and miss > 0 else "not 95% sure"
    text = _text(said, state, f"{miss:.2f} more than the {limit:g} allowed" if miss > 0 else "", doubt)
    return Judgement("p99", state, p99, (low, high), limit, text)


def _judge_rate(cell: Cell, limit: float) -> Judgement:
    rps, asked, load = cell.throughput_rps, cell.asked_rps, cell.load
    state: State = "unknown" if cell.generator_limited else "broken"
    miss, doubt = f"{limit - rps:,.0f} fewer than the {limit:g} asked for", _LIMITED
    if asked is None:
        state = "met" if rps >= limit else state
    elif load.level < limit:
        state, doubt = "unknown", "and no more arrived"
    else:
        state, miss = "met" if rps >= KEPT_UP * asked else state, f"{asked - rps:,.0f} fewer than arrived"
    text = _text(f"{rps:,.0f} requests/s at {load.name}", state, miss, doubt)
    return Judgement("rate", state, rps, _UNKNOWN, limit, text)


def _judge_drop(cell: Cell, baseline: Cell | None, limit: float) -> Judgement:
    drop = accuracy.drop_of(cell, baseline)
    if drop is None:
        return Judgement("max_drop", "unknown", None, _UNKNOWN, limit, "how much accuracy it lost is not known")
    state, miss = accuracy.within(drop, limit), drop.points - limit
    over = f"{miss:.2f} more than the {limit:g} allowed" if miss > _ROUNDING else ""
    text = _text(f"{title_of([cell])} is {drop_text(drop)}", state, over)
    ends = _UNKNOWN if drop.low == drop.high else (drop.low, drop.high)
    return Judgement("max_drop", state, drop.points, ends, limit, text)


def _judge_memory(cell: Cell, limit: float) -> Judgement:
    if cell.facts.memory_bytes is None:
        return Judgement("max_memory", "unknown", None, _UNKNOWN, limit, "how much memory it takes is not known")
    megabytes = cell.facts.memory_bytes / 1e6
    state: State = "met" if megabytes <= limit + _ROUNDING else "broken"
    text = _text(f"{megabytes:.1f} MB of memory", state, f"{megabytes - limit:.1f} more than the {limit:g} allowed")
    return Judgement("max_memory", state, megabytes, _UNKNOWN, limit, text)


def _text(said: str, state: State, miss: str, doubt: str = "not 95% sure") -> str:
    """Returns what was measured and, unless the constraint is met, by how much it is missed and how sure that is."""
    return ", ".join(filter(None, (said, "" if state == "met" else miss, doubt if state == "unknown" else "")))
