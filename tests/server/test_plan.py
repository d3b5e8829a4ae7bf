"""Slots from cores."""

import pytest

from protos.errors import UsageError
from server.plan import make_plan


@pytest.mark.parametrize(("threads", "cores", "slots"), [(1, 1, 1), (1, 8, 8), (2, 8, 4), (3, 8, 2), (8, 8, 1)])
def test_slots_times_threads_fit_the_cores(threads: int, cores: int, slots: int) -> None:
    plan = make_plan(threads, cores)
    assert plan.slots == slots
    assert plan.slots * plan.threads <= cores


def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(UsageError, match="--threads: 9 came, expected at most the 8 available cores"):
        make_plan(9, 8)
