"""Between which values a true p99 lies: exact where the ranks are, wider where slow calls come in clusters."""

import itertools

import numpy as np
import pytest
from scipy.stats import binom

from loadtest.analysis.percentiles import LatencyMs, binomial_quantile, percentiles, quantile_interval


def test_percentiles_with_too_few_samples_are_none() -> None:
    assert percentiles(np.full(58, 0.002)) == LatencyMs(2.0, None, None)


def test_ends_are_the_ranks_that_chance_allows() -> None:
    shuffled = np.random.default_rng(0).permutation(np.arange(1, 1001, dtype=float))
    low, high = quantile_interval(shuffled, 0.99)
    assert (low, high) == (pytest.approx(983, abs=2), pytest.approx(997, abs=2))  # binomial: 984 to 996 of 1000


@pytest.mark.parametrize("chance", [0.5, 0.95, 0.99])
def test_the_ranks_are_the_quantiles_of_the_binomial_distribution(chance: float) -> None:
    shares, counts = (0.001, 0.025, 0.975, 0.999), (1, 2, 10, 99, 100, 1000, 12345)
    for share, count in itertools.product(shares, counts):
        assert binomial_quantile(share, count, chance) == binom.ppf(share, count, chance)


@pytest.mark.parametrize(("calls", "ends"), [(0, (False, False)), (100, (True, False)), (400, (True, True))])
def test_few_calls_bound_a_p99_from_below_only(calls: int, ends: tuple[bool, bool]) -> None:
    interval = quantile_interval(np.random.default_rng(0).random(calls), 0.99)
    assert tuple(end is not None for end in interval) == ends


def test_slow_calls_that_come_together_prove_less() -> None:
    calls = np.ones(3000)
    calls[np.arange(0, 3000, 60)] = 9.0
    spread = quantile_interval(calls, 0.99)
    clustered = quantile_interval(np.sort(calls)[::-1], 0.99)
    assert spread == (9.0, 9.0)
    assert clustered[0] == 1.0


def test_the_interval_holds_the_true_p99_in_95_of_100_runs() -> None:
    random, held = np.random.default_rng(0), 0
    for _ in range(200):
        low, high = quantile_interval(random.exponential(1.0, 1000), 0.99)
        held += low is not None and high is not None and low <= np.log(100) <= high
    assert held >= 182  # of 190 expected
