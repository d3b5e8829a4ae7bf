"""Percentiles, sample sizes and the generator's limit, against values worked out by hand."""

import numpy as np
import pytest

from loadtest import stats


@pytest.mark.parametrize(("q", "needed"), [(0.5, 5), (0.95, 59), (0.99, 299)])
def test_a_quantile_needs_as_many_samples_as_wilks_says(q: float, needed: int) -> None:
    assert stats.samples_needed(q) == needed


def test_one_sample_too_few_gives_no_quantile() -> None:
    assert stats.quantile(np.arange(298.0), 0.99) is None
    assert stats.quantile(np.arange(299.0), 0.99) is not None


def test_quantiles_are_interpolated_between_samples() -> None:
    assert stats.quantile(np.array([4.0, 1.0, 3.0, 2.0, 10.0, 20.0]), 0.5) == 3.5


def test_quantiles_keep_microseconds_apart() -> None:
    assert stats.quantile(np.full(5, 0.002601), 0.5) == 0.002601


@pytest.mark.parametrize(("share", "limited"), [(0.0, False), (0.9, False), (0.901, True), (1.4, True)])
def test_a_generator_above_nine_tenths_of_a_core_is_the_limit(share: float, limited: bool) -> None:
    assert stats.is_generator_limited(share) is limited


def test_thinned_ranks_keep_both_ends_and_are_denser_towards_the_last() -> None:
    ranks = stats.thin(100_000, 200)
    assert (ranks[0], ranks[-1]) == (0, 99_999)
    assert len(ranks) <= 200
    assert (ranks >= 99_000).sum() > 40
    assert (np.diff(ranks) > 0).all()


def test_few_values_are_not_thinned() -> None:
    assert stats.thin(3, 3).tolist() == [0, 1, 2]
    assert stats.thin(0, 3).tolist() == []
