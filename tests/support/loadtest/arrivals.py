"""A test of arrivals: whether the gaps between them are exponential."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstest


def exponential_p(observed: NDArray[np.float64], rate: float) -> float:
    """The Kolmogorov-Smirnov p-value of observed gaps in seconds against the exponential distribution of `rate`.

    Small where they are not exponential: calls in step, in bursts, or at another rate. The gaps of `poisson` have
    the right mean by construction, so they come out below 0.05 less often than in one case of twenty.
    """
    return float(kstest(observed, "expon", args=(0.0, 1 / rate)).pvalue)
