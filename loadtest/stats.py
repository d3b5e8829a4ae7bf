"""Figures from raw samples: percentiles, how many samples they need, and when to mistrust a cell.

Pure functions of numbers; nothing here knows of files, servers or plots.
"""

import math

import numpy as np
from numpy.typing import NDArray

GENERATOR_LIMIT = 0.9
"""Share of one core above which the load generator itself may have been the limit.

Locust's greenlets share one thread, and the figure is that thread's alone. A thread that is busy for nine
tenths of the time makes about every second request wait for another user's turn, and that waiting would be
counted as the server's latency. Locust warns at the same figure.
"""

CORES_LIMIT = 0.95
"""Share of a machine's cores above which a load generator and a server on it are said to compete for them."""

CONFIDENCE = 0.95


def samples_needed(quantile: float) -> int:
    """Least number of samples for `quantile` (0 < q < 1) to be printed: 5 for p50, 59 for p95, 299 for p99.

    Wilks' rule: with fewer, even the largest sample lies below the true quantile in more than one run of
    twenty, so the data cannot bound it. Source: https://doi.org/10.1214/aoms/1177731788
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(quantile))


def quantile(values: NDArray[np.float64], q: float) -> float | None:
    """The `q`-quantile of `values` by linear interpolation, or None where there are too few of them."""
    return float(np.quantile(values, q)) if len(values) >= samples_needed(q) else None


def is_generator_limited(cpu_share: float, rps: float = 0.0, ceiling: float | None = None) -> bool:
    """Whether a generator may have been the limit of what it measured.

    Its thread used the share `cpu_share` of one core, and it had `rps` answers in a second, where it can have
    `ceiling` of a server that answers at once.
    """
    return cpu_share > GENERATOR_LIMIT or (ceiling is not None and rps > GENERATOR_LIMIT * ceiling)


def thin(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` ranks of so many sorted values; the first and the last are always kept.

    One half is evenly spread, the other ever denser towards the last, where a tail has its detail.
    """
    if count <= most:
        return np.arange(count)
    even, dense = np.linspace(0, count - 1, most // 2), count - np.logspace(0, math.log10(count), most // 2)
    ranks: NDArray[np.int64] = np.unique(np.concatenate([even, dense]).round().astype(np.int64))
    return ranks
