"""How far two classifiers agree, how well a share or a percentile is known, and whether a difference may be chance."""

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
Interval = tuple[float, float]


def share_equal(predictions: NDArray[Any], others: NDArray[Any]) -> float:
    """Returns the share, from 0 to 1, of equal predictions: of two classifiers (agreement), or with labels (top-1)."""
    return float(np.mean(predictions == others))


def mcnemar_p(lost: int, gained: int) -> float:
    """Returns the probability that chance alone splits so many images at least as unevenly: two-sided, exact.

    Only the first of two classifiers is right on `lost` images, only the second on `gained`; equally good ones would
    share them by halves (McNemar 1947, https://doi.org/10.1007/BF02295996). Returns 1 where there are none.
    """
    from scipy.stats import binomtest  # takes a second, and not every program asks

    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def share_interval(right: int, samples: int) -> Interval | None:
    """Returns the `CONFIDENCE` interval of a share that was `right` of so many samples; None without any.

    Assumes independent samples, drawn as those to come (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953).
    """
    from scipy.stats import binomtest  # takes a second, and not every program asks

    if not samples:
        return None
    low, high = binomtest(right, samples).proportion_ci(CONFIDENCE, method="wilson")
    return float(low), float(high)


def paired_drop_interval(lost: int, gained: int, samples: int) -> Interval | None:
    """Returns the `CONFIDENCE` interval of how far a second classifier's share is below a first one's, or None.

    Only the first is right on `lost` of the samples, only the second on `gained`. Assumes independent samples, the same
    for both. Half a sample is added to each of the four cells ("Wald+2" of Agresti and Min 2005,
    https://doi.org/10.1002/sim.1781), so that the interval has a width without any flip, too. None without samples.
    """
    if not samples:
        return None
    count, more = samples + 2, lost - gained
    error = math.sqrt(lost + gained + 1 - more**2 / count) / count
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error
    return max(-1.0, more / count - reach), min(1.0, more / count + reach)


def difference_interval(first: Interval, second: Interval) -> Interval:
    """Returns the interval of the first of two estimates less the second, from the interval of each.

    Assumes errors that are symmetric and not negatively correlated: their squares then add up at most.
    """
    middle, reach = (sum(first) - sum(second)) / 2, math.hypot(first[1] - first[0], second[1] - second[0]) / 2
    return middle - reach, middle + reach


def percent(interval: Interval | None, form: str = "{:z.2f}") -> str | None:
    """Returns an interval of shares as people read it, in percent or points; None where there is none."""
    return None if interval is None else " to ".join(form.format(100 * end) for end in interval)


def samples_needed(quantile: float) -> int:
    """Returns the least number of samples for a `quantile` (0 < q < 1): 5 for p50, 59 for p95, 299 for p99.

    With fewer, even the largest sample lies below the true quantile in more than one run of twenty (Wilks' rule,
    https://doi.org/10.1214/aoms/1177731788).
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(quantile))


def quantile(values: NDArray[np.float64], q: float) -> float | None:
    """Returns the `q`-quantile of `values` by linear interpolation, or None where there are too few of them."""
    return float(np.quantile(values, q)) if len(values) >= samples_needed(q) else None


def median_interval(values: NDArray[np.float64]) -> Interval | None:
    """Returns the `CONFIDENCE` interval of the median of independent `values`, exact; None with fewer than six."""
    from scipy.stats import quantile_test  # takes a second, and not every program asks

    if len(values) < 6:
        return None
    low, high = quantile_test(values, p=0.5).confidence_interval(CONFIDENCE)
    return float(low), float(high)
