"""A fixed piece of work, timed between blocks: if it took longer or shorter, the machine changed, not the variant.

    readings = [canary.measure() for _ in range(3)]   # before the first block
    ...                                               # a block
    readings.append(canary.measure())                 # after it, and so before the next
    judge(readings, reruns_of_block, reruns_of_run, most_reruns)

The work is arithmetic on memory that no cache holds, and a copy of that memory: neighbours take away either. It is
wall time that is read: a neighbour who takes the core counts too. Not covered: what comes and goes within a block.
"""

import hashlib
import statistics
import time
from collections.abc import Sequence
from typing import Literal

import numpy as np

TOLERANCE = 0.1
"""How far a reading may be from the usual one."""

RECENT = 15
"""The usual reading is the median of so many last ones, so a machine that changes for good is soon the usual one:
blocks are rerun only until most of these were taken since."""

RERUNS_OF_BLOCK = 2
"""A block is measured three times at most; the last one is kept, and its canary is in the results."""

REPETITIONS = 5

Judgement = Literal["steady", "rerun", "moved"]
"""Of a block: its canary did not move; it did; it did, but there were reruns enough."""


class Canary:
    """The work, with its 48 MiB of memory, which is taken once."""

    def __init__(self) -> None:
        self._text = np.random.default_rng(0).bytes(24 << 20)
        self._source = np.frombuffer(self._text, np.uint8)
        self._target = np.empty_like(self._source)

    def measure(self) -> float:
        """Seconds of one piece of work, the median of `REPETITIONS`; one thread, some 25 ms each on a quiet core."""
        return statistics.median(self._once() for _ in range(REPETITIONS))

    def _once(self) -> float:
        begun = time.perf_counter()
        hashlib.sha512(self._text).digest()
        np.copyto(self._target, self._source)
        return time.perf_counter() - begun


def has_moved(before: float, after: float, usual: float) -> bool:
    """Whether either reading around a block is more than `TOLERANCE` away from the usual one, in either direction."""
    return any(abs(reading / usual - 1) > TOLERANCE for reading in (before, after))


def judge(readings: Sequence[float], reruns_of_block: int, reruns_of_run: int, most: float) -> Judgement:
    """What to do with the block just measured.

    `readings` are all of the run so far; the last two are those before and after the block. A run may have `most`
    reruns, so that a bad day does not double it.
    """
    if not has_moved(readings[-2], readings[-1], statistics.median(readings[-RECENT:])):
        return "steady"
    spare = reruns_of_block < RERUNS_OF_BLOCK and reruns_of_run < most
    return "rerun" if spare else "moved"
