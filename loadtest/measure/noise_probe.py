"""The noise probe: a fixed piece of work, timed between stretches of slices. If its time moved, the machine changed.

The work hashes and copies memory that no cache holds. Neighbours slow down both, and wall time shows a neighbour who
takes the core. Not covered: noise that begins and ends within a stretch.
"""

import hashlib
import statistics
import time
from collections.abc import Callable

import numpy as np

TOLERANCE = 0.1
"""How far the median reading of a run may be from another run's, as a share."""

REPETITIONS = 5


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
