"""Slots from cores."""

import pytest

from protos.errors import UsageError
from server.execution.threads import make_plan


@pytest.mark.parametrize(("threads", "cores", "slots"), [(1, 1, 1), (1, 8, 8), (2, 8, 4), (3, 8, 2), (8, 8, 1)])
def test_slots_times_threads_fit_the_cores(threads: int, cores: int, slots: int) -> None:
    plan = make_plan(threads, cores)
    assert plan.slots == slots
    assert plan.slots * plan.threads <= cores


@pytest.mark.parametrize(
    ("workers", "threads", "cores", "slots"), [(1, 1, 8, 8), (2, 1, 8, 4), (3, 1, 8, 2), (2, 2, 8, 2), (4, 2, 8, 1)]
)
def test_workers_times_slots_times_threads_fit_the_cores(workers: int, threads: int, cores: int, slots: int) -> None:
    plan = make_plan(threads, cores, workers)
    assert plan.slots == slots
    assert plan.workers * plan.slots * plan.threads <= cores
    assert str(plan) == f"{cores} cores, workers x slots x threads = {workers} x {slots} x {threads}"


def test_more_workers_than_fit_are_refused() -> None:
    expected = r"--workers: got 5, expected at most 4 \(8 available cores / 2 threads\)"
    with pytest.raises(UsageError, match=expected):
        make_plan(2, 8, 5)


def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(UsageError, match="--threads: got 9, expected at most the 8 available cores"):
        make_plan(9, 8)
