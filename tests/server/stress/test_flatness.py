"""The soak's judgement, on series of which it is known what they do."""

import random

import pytest

from tests.server.stress.flatness import trend

POINTS = 120


def series(slope: float, noise: float = 0.0, seed: int = 0) -> list[tuple[float, float]]:
    """A line of that slope per point, with normal noise."""
    chance = random.Random(seed)
    return [(float(x), 100.0 + slope * x + chance.gauss(0.0, noise)) for x in range(POINTS)]


def test_growth_is_that_of_the_time_after_the_warm_up() -> None:
    found = trend("memory", series(slope=1.0), allowed=10.0)
    assert found.growth == pytest.approx(POINTS * 2 / 3, abs=1)
    assert found.grows


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_not_growth(seed: int) -> None:
    assert not trend("memory", series(0.0, noise=10.0, seed=seed), allowed=15.0).grows


@pytest.mark.parametrize("seed", range(5))
def test_growth_is_found_in_noise_of_its_own_size(seed: int) -> None:
    assert trend("memory", series(0.5, noise=10.0, seed=seed), allowed=15.0).grows


def test_what_grows_only_in_the_warm_up_is_flat() -> None:
    points = [(float(x), min(x, POINTS / 4) * 1000.0) for x in range(POINTS)]
    assert trend("memory", points, allowed=1.0).growth == 0.0


def test_single_peaks_are_no_growth() -> None:
    points = [(float(x), 1e9 if x % 10 == 9 else 100.0) for x in range(POINTS)]
    assert trend("memory", points, allowed=1.0).growth == 0.0


def test_what_shrinks_is_flat() -> None:
    assert not trend("memory", series(slope=-1.0), allowed=1.0).grows
