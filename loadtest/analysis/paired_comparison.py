"""Which variant is faster, on a machine that drifts: variants are compared within rounds, never across them.

A round measures every variant once, in random order. What drifts slowly (heat, neighbours, the clock of the CPU) is
then nearly the same for all blocks of a round and cancels in their ratio. So the unit is the round: ten rounds are ten
paired ratios, however many thousand calls each was made of. A drift that follows the order within rounds would not
cancel, which is why that order is random. A difference is claimed only where two things agree:

    the bootstrap interval of the median paired ratio does not contain 1
    Wilcoxon's signed-rank test of the log ratios is significant

Bootstrap intervals alone are too narrow when rounds are few: with 6 to 15 rounds of equal variants they exclude 1 in 5
to 8% of runs rather than 5%. The test is exact: where two variants are equal and the order is random, either is as
likely the faster in each round. Both together are wrong in 3 to 4%. Less must be better in what is compared, such as
p50 in milliseconds; for throughput take seconds per call.
"""

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from protos.support.significance import CONFIDENCE

RESAMPLES = 9_999
SEED = 0
"""The seed of the bootstrap: the same rounds give the same interval."""

Verdict = Literal["faster", "slower", "tied", "too few rounds"]


@dataclass(frozen=True)
class PairedComparison:
    """One variant against another; a ratio below 1 says that the first is faster."""

    ratio: float
    """Median over the rounds of the first's value by the second's."""
    interval: tuple[float, float] | None
    """`CONFIDENCE` interval of the ratio; None with too few rounds."""
    p: float | None
    """p of the signed-rank test, corrected for the number of comparisons made; None with too few rounds."""
    verdict: Verdict
    """What the first is, compared with the second. "tied": no difference was shown, though there may be one."""


@dataclass(frozen=True)
class PairedRanks:
    """All variants of a run, and what was shown of each two of them."""

    ranks: tuple[tuple[str, ...], ...]
    """The best first. Those that share a rank are ordered by what was measured, which decides nothing."""
    comparisons: Mapping[tuple[str, str], PairedComparison]
    """Every pair of variants once, the one that was measured to be faster first."""


def rounds_needed(comparisons: int = 1) -> int:
    """Returns how many rounds it takes to show any difference: 6 for one comparison, 11 for the 28 of 8 variants.

    If two variants are equal, one of them wins all n rounds with probability 2 / 2**n. While that is more than
    1 - `CONFIDENCE`, shared between the comparisons, not even a clean sweep is evidence.
    """
    return math.ceil(math.log2(2 * comparisons / (1 - CONFIDENCE)))


def compare_pair(first: Sequence[float], second: Sequence[float]) -> PairedComparison:
    """Compares two variants by their values in the same rounds. `ValueError` where those cannot be paired."""
    logs = _logs({"first": first, "second": second})
    ratios = logs["first"] - logs["second"]
    return _judge(ratios, _signed_rank_p(ratios), comparisons=1)


def compare_all(values: Mapping[str, Sequence[float]]) -> PairedRanks:
    """Ranks variants by their values in the same rounds. `ValueError` where those cannot be paired.

    Every pair is compared, with Holm's correction (https://www.jstor.org/stable/4615733): the probability of even
    one false claim in the whole ranking is at most 1 - `CONFIDENCE`. Ties are not transitive, so the rule is: a
    variant ranks right below the last one that was shown to be faster than it, and first if there is none. Variants
    are placed in the order of the median, over the rounds, of their value by the round's geometric mean.
    """
    logs = _logs(values)
    ordered = _by_median(logs)
    pairs = list(itertools.combinations(ordered, 2))
    ratios = [logs[first] - logs[second] for first, second in pairs]
    corrected = holm([_signed_rank_p(each) for each in ratios])
    judged = [_judge(each, p, len(pairs)) for each, p in zip(ratios, corrected, strict=True)]
    comparisons = dict(zip(pairs, judged, strict=True))
    ranks: dict[str, int] = {}
    for variant in ordered:
        beaten_by = [above for above in ranks if comparisons[above, variant].verdict == "faster"]
        ranks[variant] = max((ranks[above] + 1 for above in beaten_by), default=0)
    by_rank = sorted(ordered, key=ranks.__getitem__)
    return PairedRanks(tuple(tuple(same) for _, same in itertools.groupby(by_rank, ranks.__getitem__)), comparisons)


def _logs(values: Mapping[str, Sequence[float]]) -> dict[str, NDArray[np.float64]]:
    """Returns the logarithms of values that can be paired."""
    if len(rounds := {len(each) for each in values.values()}) > 1 or 0 in rounds:
        raise ValueError(f"got {sorted(rounds)} rounds, expected the same rounds of all variants, at least 1")
    for name, each in values.items():
        if wrong := [value for value in each if not 0 < value < math.inf]:
            raise ValueError(f"{name}: got {wrong[0]}, expected finite numbers above 0")
    return {name: np.log(each) for name, each in values.items()}


def _judge(ratios: NDArray[np.float64], p: float, comparisons: int) -> PairedComparison:
    """Returns the verdict on paired log ratios; `p` is corrected for the number of comparisons already."""
    ratio = float(np.exp(np.median(ratios)))
    if len(ratios) < rounds_needed(comparisons):
        return PairedComparison(ratio, None, None, "too few rounds")
    interval = _interval(ratios)
    return PairedComparison(ratio, interval, p, verdict_of(interval, p))


def verdict_of(interval: tuple[float, float], p: float) -> Verdict:
    """Returns the verdict on a ratio of times: a difference is claimed only where interval and test agree on it."""
    if p > 1 - CONFIDENCE or interval[0] <= 1 <= interval[1]:
        return "tied"
    return "faster" if interval[1] < 1 else "slower"


def _interval(ratios: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the interval of the ratio, by the bias-corrected and accelerated bootstrap (BCa).

    That is undefined where leaving out a round never moves the median, as when most rounds gave the same ratio:
    then the plain percentiles of the bootstrap are taken, which are that ratio itself if all rounds gave it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's way to say "undefined", beside the nan
        interval = bootstrap_interval((ratios,), np.median, "BCa")
    return bootstrap_interval((ratios,), np.median) if math.isnan(sum(interval)) else interval


def bootstrap_interval(
    logs: tuple[NDArray[np.float64], ...], statistic: Callable[..., Any], method: str = "percentile"
) -> tuple[float, float]:
    """Returns the `CONFIDENCE` interval of a ratio whose logarithm is the `statistic` of these logarithms."""
    from scipy.stats import bootstrap  # takes a second to import

    found = bootstrap(logs, statistic, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method=method, rng=SEED)
    return float(np.exp(found.confidence_interval.low)), float(np.exp(found.confidence_interval.high))


def _signed_rank_p(ratios: NDArray[np.float64]) -> float:
    """Returns the two-sided p; rounds without any difference count for neither side."""
    from scipy.stats import wilcoxon  # takes a second to import

    return float(wilcoxon(ratios).pvalue) if np.any(ratios) else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Returns corrected p-values: each times the number of those not smaller, and never below a smaller one's."""
    corrected, last = [0.0] * len(p), 0.0
    for done, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        last = corrected[index] = max(last, min(1.0, p[index] * (len(p) - done)))
    return corrected


def _by_median(logs: Mapping[str, NDArray[np.float64]]) -> list[str]:
    if not logs:
        return []
    mean = np.mean(list(logs.values()), axis=0)
    return sorted(logs, key=lambda name: float(np.median(logs[name] - mean)))
