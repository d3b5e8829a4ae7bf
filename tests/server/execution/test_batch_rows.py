"""How many rows one execution should have, for engines whose times are told instead of measured."""

from collections.abc import Callable

import pytest

from server.execution.batch_rows import BUDGET_SECONDS, best_rows


class Told:
    """Takes `call` milliseconds for a call and `row` for each of its rows; `calls` holds the rows of each."""

    def __init__(self, call: float, row: float) -> None:
        self._call, self._row = call, row
        self.calls: list[int] = []

    def __call__(self, rows: int) -> float:
        self.calls.append(rows)
        return (self._call + self._row * rows) / 1e3


@pytest.mark.parametrize(
    ("call", "row", "rows"),
    [
        (5.0, 0.1, 64),  # 1.61 times the rows per second at 32, 1.44 times again at 64
        (0.2, 0.1, 32),  # 1.06, then 1.03
        (0.1, 0.1, 16),  # 1.03
        (0.0, 0.1, 16),
    ],
)
def test_the_rows_are_doubled_as_long_as_the_engine_gains_by_it(call: float, row: float, rows: int) -> None:
    assert best_rows(Told(call, row)) == rows


def test_an_engine_that_large_batches_slow_down_keeps_small_ones() -> None:
    assert best_rows(lambda rows: 1e-3 * rows if rows < 32 else 2e-3 * rows) == 16


def test_what_gains_nothing_is_not_timed_with_still_larger_batches() -> None:
    told = Told(0.0, 0.1)
    best_rows(told)
    assert told.calls == [1, 16, *[16, 32] * 3]


def slow_at_first(engine: Callable[[int], float]) -> Callable[[int], float]:
    seen = set[int]()

    def execute(rows: int) -> float:
        first = rows not in seen
        seen.add(rows)
        return engine(rows) * (20 if first else 1)

    return execute


@pytest.mark.parametrize(("call", "rows"), [(0.5, 64), (0.0, 16)])
def test_a_first_call_of_a_size_that_takes_long_misleads_nobody(call: float, rows: int) -> None:
    assert best_rows(slow_at_first(Told(call, 0.01))) == rows


@pytest.mark.parametrize(
    ("call", "row", "calls"),
    [
        (5.0, 40.0, [1]),  # 16 rows may take 0.7 s
        (5.0, 10.0, [1, 16]),  # two turns of 16 and 32 would take 1.0 s
        (20.0, 2.0, [1, 16, *[16, 32] * 2]),  # two of 0.14 s fit, and then none of 32 and 64
    ],
)
def test_a_slow_engine_is_timed_as_far_as_the_budget_allows(call: float, row: float, calls: list[int]) -> None:
    told = Told(call, row)
    best_rows(told)
    assert told.calls == calls
    assert sum(map(Told(call, row), calls)) < BUDGET_SECONDS
