"""How far two classifiers agree, how well a percentile is known, and whether a difference may be chance."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


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


def samples_needed(quantile: float) -> int:
    """Returns the least number of samples for a `quantile` (0 < q < 1): 5 for p50, 59 for p95, 299 for p99.

    With fewer, even the largest sample lies below the true quantile in more than one run of twenty (Wilks' rule,
    https://doi.org/10.1214/aoms/1177731788).
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(quantile))


def quantile(values: NDArray[np.float64], q: float) -> float | None:
    """Returns the `q`-quantile of `values` by linear interpolation, or None where there are too few of them."""
    return float(np.quantile(values, q)) if len(values) >= samples_needed(q) else None


def median_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Returns the `CONFIDENCE` interval of the median of independent `values`, exact; None with fewer than six."""
    from scipy.stats import quantile_test  # takes a second, and not every program asks

    if len(values) < 6:
        return None
    low, high = quantile_test(values, p=0.5).confidence_interval(CONFIDENCE)
    return float(low), float(high)
