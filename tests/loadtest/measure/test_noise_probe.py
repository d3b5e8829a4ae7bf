"""The noise probe's rule on made-up readings, and the work itself."""

import itertools
import time

import pytest

from loadtest.measure.noise_probe import NoiseProbe, judge

STEADY = [1.0] * 6


@pytest.mark.parametrize(
    ("before", "after", "judgement"),
    [(1.0, 1.0, "steady"), (1.09, 0.91, "steady"), (1.11, 1.0, "rerun"), (1.0, 1.11, "rerun"), (0.89, 1.0, "rerun")],
)
def test_a_tenth_away_from_the_usual_has_moved(before: float, after: float, judgement: str) -> None:
    assert judge([*STEADY, before, after], 0, 0, 5) == judgement


def test_a_block_between_usual_readings_is_steady() -> None:
    assert judge([1.0, 1.5, 1.02, 0.99], 0, 0, 5) == "steady"


def test_a_block_that_ends_on_a_slow_probe_is_rerun() -> None:
    assert judge([*STEADY, 1.2], 0, 0, 5) == "rerun"


def test_a_block_that_begins_on_a_slow_probe_is_rerun() -> None:
    assert judge([*STEADY, 1.2, 1.0], 0, 0, 5) == "rerun"


@pytest.mark.parametrize(("of_block", "judgement"), [(0, "rerun"), (1, "rerun"), (2, "moved")])
def test_a_block_is_rerun_twice_at_most(of_block: int, judgement: str) -> None:
    assert judge([*STEADY, 1.2], of_block, of_block, 5) == judgement


@pytest.mark.parametrize(("of_run", "judgement"), [(4, "rerun"), (5, "moved")])
def test_a_quarter_of_a_run_is_rerun_at_most(of_run: int, judgement: str) -> None:
    assert judge([*STEADY, 1.2], 0, of_run, 5) == judgement


def test_a_machine_that_changed_for_good_is_steady_again_after_eight_readings() -> None:
    before = [1.0] * 30
    assert judge([*before, *[1.3] * 7], 0, 0, 5) == "rerun"
    assert judge([*before, *[1.3] * 8], 0, 0, 5) == "steady"


def test_a_reading_is_the_median_of_five_pieces_of_work() -> None:
    times = itertools.accumulate([0.0, 1.0, 0.0, 9.0, 0.0, 2.0, 0.0, 3.0, 0.0, 100.0])
    assert NoiseProbe(times.__next__, size=1).measure() == 3.0


def test_the_work_grows_with_the_memory_that_it_passes_over() -> None:
    large, small = (NoiseProbe(time.thread_time, size).measure() for size in (24 << 20, 24 << 10))
    assert large > 20 * small  # a thousand times the memory, in CPU time of this thread: neighbours do not count
