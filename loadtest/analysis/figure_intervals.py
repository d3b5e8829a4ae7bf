"""How well a run knows the figures of its own report, and what two runs that share no round say of their ratio.

    figures      p50, p95 and p99 of all calls in ms, and ms per answer where the server sets the pace: as in the report
    part         a round; of a block without a break, one of `PARTS` equal parts of its calls. A part's influence on a
                 percentile is how many of its calls lie above it beyond those that should, on ms per answer how far its
                 seconds and answers are from the ratio of all (linearisation: Woodruff 1952,
                 https://doi.org/10.1080/01621459.1952.10483443)
    correlation  of parts, also of distant ones: the long-run variance of the influences by cosine transforms (Lazarus,
                 Lewis, Stock & Watson 2018, https://doi.org/10.1080/07350015.2018.1506926). How many times as large as
                 that of independent parts it is, is taken from either run of a cell or on average over all cells,
                 whichever is most
    interval     of a percentile by order statistics, as of so many independent calls as leave that variance
    ratio        from the intervals of both runs (MOVER: Zou & Donner 2008, https://doi.org/10.1002/sim.3095), which
                 leaves a long tail as long as it is

Assumed: rounds a tenth of the run apart are hardly correlated. Not covered: what differs between two evenings.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.comparison import QUANTILES
from loadtest.analysis.percentiles import order_interval
from loadtest.analysis.results import Cell
from loadtest.measure.measurement import steady
from loadtest.users.recorder import Rows, Samples

PARTS = 50
FEWEST_PARTS = 10
"""With fewer, their correlation is not known."""
Series = NDArray[np.float64]
Ends = tuple[float | None, float | None]


@dataclass(frozen=True, eq=False)
class Estimate:
    """One figure of one cell in milliseconds, with the influence of each part on it, which add up to none."""

    value: float
    influences: Series
    """On the share of calls above a percentile, or on the logarithm of ms per answer."""
    calls: Series
    """In milliseconds."""
    q: float | None
    """None for ms per answer."""

    @property
    def parts(self) -> int:
        """Returns how many parts there are."""
        return len(self.influences)

    @property
    def coefficients(self) -> int:
        """Returns how many cosine transforms the long-run variance is the mean of: its degrees of freedom."""
        return max(3, round(0.5 * math.sqrt(self.parts)))

    @cached_property
    def correlation(self) -> float:
        """Returns how many times as large as of independent parts the variance is."""
        count, variance = self.parts, float(self.influences.var(ddof=1))
        numbers = np.arange(1, self.coefficients + 1)[:, None]
        transformed = np.cos(np.pi * numbers * (np.arange(count) + 0.5) / count) @ self.influences
        return float((transformed**2).mean()) * 2 / count / variance if variance else 1.0

    def interval(self, correlation: float, critical: float) -> Ends:
        """Returns the interval of `critical` standard errors to either side; None where calls are too few."""
        from scipy.special import ndtr  # all of scipy.stats takes two seconds to import

        variance = self.parts * float(self.influences.var(ddof=1)) * correlation
        if self.q is None:
            reach = math.exp(critical * math.sqrt(variance))
            return self.value / reach, self.value * reach
        worth = min(float(len(self.calls)), self.q * (1 - self.q) / variance if variance else math.inf)
        return order_interval(self.calls, self.q, 2 * float(ndtr(-critical)), max(1, int(worth)))


def ratio_interval(before: Estimate, after: Estimate, correlation: float, alpha: float) -> Ends:
    """Returns between which values `after` by `before` lies, wrong in `alpha` of runs; None where calls are too few.

    `correlation` is the average one.
    """
    from scipy.special import stdtrit  # all of scipy.stats takes two seconds to import

    correlation = max(1.0, correlation, before.correlation, after.correlation)
    critical = -float(stdtrit((before.parts + after.parts - 2) / correlation, alpha / 2))
    (low, high), (low_after, high_after) = (each.interval(correlation, critical) for each in (before, after))
    ratio = after.value / before.value
    down, up = _reach(before.value, high, low_after, after.value), _reach(low, before.value, after.value, high_after)
    return (None if down is None else ratio / down), (None if up is None else ratio * up)


def estimates(cell: Cell, samples: Samples) -> Iterator[tuple[str, Estimate | None]]:
    """Yields each figure of a cell by its name in reports; None where the run has too few calls or rounds for it."""
    rows = steady(samples.of_figures(cell.variant, cell.load))
    slices = samples.slices_of_figures(cell.variant, cell.load)
    calls, part, parts = _parts(rows, slices)
    enough = parts >= FEWEST_PARTS and len(calls) > 0
    for name, q in QUANTILES.items():
        value: float | None = getattr(cell.latency_ms, name)
        yield f"{name} ms", _percentile(value, calls, part, parts, q) if value and enough else None
    if cell.load.scenario != "server":
        yield "ms per answer", _ms_per_answer(cell, calls, slices) if cell.throughput_rps and enough else None


def mean_correlation(all_: Sequence[Estimate]) -> float:
    """Returns how many times as large as that of independent parts the variances are on average."""
    return float(np.mean([each.correlation for each in all_])) if all_ else 1.0


def _percentile(value: float, calls: Series, part: NDArray[np.intp], parts: int, q: float) -> Estimate:
    above = np.bincount(part, calls > value, parts)
    share = above.sum() / len(calls)
    return Estimate(value, (above - share * np.bincount(part, minlength=parts)) / len(calls), calls, q)


def _ms_per_answer(cell: Cell, calls: Series, slices: Rows) -> Estimate:
    seconds, answered = (slices[name] / slices[name].sum() for name in ("seconds", "answered"))
    return Estimate(1e3 / cell.throughput_rps, seconds - answered, calls, None)


def _parts(rows: Rows, slices: Rows) -> tuple[Series, NDArray[np.intp], int]:
    """Returns the calls in milliseconds, the part of each from 0, and how many parts there are."""
    if (slices["round"] == 0).any():
        rows = np.sort(rows, order="due")
        parts = min(PARTS, len(rows))
        part = np.arange(len(rows)) * parts // max(1, len(rows))
    else:
        parts, part = len(slices), np.searchsorted(slices["round"], rows["round"])
    return rows["latency"] * 1e3, part, parts


def _reach(*values: float | None) -> float | None:
    """Returns by which factor the ratio may be off to one side: both runs' own factors, as if at right angles."""
    known = [value for value in values if value is not None]
    if len(known) < 4 or min(known) <= 0:
        return None
    return math.exp(math.hypot(math.log(known[1] / known[0]), math.log(known[3] / known[2])))
