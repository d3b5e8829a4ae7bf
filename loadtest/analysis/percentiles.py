"""Percentiles of latencies, and between which values the true p99 lies."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protos.support import significance

STRETCHES = 30
"""Into so many parts, in the order of time, calls are cut to see how their slow ones cluster."""


@dataclass(frozen=True)
class LatencyMs:
    """Percentiles in milliseconds; None where there are fewer samples than `significance.samples_needed`."""

    p50: float | None
    p95: float | None
    p99: float | None


def percentiles(latencies: NDArray[np.float64]) -> LatencyMs:
    """Returns the percentiles of latencies in seconds."""
    return LatencyMs(*(significance.quantile(latencies * 1e3, q) for q in (0.5, 0.95, 0.99)))


def quantile_interval(
    latencies: NDArray[np.float64], q: float, alpha: float = 1 - significance.CONFIDENCE
) -> tuple[float | None, float | None]:
    """Returns between which values the true `q`-quantile lies, of latencies in the order in which they were due.

    Either end is wrong in `alpha` / 2 of runs; None where so few calls do not bound it. By order statistics (Conover,
    Practical Nonparametric Statistics, 3.2), whatever the distribution is. Slow calls come in clusters, as when a
    neighbour takes the core; the count of calls is divided by how many times as much as by chance the number of slow
    ones varies over `STRETCHES` parts of the time (the design effect of survey statistics).
    """
    if not len(latencies):
        return None, None
    return order_interval(latencies, q, alpha, max(1, int(len(latencies) / _design_effect(latencies, q))))


def order_interval(
    latencies: NDArray[np.float64], q: float, alpha: float, count: int
) -> tuple[float | None, float | None]:
    """Returns the interval of a quantile of latencies that say as much as `count` independent ones."""
    below, above = (binomial_quantile(share, count, q) for share in (alpha / 2, 1 - alpha / 2))
    low = float(np.quantile(latencies, (below - 1) / (count - 1))) if below >= 1 and count > 1 else None
    high = float(np.quantile(latencies, above / (count - 1))) if above <= count - 1 and count > 1 else None
    return low, high


def binomial_quantile(share: float, count: int, chance: float) -> int:
    """Returns the least number of hits that at least `share` of all series of `count` trials do not exceed.

    As `scipy.stats.binom.ppf`, without scipy.stats: importing that takes two seconds of a run that takes five.
    """
    from scipy.special import bdtr, bdtrik

    found: int = math.ceil(bdtrik(share, count, chance))
    return found - 1 if found and bdtr(found - 1, count, chance) >= share else found


def _design_effect(latencies: NDArray[np.float64], q: float) -> float:
    """Returns how many times as much as by chance the number of calls above the quantile varies, at least 1."""
    slow = np.argsort(np.argsort(latencies, kind="stable")) >= q * len(latencies)
    share, parts = slow.mean(), np.array_split(slow, min(STRETCHES, len(slow)))
    chance = sum(len(part) for part in parts) * share * (1 - share)
    spread = sum((part.sum() - len(part) * share) ** 2 for part in parts)
    return max(1.0, float(spread / chance)) if chance else 1.0
