"""When the load generator was the limit, and samples thinned for a plot."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

GENERATOR_LIMIT = 0.9
"""Share of one core above which the load generator itself may have been the limit; Locust warns at the same share.

All users share one thread. Where it is busy for nine tenths of the time, about every second request waits for another
user's turn, and that waiting would count as the server's latency.
"""

CORES_LIMIT = 0.95
"""Share of a machine's cores above which load generator and server are said to compete for them."""


GeneratorLimit = Literal["thread", "ceiling"]
"""The rule by which the load generator may have been the limit."""

LIMIT_TEXTS: dict[GeneratorLimit, str] = {
    "thread": f"limited by the generator (its thread was busy for more than {GENERATOR_LIMIT:.0%} of the time)",
    "ceiling": f"limited by the generator (within {1 - GENERATOR_LIMIT:.0%} of its ceiling)",
}
"""What a cell's page, warnings and reasons call the rule that marked it."""


def generator_limit(cpu_share: float, rps: float = 0.0, ceiling: float | None = None) -> GeneratorLimit | None:
    """Returns the rule by which a generator with this share of one core, or this near its ceiling, was the limit."""
    if cpu_share > GENERATOR_LIMIT:
        return "thread"
    return "ceiling" if ceiling is not None and rps > GENERATOR_LIMIT * ceiling else None


def thin(count: int, most: int) -> NDArray[np.int64]:
    """Returns at most `most` of `count` ranks: one half evenly spread, the other ever denser towards the last."""
    if count <= most:
        return np.arange(count)
    even, dense = np.linspace(0, count - 1, most // 2), count - np.logspace(0, math.log10(count), most // 2)
    ranks: NDArray[np.int64] = np.unique(np.concatenate([even, dense]).round().astype(np.int64))
    return ranks
