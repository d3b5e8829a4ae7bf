"""The FP32 baseline and the Pareto frontier: one rule for tables, plots, reports and decisions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protos.repository import FIRST_DEFAULT
from protos.support.significance import Interval, difference_interval

FP32 = FIRST_DEFAULT.partition("-")[0]
"""The recipe that leaves a network as it was trained."""
RESOLUTION = 1e-6
"""Differences of a metric up to this are rounding: runtimes sum in another order, and AP depends on each score."""


@dataclass(frozen=True)
class KnownAccuracy:
    """What is known of a variant's metric: its value, and the 95% interval of how far it is below `fp32-pytorch`'s."""

    value: float
    drop: Interval | None = None


def fp32_baseline(accuracies: Mapping[str, float | None]) -> str | None:
    """Returns the name of the variant that all others are compared with, or None where there is no FP32 variant.

    `accuracies` has the FP32 variants with theirs from 0 to 1, None where it is not known. `fp32-pytorch` is the
    baseline where it exists; else the most accurate is, and of equally accurate ones the first by name.
    """

    def last(name: str) -> tuple[bool, float, str]:
        accuracy = accuracies[name]
        return name != FIRST_DEFAULT, math.inf if accuracy is None else -accuracy, name

    return min(accuracies, key=last, default=None)


def drop_below_fp32(name: str, measured: Interval | None) -> Interval | None:
    """Returns the interval of how far a variant is below `fp32-pytorch`, as measured; for that one itself, 0 to 0."""
    return (0.0, 0.0) if name == FIRST_DEFAULT else measured


def is_more_accurate(one: KnownAccuracy, other: KnownAccuracy) -> bool:
    """Returns whether the first was shown to be more accurate than the other, with 95% confidence.

    Each was compared with `fp32-pytorch`, so the two differ as their drops do. The errors of two drops are taken as not
    negatively correlated: both are below one reference, mostly on the same images. Where an interval is not known, the
    greater value is the more accurate.
    """
    if one.drop is None or other.drop is None:
        return one.value - other.value > RESOLUTION
    return difference_interval(one.drop, other.drop)[1] < -RESOLUTION


def pareto_frontier(costs: Sequence[float], accuracies: Sequence[KnownAccuracy]) -> list[int]:
    """Returns the indices of the points that no other point of the frontier beats, by rising cost.

    A point is beaten by one that costs less, unless it was shown to be more accurate than that one, and by one of the
    same cost that was shown to be more accurate than it. Equal points all stay.
    """
    best = list[int]()
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -accuracies[i].value)):
        cheaper = [accuracies[j] for j in best if costs[j] < costs[i]]
        alike = [accuracies[j] for j in best if costs[j] == costs[i]]
        if all(is_more_accurate(accuracies[i], each) for each in cheaper) and not any(
            is_more_accurate(each, accuracies[i]) for each in alike
        ):
            best.append(i)
    return best
