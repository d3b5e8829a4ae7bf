"""The second opinion on a run: its record, and the sentences that page and Markdown share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from loadtest.plan import Load
from protos.support.significance import CONFIDENCE


@dataclass(frozen=True)
class Pace:
    """What one load generator saw."""

    rps: float
    p50_ms: float | None
    """None with fewer samples than it takes."""


@dataclass(frozen=True)
class CrossCheck:
    """One request under one load, sent by the own load generator right before and after h2load."""

    before: Pace
    h2load: Pace
    after: Pace
    rps_difference: float
    """Share by which h2load's throughput differs from the mean of the own two turns."""
    p50_difference: float | None
    """The same of p50; None where one of the three has none."""


@dataclass(frozen=True)
class WithoutGenerator:
    """A throughput extrapolated to a load generator that takes no CPU time, with its 95% interval."""

    rps: float
    """As it was measured: the cell's, where there is one."""
    us_per_answer: float
    """CPU time of the load generator for each answer."""
    lowest_rps: float
    highest_rps: float | None
    """None where the fit sets no upper bound."""


@dataclass(frozen=True)
class SecondOpinion:
    """What is said of the run's figures by other means; `variant` under `load` stands for the others."""

    variant: str
    load: Load
    cross_check: CrossCheck | None = None
    missing: str = ""
    """Why there is no cross-check."""
    without_generator: WithoutGenerator | None = None
    """None where the server has a machine of its own, or calls failed."""


def cross_check(before: Pace, h2load: Pace, after: Pace) -> CrossCheck:
    """Returns the three with h2load's differences from the mean of the own two."""
    p50s = [each.p50_ms for each in (before, h2load, after) if each.p50_ms is not None]
    p50_difference = 2 * p50s[1] / (p50s[0] + p50s[2]) - 1 if len(p50s) == 3 else None
    return CrossCheck(before, h2load, after, 2 * h2load.rps / (before.rps + after.rps) - 1, p50_difference)


def cycle(due: NDArray[np.float64], users: int) -> float:
    """Returns the seconds for each answer of a closed loop, from when its requests were sent.

    It is the median from one request of a user to its next, shared by all users: it does not see the moments in which
    others had the machine, which a mean would be full of.
    """
    due = np.sort(due)
    return float(np.median(due[users:] - due[:-users])) / users


def extrapolate(costs: Sequence[float], seconds: Sequence[float]) -> tuple[float, float] | None:
    """Returns the 95% interval of the seconds for an answer at no cost, by a line through `seconds` over `costs`.

    The slope is Theil's and Sen's, so that a few disturbed turns carry nothing; its interval passes through the medians
    (https://doi.org/10.1080/01621459.1968.10480934). Returns None where even the slower end would take no time.
    """
    from scipy import stats  # takes a second, and who only reads results does not ask

    fit, cost, middle = stats.theilslopes(seconds, costs, CONFIDENCE), median(costs), median(seconds)
    least, most = (float(middle - slope * cost) for slope in (fit.high_slope, fit.low_slope))
    return (least, most) if most > 0 else None


def sentences(opinion: SecondOpinion | None) -> Iterator[str]:
    """Yields what the report says of a second opinion."""
    if opinion is None:
        return
    name = f"{opinion.variant}, {opinion.load.name}"
    if check := opinion.cross_check:
        yield (
            f"{name}: h2load got {_said(check.h2load)}, this load generator {_said(check.before)} right before and"
            f" {_said(check.after)} right after: h2load's {_differences(check)}."
        )
    else:
        yield f"{name}: not cross-checked with h2load: {opinion.missing}."
    if alone := opinion.without_generator:
        yield (
            f"{name}: {alone.rps:,.0f} requests/s; {_range(alone)} if the load generator took nothing (95% interval,"
            f" extrapolated from more CPU time for each request than its {alone.us_per_answer:,.0f} µs)."
        )


def _said(pace: Pace) -> str:
    return f"{pace.rps:,.0f} requests/s" + ("" if pace.p50_ms is None else f" with a p50 of {pace.p50_ms:.2f} ms")


def _differences(check: CrossCheck) -> str:
    p50 = "" if check.p50_difference is None else f", its p50 by {check.p50_difference:+.0%}"
    return f"throughput differs by {check.rps_difference:+.0%}{p50}"


def _range(alone: WithoutGenerator) -> str:
    if alone.highest_rps is not None:
        return f"about {alone.lowest_rps:,.0f} to {alone.highest_rps:,.0f}"
    if alone.lowest_rps > alone.rps:
        return f"about {alone.lowest_rps:,.0f} or more"
    return "the machine was too unsteady to tell how many"
