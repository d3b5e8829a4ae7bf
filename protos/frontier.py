"""The FP32 baseline and the Pareto frontier: one rule for tables, plots, reports and decisions."""

import math
from collections.abc import Mapping, Sequence

from protos.repository import FIRST_DEFAULT

FP32 = FIRST_DEFAULT.partition("-")[0]
"""The recipe that leaves a network as it was trained."""


def fp32_baseline(accuracies: Mapping[str, float | None]) -> str | None:
    """Returns the name of the variant that all others are compared with, or None where there is no FP32 variant.

    `accuracies` has the FP32 variants with theirs from 0 to 1, None where it is not known. `fp32-pytorch` is the
    baseline where it exists; else the most accurate is, and of equally accurate ones the first by name.
    """

    def last(name: str) -> tuple[bool, float, str]:
        accuracy = accuracies[name]
        return name != FIRST_DEFAULT, math.inf if accuracy is None else -accuracy, name

    return min(accuracies, key=last, default=None)


def pareto_frontier(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Returns the indices of the points that no other point beats, by rising cost: low costs and high gains are good.

    A point is beaten by one that is at least as good in both and better in one. Equal points all stay.
    """
    points = list(zip(costs, gains, strict=True))

    def is_beaten(point: tuple[float, float]) -> bool:
        return any(cost <= point[0] and gain >= point[1] and (cost, gain) != point for cost, gain in points)

    order = sorted(range(len(points)), key=lambda i: (costs[i], -gains[i]))
    return [i for i in order if not is_beaten(points[i])]
