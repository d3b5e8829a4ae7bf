"""Which networks of the ladder are within a latency: of each of its depths the widest one that is.

A network's latency grows with its width, so that a binary search over the widths is enough: few of them are measured.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from protos.errors import UsageError


@dataclass(frozen=True)
class Proposal:
    """A network by its name, and the p50 of one image in milliseconds with random weights."""

    network: str
    p50_ms: float


def within(ladder: Sequence[Sequence[str]], most_ms: float, measure: Callable[[str], float]) -> list[Proposal]:
    """Returns the widest network of each depth whose p50 is `most_ms` or less, by `measure` in milliseconds.

    `ladder` has the networks of each depth, the narrowest first. Raises `UsageError` where none is within the latency.
    """
    measured = cache(measure)
    found = []
    for networks in ladder:
        if count := bisect_right(networks, most_ms, key=measured):
            found.append(Proposal(networks[count - 1], measured(networks[count - 1])))
    if not found:
        fastest = min((networks[0] for networks in ladder), key=measured)
        raise UsageError(
            f"no student within {most_ms:.3f} ms: the smallest, {fastest}, takes {measured(fastest):.3f} ms here;"
            " expected a larger --latency or a smaller --faster"
        )
    return found
