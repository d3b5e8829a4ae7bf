"""Ratios within rounds: what is claimed of made-up slices, how often without reason, and what carries no claim."""

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.analysis.comparison import FIGURES, Comparison, Figure, Slices, compare_all
from tests.support.loadtest.cells import closed
from tests.support.loadtest.slices import samples

Rounds = NDArray[np.float64]


def compared(figure: Figure = "p50", **latencies: Rounds) -> list[Comparison]:
    """All pairs of variants with these latencies in ms, (rounds, calls)."""
    return compare_all(Slices(samples({name: each.tolist() for name, each in latencies.items()}), closed(1)), figure)


def noisy(seed: int, rounds: int = 60, calls: int = 10, ms: float = 2.0) -> Rounds:
    """Calls of one variant: 5% of noise on each, and 5% on each round."""
    random = np.random.default_rng(seed)
    return ms * np.exp(0.05 * random.standard_normal((rounds, calls)) + 0.05 * random.standard_normal((rounds, 1)))


def drift(rounds: int = 60) -> Rounds:
    """What slows all variants alike: the machine takes three times as long in the end."""
    return np.geomspace(1, 3, rounds)[:, None]


@pytest.mark.parametrize("figure", ["p50", "throughput"])
def test_a_difference_of_a_tenth_is_clear_though_the_machine_drifts_by_three(figure: Figure) -> None:
    (found,) = compared(figure, a=1.1 * noisy(1) * drift(), b=noisy(2) * drift())
    assert (found.faster, found.slower, found.verdict, found.groups) == ("b", "a", "clear", 60)
    assert 1 < found.interval[0] < 1.1 < found.interval[1] < 1.2


def test_a_ratio_is_told_of_either_variant() -> None:
    (found,) = compared(a=1.1 * noisy(1), b=noisy(2))
    assert found.of("a") == (found.ratio, found.interval)
    assert found.of("b") == (1 / found.ratio, (1 / found.interval[1], 1 / found.interval[0]))


def test_equal_variants_are_too_close_to_call() -> None:
    (found,) = compared(a=noisy(1), b=noisy(2))
    assert found.verdict == "too close to call"
    assert found.interval[0] < 1 < found.interval[1]


def test_rounds_that_stand_still_carry_no_claim() -> None:
    stalled = noisy(1)
    stalled[::8] *= 50  # each eighth round: a neighbour took the core
    (found,) = compared("throughput", a=stalled, b=noisy(2))
    assert found.ratio < 1.05
    assert found.verdict != "clear"


def test_a_difference_within_its_noise_is_likely_before_it_is_clear() -> None:
    verdicts = [compared(a=(1 + each) * noisy(1), b=noisy(2))[0].verdict for each in (0.0, 0.018, 0.06)]
    assert verdicts == ["too close to call", "likely", "clear"]


def test_rounds_are_grouped_until_they_hold_the_calls_that_a_percentile_needs() -> None:
    taken = {"a": noisy(1, rounds=60, calls=20), "b": noisy(2, rounds=60, calls=5)}
    groups = {figure: [each.groups for each in compared(figure, **taken)] for figure in FIGURES}
    assert groups == {"p50": [60], "p95": [5], "p99": [], "throughput": [60]}  # 59 calls of b are 12 rounds, 299 are 60


def test_few_rounds_borrow_the_noise_of_all_variants() -> None:
    many = {f"v{i}": (1 + 0.2 * i) * noisy(i, rounds=4) for i in range(12)}
    verdicts = [each.verdict for each in compared(**many)]
    assert verdicts.count("clear") > len(verdicts) / 2
    assert [each.verdict for each in compared(v0=many["v0"], v1=many["v1"])] != ["clear"]


def test_variants_that_stopped_early_are_compared_in_the_rounds_that_they_share() -> None:
    (found,) = compared(a=noisy(1, rounds=20), b=noisy(2, rounds=60))
    assert found.groups == 20


def test_a_variant_without_an_answer_is_not_compared() -> None:
    assert compared(a=noisy(1), b=np.zeros((60, 0))) == []


def test_a_smaller_share_of_wrong_runs_makes_wider_intervals() -> None:
    slices = Slices(samples({"a": noisy(1).tolist(), "b": noisy(2).tolist()}), closed(1))
    (usual,), (strict,) = compare_all(slices, "p50"), compare_all(slices, "p50", {"b": 0.001})
    assert strict.interval[0] < usual.interval[0] < usual.interval[1] < strict.interval[1]


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_equal_variants_are_told_apart_in_no_more_runs_than_promised(correlation: float) -> None:
    """At most 5% of runs claim anything: of 200 runs up to 17 do, in 98 of 100 tries, where exactly 5% would."""
    random, claims = np.random.default_rng(0), 0
    for _ in range(200):
        own = random.standard_normal((4, 40))
        for turn in range(1, 40):
            own[:, turn] += correlation * own[:, turn - 1]
        made = np.exp(0.1 * own)[:, :, None] * np.ones(5)
        claims += any(each.verdict == "clear" for each in compared(a=made[0], b=made[1], c=made[2], d=made[3]))
    assert claims <= 17
