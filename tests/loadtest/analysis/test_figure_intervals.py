"""How well a run knows its own figures: hand-made runs, and many simulated ones."""

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.analysis.figure_intervals import Estimate, estimates, mean_correlation, ratio_interval
from loadtest.plan import Load
from tests.support.loadtest.made_runs import made_run

CLOSE = 1e-9


def found(levels: NDArray[np.float64], **more: object) -> dict[str, Estimate | None]:
    results, samples = made_run({"a-x": levels.tolist()}, **more)  # type: ignore[arg-type]
    return dict(estimates(results.cells[0], samples))


def wave(count: int, share: float, seed: int) -> NDArray[np.float64]:
    """Levels around 1 ms of which each is `share` of the one before, and the rest by chance."""
    random = np.random.default_rng(seed).normal(0, 0.05, count)
    for number in range(1, count):
        random[number] = share * random[number - 1] + (1 - share**2) ** 0.5 * random[number]
    return np.exp(random)


def test_influences_add_up_to_none_and_say_how_slow_a_round_was() -> None:
    levels = np.ones(20)
    levels[3] = 2
    for name, estimate in found(levels, calls=100).items():
        assert estimate, name
        assert estimate.influences.sum() == pytest.approx(0, abs=CLOSE)
        assert estimate.influences.argmax() == 3


def test_fewer_than_ten_rounds_know_nothing() -> None:
    assert set(found(np.ones(9), calls=200).values()) == {None}


def test_an_open_loops_block_is_cut_into_parts() -> None:
    estimate = found(np.ones(4), calls=100, load=Load("server", 10), sustained=True)["p50 ms"]
    assert estimate
    assert estimate.parts == 50


def test_rounds_that_hang_together_are_seen() -> None:
    alone, together = (
        mean_correlation([e for seed in range(20) if (e := found(wave(50, share, seed))["ms per answer"])])
        for share in (0.0, 0.6)
    )
    assert alone == pytest.approx(1, abs=0.3)
    assert 2 < together < 5  # (1 + 0.6) / (1 - 0.6) is 4


def test_a_wider_interval_is_one_of_fewer_doubts() -> None:
    before, after = (found(wave(50, 0, seed))["p50 ms"] for seed in (1, 2))
    assert before
    assert after
    sure, bold = (ratio_interval(before, after, 1.0, alpha) for alpha in (0.01, 0.2))
    assert None not in (*sure, *bold)
    assert sure[0] < bold[0] < after.value / before.value < bold[1] < sure[1]  # type: ignore[operator]


def test_of_equal_runs_few_show_a_difference() -> None:
    """With p50 and time per answer of one variant, rounds that hang together: at most 5% wrong, but for chance."""
    wrong = 0
    for seed in range(100):
        before, after = (found(wave(50, 0.5, 2 * seed + which), calls=20) for which in (0, 1))
        for name in ("p50 ms", "ms per answer"):
            one, other = before[name], after[name]
            assert one
            assert other
            low, high = ratio_interval(one, other, mean_correlation([one, other]), 0.05 / 2)
            wrong += (low or 0) > 1 or (high or 2) < 1
    assert wrong <= 10  # 0 and 1 of 200 comparisons are usual


def test_a_long_tail_leaves_the_upper_end_open() -> None:
    results, samples = made_run({"a-x": [1.0] * 20}, calls=16)
    samples.rows["latency"][:3] = 0.1
    before = dict(estimates(results.cells[0], samples))["p99 ms"]
    assert before
    assert before.interval(1.0, 3.0)[1] is None
