"""Where a made-up probability to hold crosses a half: what trials at known rates say of it."""

import numpy as np
import pytest

from loadtest.measure.rate_model import SPOILT, RateModel


def model(held: list[float], broke: list[float]) -> RateModel:
    return RateModel(np.array(held + broke), np.array([True] * len(held) + [False] * len(broke)))


def test_trials_that_a_threshold_separates_give_a_finite_interval_around_it() -> None:
    seen = model([90.0, 95.0, 99.0], [101.0, 105.0, 110.0])
    low, middle, high = (seen.crossing(q) for q in (0.025, 0.5, 0.975))
    assert middle == pytest.approx(100, rel=0.01)
    assert 80 < low < 96
    assert 104 < high < 135


def test_more_trials_narrow_the_interval() -> None:
    few, many = model([95.0], [105.0]), model([95.0] * 10, [105.0] * 10)
    assert many.crossing(0.975) - many.crossing(0.025) < 0.6 * (few.crossing(0.975) - few.crossing(0.025))


def test_mixed_outcomes_widen_the_interval_and_lower_the_reliable_rate() -> None:
    clear, mixed = model([80.0, 90.0], [110.0, 120.0]), model([80.0, 90.0, 120.0], [80.0, 110.0, 120.0])
    assert mixed.crossing(0.975) > clear.crossing(0.975)
    assert mixed.crossing(0.025) < clear.crossing(0.025)
    assert mixed.reliable(0.9) < clear.reliable(0.9)


def test_a_higher_probability_asks_for_a_lower_rate() -> None:
    seen = model([90.0, 95.0] * 10, [105.0, 110.0] * 10)
    assert seen.reliable(0.9) < seen.reliable((1 - SPOILT) / 2) == pytest.approx(seen.crossing(0.5), rel=0.02)


def test_one_accident_far_below_moves_the_crossing_little() -> None:
    held, broke = [90.0, 95.0] * 4, [105.0, 110.0] * 4
    assert model(held, [*broke, 40.0]).crossing(0.5) == pytest.approx(model(held, broke).crossing(0.5), rel=0.03)


def test_the_next_trial_is_near_the_crossing() -> None:
    seen = model([90.0, 95.0], [105.0, 110.0])
    assert 92 < seen.most_informative(seen.crossing(0.025), seen.crossing(0.975)) < 108


def test_the_interval_covers_the_crossing_of_made_up_servers() -> None:
    generator, covered = np.random.default_rng(7), 0
    for _ in range(100):
        crossing, spread = generator.uniform(80, 120), 0.05 * np.exp(generator.normal())
        rates = generator.uniform(70, 140, 20)
        held = generator.random(20) < (1 - SPOILT) / (1 + (rates / crossing) ** (1 / spread))
        seen = RateModel(rates, held)
        covered += seen.crossing(0.025) <= crossing <= seen.crossing(0.975)
    assert 91 <= covered <= 99
