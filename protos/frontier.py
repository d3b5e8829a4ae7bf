"""The FP32 baseline and the Pareto frontier: one rule for tables, plots, reports and decisions.

Numbers in, names or indices out: nothing here knows of manifests, runs or plots.
"""

import math
from collections.abc import Mapping, Sequence

from protos.repository import FIRST_DEFAULT

FP32 = FIRST_DEFAULT.partition("-")[0]
"""The recipe that leaves a network as it was trained."""


def fp32_baseline(top1: Mapping[str, float | None]) -> str | None:
    """Returns the name of the variant that all others are compared with, or None where there is no FP32 variant.

    `top1` has the FP32 variants with their accuracy from 0 to 1, None where it is not known. `fp32-pytorch` is the
    baseline where it exists; else the most accurate is, and of equally accurate ones the first by name.
    """

    def last(name: str) -> tuple[bool, float, str]:
        accuracy = top1[name]
        return name != FIRST_DEFAULT, math.inf if accuracy is None else -accuracy, name

    return min(top1, key=last, default=None)


def pareto_frontier(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Returns the indices of the points that no other point beats, by rising cost: low costs and high gains are good.

    A point is beaten by one that is at least as good in both and better in one. Equal points all stay.
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i]))
    best, kept = -math.inf, list[int]()
    for index in order:
        equal = bool(kept) and (costs[index], gains[index]) == (costs[kept[-1]], gains[kept[-1]])
        if gains[index] > best or equal:
            kept.append(index)
            best = gains[index]
    return kept
