"""Paired comparison and ranking: by hand where it can be worked out, by seeded simulation where it is about chance."""

import numpy as np
import pytest

from loadtest.analysis.paired_comparison import compare_all, compare_pair, rounds_needed

NOISE = 0.03
"""Standard deviation of one block, as a share."""

DRIFT = 0.2
"""Standard deviation of a whole round, as a share."""

SIX = [1.0, 1.3, 0.8, 1.1, 0.9, 1.2]


def drifting(generator: np.random.Generator, rounds: int, *factors: float) -> list[list[float]]:
    """Figures of variants that are these factors apart, on a machine that drifts from round to round."""
    drift = np.exp(generator.normal(0, DRIFT, rounds))
    return [list(factor * drift * np.exp(generator.normal(0, NOISE, rounds))) for factor in factors]


@pytest.mark.parametrize(("comparisons", "rounds"), [(1, 6), (3, 7), (6, 8), (28, 11)])
def test_a_clean_sweep_must_be_rarer_than_one_in_twenty(comparisons: int, rounds: int) -> None:
    assert rounds_needed(comparisons) == rounds
    assert 2 / 2**rounds <= 0.05 / comparisons < 2 / 2 ** (rounds - 1)


def test_five_rounds_are_never_a_claim() -> None:
    found = compare_pair([1.0] * 5, [2.0] * 5)
    assert (found.verdict, found.ratio) == ("too few rounds", 0.5)
    assert found.interval is None
    assert found.p is None


def test_drift_that_a_round_shares_cancels() -> None:
    found = compare_pair([0.9 * figure for figure in SIX], SIX)
    assert found.verdict == "faster"
    assert found.ratio == pytest.approx(0.9)
    assert found.interval == pytest.approx((0.9, 0.9))
    assert found.p == 2 / 2**6


def test_the_other_way_round_it_is_slower() -> None:
    found = compare_pair(SIX, [0.9 * figure for figure in SIX])
    assert found.verdict == "slower"
    assert found.ratio == pytest.approx(1 / 0.9)


def test_equal_figures_are_tied() -> None:
    found = compare_pair(SIX, SIX)
    assert (found.verdict, found.ratio, found.interval, found.p) == ("tied", 1.0, (1.0, 1.0), 1.0)


def test_one_lost_round_of_six_makes_a_tie() -> None:
    found = compare_pair([0.9, 0.9, 0.8, 0.7, 0.85, 1.5], [1.0] * 6)
    assert found.verdict == "tied"
    assert found.p is not None
    assert found.p > 0.05


def test_where_bca_is_undefined_plain_percentiles_are_taken() -> None:
    found = compare_pair([0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.5], [1.0] * 7)
    assert found.verdict == "faster"
    assert found.interval == pytest.approx((0.9, 0.9))


def test_the_same_rounds_give_the_same_interval() -> None:
    first, second = drifting(np.random.default_rng(1), 10, 0.95, 1.0)
    assert compare_pair(first, second) == compare_pair(first, second)


def test_equal_variants_are_told_apart_in_at_most_one_run_of_twenty() -> None:
    generator = np.random.default_rng(2)
    verdicts = [compare_pair(*drifting(generator, 10, 1.0, 1.0)).verdict for _ in range(80)]
    assert 80 - verdicts.count("tied") <= 4


def test_five_percent_are_found_in_ten_rounds() -> None:
    generator = np.random.default_rng(3)
    verdicts = [compare_pair(*drifting(generator, 10, 0.95, 1.0)).verdict for _ in range(40)]
    assert verdicts.count("faster") >= 30  # 17 of 20 in the long run
    assert "slower" not in verdicts


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ([1.0, 2.0], [1.0], r"got \[1, 2\] rounds, expected the same rounds of all variants"),
        ([], [], r"got \[0\] rounds, expected .* at least 1"),
        ([1.0, 0.0], [1.0, 1.0], "first: got 0.0, expected finite numbers above 0"),
        ([1.0], [float("nan")], "second: got nan"),
        ([1.0], [float("inf")], "second: got inf"),
    ],
)
def test_figures_that_cannot_be_paired_are_refused(first: list[float], second: list[float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        compare_pair(first, second)


def test_clearly_different_variants_rank_one_below_the_other() -> None:
    rounds = np.exp(np.random.default_rng(4).normal(0, DRIFT, 8))
    figures = {name: list(factor * rounds) for name, factor in (("c", 3.0), ("a", 1.0), ("b", 2.0))}
    found = compare_all(figures)
    assert found.ranks == (("a",), ("b",), ("c",))
    assert set(found.comparisons) == {("a", "b"), ("a", "c"), ("b", "c")}


def test_tied_variants_share_a_rank() -> None:
    fast, equal, slow = drifting(np.random.default_rng(5), 12, 1.0, 1.0, 1.2)
    assert [set(rank) for rank in compare_all({"fast": fast, "slow": slow, "equal": equal}).ranks] == [
        {"fast", "equal"},
        {"slow"},
    ]


def test_who_is_tied_with_the_best_ranks_first_even_behind_one_who_was_shown_to_be_slower() -> None:
    noisy = [0.7, 1.9, 0.8, 1.6, 0.6, 1.7, 1.8, 1.5, 0.9, 2.0]
    found = compare_all({"best": [1.0] * 10, "slower": [1.1] * 10, "noisy": noisy})
    assert list(found.comparisons) == [("best", "slower"), ("best", "noisy"), ("slower", "noisy")]
    assert found.ranks == (("best", "noisy"), ("slower",))


def test_more_comparisons_need_more_rounds() -> None:
    figures = {name: [factor] * 7 for name, factor in (("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0))}
    found = compare_all(figures)
    assert found.ranks == (("a", "b", "c", "d"),)
    assert {each.verdict for each in found.comparisons.values()} == {"too few rounds"}


def test_holms_correction_multiplies_the_smallest_p_by_the_number_of_comparisons() -> None:
    even = [1.0, 1.02, 0.99, 1.01, 0.98, 1.03, 0.97, 1.04]
    found = compare_all({"a": [0.5] * 8, "b": [1.0] * 8, "c": even})
    best = 2 / 2**8
    assert found.comparisons["a", "b"].p == pytest.approx(3 * best)
    assert found.comparisons["a", "c"].p == pytest.approx(3 * best)
    assert found.ranks == (("a",), ("b", "c"))


def test_one_variant_is_first_and_none_are_no_compare_all() -> None:
    assert compare_all({"only": [1.0]}).ranks == (("only",),)
    assert compare_all({}).ranks == ()


def test_equal_variants_are_ranked_apart_in_at_most_one_run_of_twenty() -> None:
    generator = np.random.default_rng(6)
    runs = [dict(zip("abcd", drifting(generator, 10, 1.0, 1.0, 1.0, 1.0), strict=True)) for _ in range(60)]
    assert sum(len(compare_all(run).ranks) > 1 for run in runs) <= 3
