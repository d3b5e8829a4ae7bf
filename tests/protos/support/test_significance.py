"""Percentiles, sample sizes and tests, against values that can be counted by hand."""

from statistics import NormalDist

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


def test_the_interval_of_a_share_is_wilsons() -> None:
    """Of none in 20 the upper end is z^2 / (20 + z^2), and 600 images leave a top-1 of 97.5% more than a point."""
    squared = NormalDist().inv_cdf(0.975) ** 2
    assert significance.share_interval(0, 20) == pytest.approx((0.0, squared / (20 + squared)))
    assert significance.share_interval(20, 20) == pytest.approx((20 / (20 + squared), 1.0))
    assert significance.share_interval(585, 600) == pytest.approx((0.95916, 0.98479), abs=1e-5)


def test_the_interval_of_a_paired_drop_is_agresti_and_mins() -> None:
    """The example of R's PropCIs (diffpropci.mp): -0.21601726 to -0.03089632, of the second less the first."""
    assert significance.paired_drop_interval(40, 20, 160) == pytest.approx((0.03089632, 0.21601726), abs=1e-8)
    assert significance.paired_drop_interval(20, 40, 160) == pytest.approx((-0.21601726, -0.03089632), abs=1e-8)


def test_no_flip_in_20_images_leaves_a_drop_possible() -> None:
    reach = NormalDist().inv_cdf(0.975) / 22
    assert significance.paired_drop_interval(0, 0, 20) == pytest.approx((-reach, reach))


def test_a_drop_is_never_beyond_everything() -> None:
    low, high = significance.paired_drop_interval(20, 0, 20) or (0, 0)
    assert 0.7 < low < high == 1.0
    assert significance.paired_drop_interval(0, 20, 20) == (-high, -low)


def test_without_images_there_is_no_interval() -> None:
    assert significance.share_interval(0, 0) is significance.paired_drop_interval(0, 0, 0) is None


@pytest.mark.parametrize("images", [200, 600, 2000])
@pytest.mark.parametrize("flipping", [0.005, 0.02, 0.1])
def test_equal_classifiers_seem_to_differ_no_more_often_than_promised(images: int, flipping: float) -> None:
    flips = np.random.default_rng(0).multinomial(images, [flipping / 2, flipping / 2, 1 - flipping], 4000)
    found = [significance.paired_drop_interval(lost, gained, images) or (0, 0) for lost, gained, _ in flips.tolist()]
    assert np.mean([not low <= 0 <= high for low, high in found]) < 0.06


def test_errors_of_a_difference_add_up_as_squares() -> None:
    assert significance.difference_interval((1.0, 7.0), (-4.0, 4.0)) == (4.0 - 5.0, 4.0 + 5.0)
    assert significance.difference_interval((1.0, 7.0), (0.0, 0.0)) == (1.0, 7.0)


def test_intervals_are_read_in_percent() -> None:
    assert significance.percent((-0.001, 0.0123)) == "-0.10 to 1.23"
    assert significance.percent((-1e-7, 0.5)) == "0.00 to 50.00"
    assert significance.percent(None) is None
