"""The noise probe's work, and which of its times is the reading."""

import itertools
import time

from loadtest.measure.noise_probe import NoiseProbe


def test_a_reading_is_the_median_of_five_pieces_of_work() -> None:
    times = itertools.accumulate([0.0, 1.0, 0.0, 9.0, 0.0, 2.0, 0.0, 3.0, 0.0, 100.0])
    assert NoiseProbe(times.__next__, size=1).measure() == 3.0


def test_the_work_grows_with_the_memory_that_it_passes_over() -> None:
    large, small = (NoiseProbe(time.thread_time, size).measure() for size in (24 << 20, 24 << 10))
    assert large > 20 * small  # a thousand times the memory, in CPU time of this thread: neighbours do not count
