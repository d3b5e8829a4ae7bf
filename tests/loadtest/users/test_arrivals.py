"""Arrivals: exact counts, exponential gaps, and a test of gaps that tells them from others."""

import itertools

import numpy as np
import pytest

from loadtest.users.arrivals import gaps, poisson
from tests.support.loadtest.arrivals import exponential_p


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("rate", "seconds", "count"), [(100.0, 3.0, 300), (0.5, 3.0, 2), (33.3, 1.0, 33), (0.1, 1.0, 0)]
)
def test_there_are_exactly_as_many_arrivals_as_the_rate_says(rate: float, seconds: float, count: int) -> None:
    assert len(poisson(rate, seconds, rng())) == count


def test_arrivals_are_sorted_and_within_the_time() -> None:
    times = poisson(1000.0, 2.0, rng())
    assert np.all(np.diff(times) > 0)
    assert times[0] >= 0
    assert times[-1] < 2.0


def test_arrivals_are_the_same_for_a_seed_and_others_for_another() -> None:
    assert poisson(100.0, 1.0, rng(1)).tolist() == poisson(100.0, 1.0, rng(1)).tolist()
    assert poisson(100.0, 1.0, rng(1)).tolist() != poisson(100.0, 1.0, rng(2)).tolist()


def test_the_gaps_of_planned_arrivals_are_exponential() -> None:
    p = [exponential_p(np.diff(poisson(200.0, 5.0, rng(seed))), 200.0) for seed in range(100)]
    assert min(p) > 0.05


def test_endless_gaps_are_exponential() -> None:
    observed = np.array(list(itertools.islice(gaps(200.0, rng()), 1000)))
    assert exponential_p(observed, 200.0) > 0.05
    assert observed.mean() == pytest.approx(1 / 200, rel=0.1)


def test_endless_gaps_are_the_same_for_a_seed() -> None:
    first, second = (list(itertools.islice(gaps(10.0, rng(3)), 5)) for _ in range(2))
    assert first == second


def test_clockwork_is_not_exponential() -> None:
    assert exponential_p(np.full(300, 0.01), 100.0) < 1e-9


def test_bursts_are_not_exponential() -> None:
    bursts = np.repeat(poisson(50.0, 6.0, rng()), 2)  # each call twice, at the same rate of calls
    assert exponential_p(np.diff(bursts), 100.0) < 1e-9


def test_the_right_shape_at_another_rate_is_found_out() -> None:
    assert exponential_p(np.diff(poisson(130.0, 10.0, rng())), 100.0) < 1e-3


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf")])
def test_endless_arrivals_need_a_rate(rate: float) -> None:
    with pytest.raises(ValueError, match=r"rate: got .*, expected a finite number above 0"):
        next(gaps(rate, rng()))
