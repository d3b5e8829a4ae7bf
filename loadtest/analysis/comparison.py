"""Which variant is faster under a load: ratios within rounds, with intervals that hold for all comparisons together.

A round has one slice of each variant within a second or two. What drifts (heat, neighbours, the CPU's clock) is nearly
the same for all slices of a round and cancels in their ratios. So the unit is the round, however many calls its slices
hold; where those are too few for a percentile (299 for p99), as many rounds in a row as hold enough are one group.

    figure        p50, p95, p99 of a group's calls in ms, or ms per answer; the ratios' logarithms are compared
    estimate      trimmed mean over the groups, so that no few of them carry a claim. The share left out at either end,
                  10 to 40%, is the one that makes the narrowest intervals over all pairs: on a quiet machine little,
                  beside busy neighbours nearly all but the median
    error         from the Winsorized variance of the same ratios (Tukey & McLaughlin 1963; Yuen 1974,
                  https://doi.org/10.1093/biomet/61.1.165). With fewer than `POOLED_BELOW` groups it is little known,
                  and the error over all variants (randomized complete blocks) fills up the degrees of freedom
    correlation   of neighbouring groups, estimated over all pairs: an autoregressive one of r makes the variance
                  (1 + r) / (1 - r) times as large
    together      each interval is widened (Šidák 1967, https://doi.org/10.1080/01621459.1967.10482935) so that in 95
                  of 100 runs all of one load hold the true ratio, of every pair in every figure. Intervals for
                  comparisons with one control (Dunnett) would be narrower, but the fastest is not named beforehand:
                  chosen from eight equal variants, it would claim a difference in 13 of 100 runs

Assumed: slices of a round meet the same machine on average, which their random order sees to; the trimmed mean of the
ratios is about normal. Not covered: what differs between two servers that a variant's name does not tell.
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loadtest.measure.measurement import steady
from loadtest.plan import Load
from loadtest.users.recorder import Rows, Samples
from protos.support.significance import CONFIDENCE, samples_needed

Figure = Literal["p50", "p95", "p99", "throughput"]
QUANTILES: Mapping[Figure, float] = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
FIGURES: tuple[Figure, ...] = ("p50", "p95", "p99", "throughput")

Verdict = Literal["clear", "likely", "too close to call"]

ALPHA = 1 - CONFIDENCE
LIKELY = 0.2
"""A difference is likely where only intervals that hold together in 80 of 100 runs show it."""
TRIMS = (0.1, 0.2, 0.3, 0.4)
"""Shares of the groups that may be left out at either end."""
FEWEST_CORRELATED = 10
"""With fewer groups their correlation is not estimated."""
ANYTHING = 1000.0
"""An interval that is wider to either side than this ratio says nothing."""
POOLED_BELOW = 30
"""With at least so many groups a pair's own error is known well enough."""
Series = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """The slower of two variants against the faster, under one load."""

    load: Load
    figure: Figure
    faster: str
    slower: str
    ratio: float
    """How many times the time of the faster the slower takes."""
    interval: tuple[float, float]
    """Holds the true ratio, together with those of all other pairs; it may contain 1."""
    verdict: Verdict
    groups: int
    """How many groups of rounds both were measured in."""

    def of(self, variant: str) -> tuple[float, tuple[float, float]]:
        """Returns ratio and interval of one of the two against the other."""
        low, high = self.interval
        return (self.ratio, (low, high)) if variant == self.slower else (1 / self.ratio, (1 / high, 1 / low))


class Slices:
    """The figures of one load's slices, group by group."""

    def __init__(self, samples: Samples, load: Load) -> None:
        self.load = load
        self.variants = tuple(name for name in samples.variants if len(_rounds(samples, name, load)))
        self._rows = {name: _by_round(samples, name, load) for name in self.variants}
        self._slices = {name: _rounds(samples, name, load) for name in self.variants}
        self._series = dict[tuple[str, Figure, int], Series]()

    def rounds(self, variant: str) -> int:
        """Returns how many rounds a variant took part in."""
        return len(self._rows[variant])

    def group_size(self, variant: str, figure: Figure) -> int:
        """Returns how many rounds in a row hold enough calls of a variant for the figure."""
        needed = samples_needed(QUANTILES[figure]) if figure in QUANTILES else 1
        calls = np.array([len(each) for each in self._rows[variant]])
        total = int(calls.sum())
        return len(calls) + 1 if not total else math.ceil(needed * len(calls) / total)

    def series(self, variant: str, figure: Figure, size: int) -> Series:
        """Returns the logarithm of a figure in each whole group of `size` rounds; nan where no call succeeded."""
        key = variant, figure, size
        if key not in self._series:
            groups = range(0, self.rounds(variant) - size + 1, size)
            self._series[key] = np.array([self._figure(variant, figure, at, at + size) for at in groups])
        return self._series[key]

    def _figure(self, variant: str, figure: Figure, begin: int, end: int) -> float:
        if figure == "throughput":
            taken = self._slices[variant][begin:end]
            answered = float(taken["answered"].sum())
            return math.log(float(taken["seconds"].sum()) / answered) if answered else math.nan
        calls = np.concatenate(self._rows[variant][begin:end])
        return math.log(float(np.quantile(calls, QUANTILES[figure]))) if len(calls) else math.nan


def compare_all(slices: Slices, figure: Figure, alphas: Mapping[str, float] | None = None) -> list[Comparison]:
    """Compares every two variants of a load that had at least two groups of rounds together.

    `alphas` has the share of runs that may claim a difference that is not there, for variants that another number than
    `ALPHA` goes for; of a pair the smaller one counts.
    """
    pairs = itertools.combinations(slices.variants, 2)
    differences = {pair: each for pair in pairs if len(each := _differences(slices, figure, *pair)) >= 2}
    if not differences:
        return []
    trim = _best_trim([*differences.values()], len(slices.variants))
    shared = _Shared(trim, _correlation([*differences.values()], trim), *_pooled(slices, figure))
    count, given = len(slices.variants), alphas or {}
    judged = (
        _judge(slices.load, figure, pair, each, shared, count, min(given.get(v, ALPHA) for v in pair))
        for pair, each in differences.items()
    )
    return [each for each in judged if each]


@dataclass(frozen=True)
class _Shared:
    """What is known of all pairs together."""

    trim: float
    correlation: float
    variance: float
    """Of a difference, from all variants."""
    freedom: int
    """Degrees of freedom of that, beside a pair's own."""


def _differences(slices: Slices, figure: Figure, first: str, second: str) -> Series:
    """Returns the log ratios of the second to the first in the groups of rounds that both took part in."""
    size = max(slices.group_size(name, figure) for name in (first, second))
    both = [slices.series(name, figure, size) for name in (first, second)]
    count = min(map(len, both))
    difference = both[1][:count] - both[0][:count]
    return np.compress(np.isfinite(difference), difference)


def _judge(
    load: Load,
    figure: Figure,
    pair: tuple[str, str],
    differences: Series,
    shared: _Shared,
    variants: int,
    alpha: float,
) -> Comparison | None:
    """Returns the comparison of a pair; None where so little is known that the ratio may be anything."""
    estimate, variance, freedom = _trimmed(differences, shared.trim)
    borrowed = min(shared.freedom, max(0, POOLED_BELOW - len(differences)))
    if borrowed:
        variance = (freedom * variance + borrowed * shared.variance / len(differences)) / (freedom + borrowed)
    inflation = (1 + shared.correlation) / (1 - shared.correlation)
    error, known = math.sqrt(variance * inflation), max(1, int((freedom + borrowed) / inflation))
    sure, likely = (error * _bound(variants, known, share) for share in (alpha, LIKELY))
    if sure > math.log(ANYTHING):
        return None
    faster, slower = pair if estimate >= 0 else reversed(pair)
    size = abs(estimate)
    verdict: Verdict = "clear" if size > sure else "likely" if size > likely else "too close to call"
    interval = math.exp(size - sure), math.exp(size + sure)
    return Comparison(load, figure, faster, slower, math.exp(size), interval, verdict, len(differences))


def _best_trim(all_differences: Sequence[Series], variants: int) -> float:
    """Returns the share of `TRIMS` with the narrowest intervals over all pairs, by their geometric mean."""
    tiny = np.finfo(float).tiny

    def width(trim: float) -> float:
        known = [_trimmed(each, trim)[1:] for each in all_differences]
        return float(np.mean([math.log(v + tiny) / 2 + math.log(_bound(variants, df, ALPHA)) for v, df in known]))

    fewest = min(map(len, all_differences))
    return min((trim for trim in TRIMS if trim == TRIMS[0] or fewest - 2 * int(trim * fewest) > 2), key=width)


def _trimmed(values: Series, trim: float) -> tuple[float, float, int]:
    """Returns the trimmed mean, its variance, and the degrees of freedom of that."""
    count, cut = len(values), int(trim * len(values))
    left = count - 2 * cut
    variance = float(np.var(_winsorized(values, trim), ddof=1)) * (count - 1) / (left * (left - 1))
    return float(np.sort(values)[cut : count - cut].mean()), variance, left - 1


def _winsorized(values: Series, trim: float) -> Series:
    """Returns the values, those that the trimmed mean leaves out moved to the nearest that it keeps."""
    ordered, cut = np.sort(values), int(trim * len(values))
    return np.clip(values, ordered[cut], ordered[len(values) - 1 - cut])


def _correlation(all_differences: Sequence[Series], trim: float) -> float:
    """Returns the correlation of neighbouring groups over all pairs with enough of them, from 0 to 0.9."""
    found = []
    for differences in (each for each in all_differences if len(each) >= FEWEST_CORRELATED):
        kept = _winsorized(differences, trim)
        centred = kept - kept.mean()
        power = float((centred**2).sum())
        if power:
            count = len(centred)
            measured = float((centred[1:] * centred[:-1]).sum()) / power
            found.append((measured * count + 1) / (count - 4))  # its bias is -(1 + 4 r) / n
    return float(np.clip(np.mean(found), 0.0, 0.9)) if found else 0.0


def _pooled(slices: Slices, figure: Figure) -> tuple[float, int]:
    """Returns the variance of a difference of two variants by what all share, and how far others than those know it."""
    size = max(slices.group_size(name, figure) for name in slices.variants)
    all_ = [slices.series(name, figure, size) for name in slices.variants]
    count, variants = min(map(len, all_)), len(all_)
    if count < 2 or variants < 3:
        return 0.0, 0
    table = np.array([each[:count] for each in all_])
    table = table[:, np.isfinite(table).all(axis=0)]
    if table.shape[1] < 2:
        return 0.0, 0
    residuals = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    freedom = (variants - 1) * (table.shape[1] - 1)
    return 2 * float((residuals**2).sum()) / freedom, (variants - 2) * (table.shape[1] - 1)


@functools.cache
def _bound(variants: int, freedom: int, alpha: float) -> float:
    """Returns how many standard errors the largest difference of all pairs and figures exceeds in `alpha` of runs."""
    from scipy.special import stdtrit  # all of scipy.stats takes two seconds to import

    each = (1 - alpha) ** (1 / (math.comb(variants, 2) * len(FIGURES)))
    return float(stdtrit(freedom, (1 + each) / 2))


def _rounds(samples: Samples, variant: str, load: Load) -> Rows:
    """Returns a variant's slices; the block without a break is none."""
    taken = samples.slices_of(variant, load)
    return np.compress(taken["round"] > 0, taken)


def _by_round(samples: Samples, variant: str, load: Load) -> list[Series]:
    """Returns the latencies in ms of the steady calls that succeeded, slice by slice."""
    rows = steady(samples.of(variant, load))
    order = np.argsort(rows["round"], kind="stable")
    latencies, numbers = rows["latency"][order] * 1e3, rows["round"][order]
    edges = np.searchsorted(numbers, [[each, each + 1] for each in _rounds(samples, variant, load)["round"].tolist()])
    return [latencies[begin:end] for begin, end in edges.reshape(-1, 2)]
