"""Who needs no more slices, by made-up ones: broken constraints, clear winners, and when nothing is left to decide."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadtest.analysis.comparison import ALPHA
from loadtest.client.metrics_page import Facts
from loadtest.decision.race import Race, alphas_of, share_of_look
from loadtest.measure.measurement import Stop
from loadtest.plan import Load, Plan
from tests.support.loadtest.cells import closed
from tests.support.loadtest.slices import measured, samples

PLAN = Plan(
    target="localhost:1", model="m", out=Path("x"), users=(1,), p99=10.0, duration=2.4, slice=0.01, until_decided=True
)


def calls(ms: float, rounds: int = 60, seed: int = 0) -> list[list[float]]:
    """20 calls a round, with 5% of noise."""
    return (ms * np.exp(0.05 * np.random.default_rng(seed).standard_normal((rounds, 20)))).tolist()


def facts(*variants: str, megabytes: float = 10.0) -> dict[str, Facts]:
    return {
        name: Facts("fp32", "x", quality=0.9, artifact_bytes=1, memory_bytes=int(1e6 * megabytes)) for name in variants
    }


def stopped(
    plan: Plan, latencies: dict[str, list[list[float]]], *stops: Stop, of: dict[str, Facts] | None = None
) -> dict[str, str]:
    known = measured(samples(latencies), stops=stops)
    return {stop.variant: stop.reason for stop in Race(plan, of or facts(*latencies)).look(closed(1), known)}


def test_a_variant_stops_when_its_p99_is_above_the_limit_beyond_doubt() -> None:
    reasons = stopped(replace(PLAN, slice=0.1), {"a": calls(2.0, 6), "b": calls(2.0, 6, seed=1), "c": calls(20.0, 6)})
    assert set(reasons) == {"c"}
    assert "more than the 10 allowed" in reasons["c"]


def test_all_stop_when_the_winner_is_clearly_faster_than_each() -> None:
    reasons = stopped(PLAN, {"a": calls(1.0), "b": calls(2.0), "c": calls(3.0)})
    assert "2.00 times" in reasons["b"]
    assert "3.0" in reasons["c"]
    assert reasons["a"] == "decided"


def test_nobody_of_lower_p99_is_beaten_by_a_variant_that_may_still_break_a_constraint() -> None:
    slow_now_and_then = calls(1.0)
    for turn in range(0, 60, 5):
        slow_now_and_then[turn][:2] = [9.9, 10.9 if turn % 10 else 9.9]  # p99 is 9.9, and may be above the limit of 10
    reasons = stopped(PLAN, {"a": slow_now_and_then, "b": calls(2.0), "c": [[*e[:-1], 12.0] for e in calls(3.0)]})
    assert "b" not in reasons


def test_variants_within_two_percent_need_not_be_told_apart() -> None:
    reasons = stopped(replace(PLAN, slice=0.001), {"a": calls(1.0, 600), "b": calls(1.001, 600, seed=1)})
    assert sorted(reasons.values()) == [
        "decided",
        f"within 2% of {min(reasons, key=lambda n: reasons[n] != 'decided')}",
    ]


def test_what_a_manifest_says_is_beyond_doubt_at_the_first_look() -> None:
    of = facts("a", "b") | facts("big", megabytes=900.0)
    plan = replace(PLAN, max_memory=100.0, slice=0.1)
    latencies = {"a": calls(2.0, 6), "b": calls(2.0, 6, seed=1), "big": calls(1.0, 6)}
    assert set(stopped(plan, latencies, of=of)) == {"big"}


@pytest.mark.parametrize("rounds", [59, 240])
def test_nobody_looks_before_a_quarter_of_the_rounds_or_after_the_last(rounds: int) -> None:
    assert stopped(PLAN, {"a": calls(1.0, rounds), "b": calls(20.0, rounds)}) == {}


def test_nobody_stops_early_unasked() -> None:
    assert stopped(replace(PLAN, until_decided=False), {"a": calls(1.0), "b": calls(20.0)}) == {}


def test_a_variant_that_never_answers_stops_in_every_run() -> None:
    plan = replace(PLAN, until_decided=False, p99=None)
    assert stopped(plan, {"a": calls(1.0, 3), "dead": [[], [], []]}) == {"dead": "no call was answered"}


def test_an_open_loop_stops_only_what_is_broken() -> None:
    load = Load("server", 100.0)
    plan = replace(PLAN, users=(), rates=(100.0,))
    taken = samples({"a": calls(1.0), "b": calls(2.0), "c": calls(20.0)}, load)
    stops = Race(plan, facts("a", "b", "c")).look(load, measured(taken, load))
    assert [stop.variant for stop in stops] == ["c"]


def test_all_looks_together_may_be_wrong_as_often_as_one() -> None:
    assert sum(map(share_of_look, range(1, 1000))) == pytest.approx(ALPHA / 2, rel=1e-3)
    stop = Stop("b", closed(1), 6, "slow", share_of_look(1))
    assert alphas_of([stop], closed(1), "ab", ALPHA / 2) == {"a": ALPHA / 2, "b": ALPHA / 4}
