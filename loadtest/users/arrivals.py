"""When calls are sent in an open loop: Poisson arrivals, as from many people who do not know of each other.

Their gaps are exponential and independent, so calls come in clumps. Times are planned before the load begins: a late
answer delays no later call, and a latency counts from the planned time.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def poisson(rate: float, seconds: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Returns the sorted times in [0, `seconds`) of exactly round(`rate` * `seconds`) arrivals.

    Given their number, the arrivals of a Poisson process are independent and uniform over the time. Source:
    R. Gallager, Discrete Stochastic Processes, theorem 2.5.1,
    https://ocw.mit.edu/courses/6-262-discrete-stochastic-processes-spring-2011/
    """
    return np.sort(generator.uniform(0.0, seconds, round(rate * seconds)))


def gaps(rate: float, generator: np.random.Generator) -> Iterator[float]:
    """Yields the seconds between the arrivals of an endless Poisson process, which meets the rate only on average."""
    if not 0 < rate < float("inf"):
        raise ValueError(f"rate: got {rate}, expected a finite number above 0")
    while True:
        yield generator.exponential(1 / rate)
