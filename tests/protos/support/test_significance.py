"""Percentiles, sample sizes and tests, against values that can be counted by hand."""

import numpy as np
import pytest

from protos.support import significance
from protos.support.significance import mcnemar_p


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 6, 2 / 64),
        (1, 9, 22 / 1024),
        (9, 1, 22 / 1024),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
    ],
)
def test_mcnemars_p_is_exact(lost: int, gained: int, p: float) -> None:
    assert mcnemar_p(lost, gained) == p


def test_many_flips_need_no_approximation() -> None:
    """Worth a test, as the numbers of ways are beyond any float."""
    assert mcnemar_p(5000, 5000) == 1.0
    assert mcnemar_p(0, 900) == 2.0**-899


@pytest.mark.parametrize(("q", "needed"), [(0.5, 5), (0.95, 59), (0.99, 299)])
def test_a_quantile_needs_as_many_samples_as_wilks_says(q: float, needed: int) -> None:
    assert significance.samples_needed(q) == needed


def test_one_sample_too_few_gives_no_quantile() -> None:
    assert significance.quantile(np.arange(298.0), 0.99) is None
    assert significance.quantile(np.arange(299.0), 0.99) is not None


def test_quantiles_are_interpolated_between_samples() -> None:
    assert significance.quantile(np.array([4.0, 1.0, 3.0, 2.0, 10.0, 20.0]), 0.5) == 3.5


def test_quantiles_keep_microseconds_apart() -> None:
    assert significance.quantile(np.full(5, 0.002601), 0.5) == 0.002601


def test_the_interval_of_a_median_is_between_ranks_that_the_binomial_gives() -> None:
    """Of ten values the second and the ninth: fewer than two lie on one side by chance in 2 x 11 / 1024 cases."""
    assert significance.median_interval(np.arange(1.0, 11.0)) == (2.0, 9.0)
    assert significance.median_interval(np.arange(1.0, 7.0)) == (1.0, 6.0)
    assert significance.median_interval(np.arange(1.0, 6.0)) is None
