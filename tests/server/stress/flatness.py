"""Whether a series of measurements grows: a slope that outliers do not move, and how much of it is allowed.

The slope is Theil and Sen's, the median of the slopes between all pairs of points: up to 29% of them may be
wrong by any amount. A quantity grows where its slope adds up to more than `allowed` over the time observed.
Not covered: growth that is slower than that; the longer the time, the slower a leak that is found.

Source: Sen, "Estimates of the regression coefficient based on Kendall's tau", 1968.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

WARM_UP = 1 / 3
"""Share of the time in which caches, pools and arenas are filled; not looked at."""


@dataclass(frozen=True)
class Trend:
    """What one quantity did after the warm-up: `growth` is its slope times the time, in its own unit."""

    name: str
    typical: float
    growth: float
    allowed: float

    @property
    def grows(self) -> bool:
        return self.growth > self.allowed

    def __str__(self) -> str:
        verdict = "GROWS" if self.grows else "flat"
        return f"{self.name:32} {self.typical:16,.0f} {self.growth:+14,.1f} of {self.allowed:12,.1f}  {verdict}"


def trend(name: str, points: Sequence[tuple[float, float]], allowed: float) -> Trend:
    """The trend of (seconds, value) points, which are in the order of time."""
    start, end = points[0][0], points[-1][0]
    settled = [point for point in points if point[0] >= start + WARM_UP * (end - start)]
    slope = median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(settled, 2))
    return Trend(name, median(value for _, value in settled), slope * (end - settled[0][0]), allowed)
