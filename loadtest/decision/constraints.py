"""How a variant stands to the constraints of a plan under one load: it meets each, breaks it, or nobody can tell.

--p99          met where the upper end of its 95% interval is within the limit, broken where the lower end is above.
               Where calls failed it can only be broken; where the load generator was the limit, only met
--rate         so many answers a second; of arrivals at that rate or a higher one, `KEPT_UP` of those that came
--max-drop     by the 95% interval of how many points of top-1 or AP are lost; without an interval by the points
--max-memory   what loading and answering once adds to a process, as the variant's manifest says
--max-size     the artifact on disk, as the server says

`evidence` does not depend on limits, `judge` holds it against them. In the report's page a reader moves the limits, so
`web/decide.js` judges there as `judge` does here; a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from loadtest.analysis.results import Cell
from loadtest.analysis.validity import invalid_reason, title_of
from loadtest.decision import accuracy, words
from loadtest.plan import Constraint, Plan
from protos.frontier import RESOLUTION
from protos.support import significance

KEPT_UP = 0.98
"""A variant that answers this share of the requests that arrive carries their rate."""
ROUNDING = 1e-9
"""A value may miss a limit by this much."""

State = Literal["met", "broken", "unknown"]
Ends = tuple[float | None, float | None]

_UNKNOWN = (None, None)


@dataclass(frozen=True)
class Evidence:
    """What was measured of a variant that a limit is held against."""

    text: str
    """The value in words, or why it is not known."""
    value: float | None = None
    """In the unit of the limit: ms, answers per second, points, MB. None where it was not measured or shows nothing."""
    interval: Ends = _UNKNOWN
    """The ends of its 95% interval, None where they are not known."""
    low: float | None = None
    """Any limit below this is broken; None where nothing shows that."""
    high: float | None = None
    """Any limit from here on is met; None where nothing shows that."""
    unknown: str = ""
    """Why the value cannot be relied on, where only `low` can."""


@dataclass(frozen=True)
class Judgement:
    """How a variant stands to one constraint under one load."""

    constraint: Constraint
    state: State
    value: float | None
    """In the unit of the limit. None where it was not measured or shows nothing."""
    interval: Ends
    """The ends of its 95% interval, None where they are not known."""
    limit: float
    text: str
    """The value, and by how much it misses the limit or that it is not 95% sure."""

    @property
    def admits(self) -> bool:
        """Returns whether the variant may be chosen: the constraint is met, or is by the value and not 95% sure."""
        return self.state == "met" or (self.state == "unknown" and self.value is not None and self.excess <= ROUNDING)

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
        return words.HEADINGS[self.constraint].format(self.limit)

    @property
    def shown(self) -> str:
        """Returns the value and its interval as tables show them: `9.00 (8.10 to 9.90)`."""
        form = words.VALUES[self.constraint]
        return ("n/a" if self.value is None else form.format(self.value)) + span(*self.interval)


def evidence(cell: Cell, baseline: Cell | None) -> Mapping[Constraint, Evidence]:
    """Returns what each constraint is judged by; `baseline` is the FP32 cell (`validity.baseline_of`)."""
    memory, size = cell.facts.memory_bytes, cell.facts.artifact_bytes
    return {
        "p99": _p99(cell),
        "rate": Evidence(f"{cell.throughput_rps:,.0f} requests/s at {cell.load.name}", cell.throughput_rps),
        "max_drop": _drop(cell, baseline),
        "max_memory": _megabytes(memory, "{:.1f} MB of memory", "how much memory it takes is not known"),
        "max_size": _megabytes(size, "{:.2f} MB on disk", "how large it is on disk is not known"),
    }


def judge(cell: Cell, baseline: Cell | None, plan: Plan) -> tuple[Judgement, ...]:
    """Returns a judgement for each constraint of the plan; `baseline` is the FP32 cell (`validity.baseline_of`)."""
    known, limits = evidence(cell, baseline), plan.limits
    return tuple(
        _judge_rate(cell, known[name], limit) if name == "rate" else _judge(name, cell, known[name], limit)
        for name in known
        if (limit := limits[name]) is not None
    )


def span(low: float | None, high: float | None) -> str:
    """Returns an interval in brackets, after a space; empty where neither end is known."""
    if low is None or high is None:
        return "" if low == high else words.AT_MOST.format(high) if low is None else words.AT_LEAST.format(low)
    return words.BETWEEN.format(low, high)


def drop_text(drop: accuracy.Drop) -> str:
    """Says how far a variant is below or above FP32, with the interval."""
    low, high = (None, None) if drop.low == drop.high else (drop.low, drop.high)
    if drop.points < 0 and low is not None and high is not None:
        low, high = 0.0 - high, 0.0 - low
    return f"{abs(drop.points):.2f} points {'above' if drop.points < 0 else 'below'} FP32{span(low, high)}"


def _p99(cell: Cell) -> Evidence:
    p99, (low, high), where = cell.latency_ms.p99, cell.p99_interval_ms, f"p99 at {cell.load.name}"
    text = f"{where} is at least {low or 0.0:.2f} ms" if p99 is None else f"{where} is {p99:.2f} ms{span(low, high)}"
    unknown = ""
    if cell.failures:
        unknown = f"{where} is not known: {invalid_reason(cell)}"
    elif p99 is None:
        unknown = f"{where} is not known: {cell.samples} samples, {significance.samples_needed(0.99)} needed"
    shown = None if cell.generator_limited else low
    return Evidence(text, p99, (low, high), shown, None if unknown else high, unknown)


def _drop(cell: Cell, baseline: Cell | None) -> Evidence:
    drop = accuracy.drop_of(cell, baseline)
    if drop is None:
        return Evidence("", unknown="how much accuracy it lost is not known")
    low, high = (drop.points if end is None else end for end in (drop.low, drop.high))
    ends = _UNKNOWN if drop.low == drop.high else (drop.low, drop.high)
    resolution = 100 * RESOLUTION
    return Evidence(f"{title_of([cell])} is {drop_text(drop)}", drop.points, ends, low - resolution, high - resolution)


def _megabytes(count: int | None, text: str, unknown: str) -> Evidence:
    if count is None:
        return Evidence("", unknown=unknown)
    megabytes = count / 1e6
    return Evidence(text.format(megabytes), megabytes, low=megabytes, high=megabytes)


def _judge(name: Constraint, cell: Cell, known: Evidence, limit: float) -> Judgement:
    """Returns how a variant stands to a limit that must not be exceeded."""
    state: State = "unknown"
    if known.high is not None and known.high <= limit + ROUNDING:
        state = "met"
    elif known.low is not None and known.low > limit + ROUNDING:
        state = "broken"
    if state == "unknown" and known.unknown:
        return Judgement(name, state, None, _UNKNOWN, limit, known.unknown)
    miss = ((known.interval[0] or 0.0) if known.value is None else known.value) - limit
    over = words.MISSED[name].format(miss, limit) if miss > ROUNDING else ""
    doubt = words.LIMITED if name == "p99" and cell.generator_limited and over else words.NOT_SURE
    return Judgement(name, state, known.value, known.interval, limit, _text(known.text, state, over, doubt))


def _judge_rate(cell: Cell, known: Evidence, limit: float) -> Judgement:
    rps, asked = cell.throughput_rps, cell.asked_rps
    state: State = "unknown" if cell.generator_limited else "broken"
    miss, doubt = words.MISSED["rate"].format(limit - rps, limit), words.LIMITED
    if asked is None:
        state = "met" if rps >= limit else state
    elif cell.load.level < limit:
        state, doubt = "unknown", words.NO_MORE
    else:
        state, miss = "met" if rps >= KEPT_UP * asked else state, words.FEWER.format(asked - rps)
    return Judgement("rate", state, rps, _UNKNOWN, limit, _text(known.text, state, miss, doubt))


def _text(said: str, state: State, miss: str, doubt: str) -> str:
    """Returns what was measured and, unless the constraint is met, by how much it is missed and how sure that is."""
    return ", ".join(filter(None, (said, "" if state == "met" else miss, doubt if state == "unknown" else "")))
