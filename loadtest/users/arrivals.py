"""When calls are sent in an open loop: Poisson arrivals, as from many people who do not know of each other.

Their gaps are exponential and independent, so calls come in clumps, and a server that only keeps up with evenly
spaced calls is found out. Times are planned before the load begins: an answer that is late delays no later call,
and its latency counts from the planned time.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def poisson(rate: float, seconds: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Sorted times in [0, `seconds`) of exactly round(`rate` * `seconds`) arrivals, `rate` per second.

    Given their number, the arrivals of a Poisson process are independent and uniform over the time; so this is such
    a process, of those that meet the asked rate exactly. Source: R. Gallager, Discrete Stochastic Processes,
    theorem 2.5.1, https://ocw.mit.edu/courses/6-262-discrete-stochastic-processes-spring-2011/
    """
    _check("rate", rate)
    _check("seconds", seconds)
    return np.sort(generator.uniform(0.0, seconds, round(rate * seconds)))


def gaps(rate: float, generator: np.random.Generator) -> Iterator[float]:
    """Seconds between the arrivals of an endless Poisson process, which meets the rate only on average."""
    _check("rate", rate)
    while True:
        yield generator.exponential(1 / rate)


def exponential_p(observed: NDArray[np.float64], rate: float) -> float:
    """The Kolmogorov-Smirnov p-value of observed gaps in seconds against the exponential distribution of `rate`.

    Small where they are not exponential: calls in step, in bursts, or at another rate. The gaps of `poisson` have
    the right mean by construction, so they come out below 0.05 less often than in one case of twenty.
    """
    from scipy.stats import kstest  # takes a second to import

    _check("rate", rate)
    if not len(observed):
        raise ValueError("got no gaps, expected at least 1")
    return float(kstest(observed, "expon", args=(0.0, 1 / rate)).pvalue)


def _check(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}: got {value}, expected a finite number above 0")
