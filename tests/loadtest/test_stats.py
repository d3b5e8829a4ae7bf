"""The generator's limit, and samples thinned for a plot."""

import numpy as np
import pytest

from loadtest import stats


@pytest.mark.parametrize(
    ("share", "rps", "rule"),
    [(0.0, 0.0, None), (0.9, 90.0, None), (0.901, 0.0, "thread"), (1.4, 99.0, "thread"), (0.5, 90.1, "ceiling")],
)
def test_a_generator_above_nine_tenths_of_a_core_or_of_its_ceiling_is_the_limit(
    share: float, rps: float, rule: str | None
) -> None:
    assert stats.generator_limit(share, rps, 100.0) == rule
    assert stats.generator_limit(share, rps) == (None if rule == "ceiling" else rule)


def test_thinned_ranks_keep_both_ends_and_are_denser_towards_the_last() -> None:
    ranks = stats.thin(100_000, 200)
    assert (ranks[0], ranks[-1]) == (0, 99_999)
    assert len(ranks) <= 200
    assert (ranks >= 99_000).sum() > 40
    assert (np.diff(ranks) > 0).all()


def test_few_values_are_not_thinned() -> None:
    assert stats.thin(3, 3).tolist() == [0, 1, 2]
    assert stats.thin(0, 3).tolist() == []
