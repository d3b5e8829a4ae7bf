"""What is worked out for a second opinion, and its sentences word by word."""

import numpy as np
import pytest

from loadtest.generator.opinion import (
    CrossCheck,
    Pace,
    SecondOpinion,
    WithoutGenerator,
    cross_check,
    cycle,
    extrapolate,
    sentences,
)
from tests.support.loadtest.cells import closed

CHECK = cross_check(Pace(900.0, 1.1), Pace(1200.0, 0.8), Pace(1100.0, 0.9))
OPINION = SecondOpinion("a-x", closed(8), CHECK, without_generator=WithoutGenerator(1234.4, 371.6, 1400.0, 1600.0))


def test_differences_are_from_the_mean_of_the_two_turns_beside_it() -> None:
    assert (CHECK.rps_difference, CHECK.p50_difference) == pytest.approx((0.2, -0.2))


@pytest.mark.parametrize("missing", range(3))
def test_a_p50_of_too_few_samples_has_no_difference(missing: int) -> None:
    paces = [Pace(1.0, None if at == missing else 1.0) for at in range(3)]
    assert cross_check(*paces) == CrossCheck(*paces, rps_difference=0.0, p50_difference=None)


def test_a_cycle_is_a_user_s_shared_by_all_and_a_pause_of_the_machine_is_not_in_it() -> None:
    two_users = np.array([0.0, 0.5, 2.0, 2.5, 4.0, 4.5, 54.0, 54.5, 56.0, 56.5])  # each sends every two seconds
    assert cycle(two_users[::-1], 2) == 1.0
    assert cycle(np.array([0.0, 3.0, 6.0]), 1) == 3.0


COSTS = [1e-4, 1.5e-4, 2e-4] * 8


def line(at_zero: float, slope: float, noise: float = 0.0, seed: int = 0) -> list[float]:
    """Seconds for each answer at `COSTS`."""
    scatter = np.random.default_rng(seed).normal(0, noise, len(COSTS)) if noise else np.zeros(len(COSTS))
    return (at_zero + slope * np.array(COSTS) + scatter).tolist()


def test_a_line_is_extrapolated_to_no_cost_exactly_where_it_fits_exactly() -> None:
    assert extrapolate(COSTS, line(5e-4, 2.0)) == pytest.approx((5e-4, 5e-4))


def test_a_few_disturbed_turns_carry_nothing() -> None:
    disturbed = [10 * each if at in (3, 10, 20) else each for at, each in enumerate(line(5e-4, 2.0))]
    assert extrapolate(COSTS, disturbed) == pytest.approx((5e-4, 5e-4))


def test_where_cost_changes_nothing_the_raw_time_is_within_the_interval() -> None:
    least, most = extrapolate(COSTS, line(1e-3, 0.0, noise=1e-5)) or (0.0, 0.0)
    assert 0.9e-3 < least < 1e-3 < most < 1.1e-3


def test_the_interval_holds_the_truth_in_at_least_nineteen_of_twenty_runs() -> None:
    bounds = [extrapolate(COSTS, line(5e-4, 1.0, noise=5e-5, seed=seed)) for seed in range(200)]
    assert sum(each is not None and each[0] <= 5e-4 <= each[1] for each in bounds) >= 186


def test_a_line_that_asks_for_less_than_no_time_says_nothing() -> None:
    assert extrapolate(COSTS, line(-1e-4, 3.0)) is None


def test_both_parts_are_said() -> None:
    assert [*sentences(OPINION)] == [
        "a-x, 8 users: h2load got 1,200 requests/s with a p50 of 0.80 ms, this load generator 900 requests/s with a p50"
        " of 1.10 ms right before and 1,100 requests/s with a p50 of 0.90 ms right after: h2load's throughput differs"
        " by +20%, its p50 by -20%.",
        "a-x, 8 users: 1,234 requests/s; about 1,400 to 1,600 if the load generator took nothing (95% interval,"
        " extrapolated from more CPU time for each request than its 372 µs).",
    ]


def test_what_was_not_cross_checked_says_why_and_is_not_warned_of() -> None:
    opinion = SecondOpinion("a-x", closed(1), missing="it is not installed")
    assert [*sentences(opinion)] == ["a-x, 1 user: not cross-checked with h2load: it is not installed."]
    assert [*sentences(None)] == []


@pytest.mark.parametrize(
    ("lowest", "said"), [(963.0, "about 963 or more"), (899.0, "the machine was too unsteady to tell how many")]
)
def test_an_interval_without_an_upper_end_is_said_as_such(lowest: float, said: str) -> None:
    opinion = SecondOpinion("a-x", closed(1), CHECK, without_generator=WithoutGenerator(900.0, 372.0, lowest, None))
    assert f"900 requests/s; {said} if the load generator took nothing" in [*sentences(opinion)][1]
