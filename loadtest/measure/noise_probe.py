"""The noise probe: a fixed piece of work, timed between blocks. If its time moved, the machine changed.

    readings = [probe.measure() for _ in range(3)]   # before the first block
    ...                                               # a block
    readings.append(probe.measure())                 # after it, and so before the next
    judge(readings, reruns_of_block, reruns_of_run, most_reruns)

The work hashes and copies memory that no cache holds. Neighbours slow down both, and wall time shows a neighbour who
takes the core. Not covered: noise that begins and ends within a block.
"""

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

TOLERANCE = 0.1
"""How far a reading may be from the usual one, as a share."""

RECENT = 15
"""The usual reading is the median of this many last ones, so a machine that changes for good is soon the usual one."""

RERUNS_OF_BLOCK = 2
"""A block is measured at most three times; the last measurement is kept."""

REPETITIONS = 5

Judgement = Literal["steady", "rerun", "moved"]
"""A block is kept, is measured again because the probe moved, or is kept although the probe moved."""


class NoiseProbe:
    """The work, on memory that is taken once: `size` bytes to hash, and as many to copy them to."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter, size: int = 24 << 20) -> None:
        self._clock, self._text = clock, np.random.default_rng(0).bytes(size)
        self._source = np.frombuffer(self._text, np.uint8)
        self._target = np.empty_like(self._source)

    def measure(self) -> float:
        """Returns the seconds of one piece of work, the median of `REPETITIONS`: some 25 ms on a quiet core."""
        return statistics.median(self._once() for _ in range(REPETITIONS))

    def _once(self) -> float:
        begun = self._clock()
        hashlib.sha512(self._text).hexdigest()
        np.copyto(self._target, self._source)
        return self._clock() - begun


def judge(readings: Sequence[float], reruns_of_block: int, reruns_of_run: int, most: float) -> Judgement:
    """Judges the block just measured by all `readings` of the run; the last two were taken before and after the block.

    A run may have `most` reruns, so that a bad day does not double it.
    """
    usual = statistics.median(readings[-RECENT:])
    if all(abs(reading / usual - 1) <= TOLERANCE for reading in readings[-2:]):
        return "steady"
    spare = reruns_of_block < RERUNS_OF_BLOCK and reruns_of_run < most
    return "rerun" if spare else "moved"
