"""How long a step of a training takes, by when it read its data."""

import pytest

from compressors.shrink.speed import per_step


@pytest.mark.parametrize("reads", [1, 2])
def test_a_step_is_timed_without_what_is_done_once(reads: int) -> None:
    begun = [0.0, 40.0, *[40.5 + 0.25 * i for i in range(28)]]  # the first compiles, one read of a later one is slow
    begun[25:] = [t + 3.0 for t in begun[25:]]
    assert per_step([t for t in begun for _ in range(reads)], steps=30) == 0.25


def test_few_steps_are_timed_too() -> None:
    assert per_step([0.0, 9.0, 9.5], steps=3) == 0.5
