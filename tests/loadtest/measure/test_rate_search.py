"""The search on simulated servers: exact ones, queues of known highest rate, and odd ones. All seeded."""

import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from loadtest.measure.rate_search import (
    MOST_TRIALS,
    WIDTH,
    Found,
    Measure,
    Objective,
    Outcome,
    Trial,
    conclude,
    describe,
    find_max_rate,
)

OBJECTIVE = Objective(p99_ms=20.0)


def find(measure: Measure, objective: Objective = OBJECTIVE, seconds: float = 3.0) -> Found:
    return find_max_rate(measure, objective, start=50.0, lowest=10.0, seconds=seconds)


def trial(
    rate: float, p99_ms: float | None = 10.0, *, calls: int = 1000, failures: int = 0, achieved: float | None = None,
    limited: bool = False, early: bool = False,
) -> Trial:  # fmt: skip
    return Trial(rate, rate if achieved is None else achieved, calls, failures, p99_ms, limited, early)


def exact(limit: float) -> Callable[[float, float], Trial]:
    """A server that holds any rate up to its limit and none above."""
    return lambda rate, _: trial(rate, 10.0 if rate <= limit else 100.0)


class Queue:
    """One server with a queue: Poisson arrivals, and exponential (M/M/1) or constant (M/D/1) service times."""

    def __init__(
        self, seed: int, service_seconds: float = 0.001, constant: bool = False, accidents: float = 0.0
    ) -> None:
        self._generator = np.random.default_rng(seed)
        self._service, self._constant, self._accidents = service_seconds, constant, accidents

    def __call__(self, rate: float, seconds: float) -> Trial:
        calls = round(rate * seconds)
        arrived = np.cumsum(self._generator.exponential(1 / rate, calls))
        served = np.full(calls, self._service) if self._constant else self._generator.exponential(self._service, calls)
        work = np.cumsum(served)
        ended = np.maximum.accumulate(arrived - (work - served)) + work
        p99_ms = float(np.quantile(ended - arrived, 0.99)) * 1000
        accident = self._generator.random() < self._accidents
        return trial(rate, p99_ms * (5 if accident else 1), calls=calls)


def tried(held: Iterable[float], broke: Iterable[float]) -> list[Trial]:
    return [*(trial(rate) for rate in held), *(trial(rate, 100.0) for rate in broke)]


@pytest.mark.parametrize(
    ("measured", "outcome"),
    [
        (trial(100.0), "holds"),
        (trial(100.0, 20.0), "holds"),
        (trial(100.0, 20.1), "p99"),
        (trial(100.0, failures=1), "holds"),
        (trial(100.0, failures=2), "errors"),
        (trial(100.0, None, failures=1000), "errors"),
        (trial(100.0, calls=999), "too few samples"),
        (trial(100.0, 20.1, limited=True), "generator"),
        (trial(100.0, failures=2, limited=True), "generator"),
        (trial(100.0, limited=True), "holds"),
        (trial(100.0, achieved=98.0), "holds"),
        (trial(100.0, achieved=97.9), "generator"),
        (trial(100.0, None, calls=50, early=True), "p99"),
        (trial(100.0, 80.0, calls=500, early=True), "p99"),
        (trial(100.0, None, calls=50, failures=2, early=True), "errors"),
        (trial(100.0, None, calls=50, limited=True, early=True), "generator"),
    ],
)
def test_what_a_trial_says(measured: Trial, outcome: Outcome) -> None:
    assert measured.outcome(OBJECTIVE) == outcome


@pytest.mark.parametrize(("error_rate", "calls"), [(0.0, 299), (0.01, 299), (0.001, 1000)])
def test_one_failed_call_alone_is_no_broken_objective(error_rate: float, calls: int) -> None:
    assert Objective(20.0, error_rate).calls_needed == calls


def test_a_trial_lasts_until_there_are_calls_enough() -> None:
    asked = dict[float, float]()

    def measure(rate: float, seconds: float) -> Trial:
        asked[rate] = seconds
        return exact(500.0)(rate, seconds)

    find(measure)
    assert asked[50.0] == pytest.approx(22.0)
    assert asked[400.0] == 3.0


def test_a_trial_that_may_still_hold_is_not_ended() -> None:
    assert Objective(20.0, 0.0).may_miss(1000) == 11
    latencies = np.r_[np.full(989, 10.0), np.full(11, 21.0)]
    assert np.quantile(latencies, 0.99) > 20  # 11 late calls may already break it, 12 break it for sure
    assert Objective(20.0, 0.05).may_miss(1000) == pytest.approx(61)


def test_an_exact_server_is_bracketed_and_narrowed() -> None:
    found = find(exact(300.0))
    assert [each.rate for each in found.trials[:4]] == [50.0, 100.0, 200.0, 400.0]
    assert all(200 < each.rate < 400 for each in found.trials[4:])
    assert found.interval is not None
    assert found.held is not None
    assert found.crossing == pytest.approx(300, rel=0.04)
    low, high = found.interval
    assert 280 < low < 300 < high < 320
    assert high <= WIDTH * low
    assert 240 < found.held <= low
    assert (found.bounded_by, found.contradicting(OBJECTIVE)) == ("p99", 0)
    assert len(found.trials) < MOST_TRIALS


def test_below_the_start_rates_are_halved() -> None:
    found = find(exact(15.0))
    assert [each.rate for each in found.trials[:3]] == [50.0, 25.0, 12.5]
    assert found.crossing == pytest.approx(15, rel=0.04)


def test_a_server_that_fails_everything_holds_no_rate() -> None:
    found = find(lambda rate, _: trial(rate, None, failures=1000))
    assert (found.held, found.crossing, found.interval, found.bounded_by) == (None, None, None, "errors")
    assert [each.rate for each in found.trials] == [50.0, 25.0, 12.5, 10.0]


def test_a_server_that_never_breaks_is_bounded_by_the_generator() -> None:
    ceiling = 300.0
    found = find(lambda rate, _: trial(rate, achieved=min(rate, ceiling)))
    assert (found.crossing, found.interval, found.bounded_by) == (None, None, "generator")
    assert found.held is not None
    assert 0.8 * ceiling < found.held <= ceiling / 0.98


def test_a_generator_that_was_slow_once_proves_nothing() -> None:
    turn = iter(range(100))
    found = find(lambda rate, _: trial(rate, limited=True, p99_ms=99.0) if next(turn) == 1 else exact(300.0)(rate, 1.0))
    assert [each.rate for each in found.trials[:4]] == [50.0, 100.0, 100.0, 200.0]
    assert found.crossing == pytest.approx(300, rel=0.04)


def test_a_generator_that_was_slow_for_a_while_does_not_bound_rates_above_which_trials_proved_something() -> None:
    turn = iter(range(100))
    found = find(lambda rate, _: trial(rate, achieved=0.0 if next(turn) in (6, 7) else rate, p99_ms=rate / 15))
    assert [each.achieved for each in found.trials[6:8]] == [0.0, 0.0]
    assert found.crossing == pytest.approx(300, rel=0.04)


def test_an_accident_does_not_bound_a_server_that_only_the_generator_bounds() -> None:
    turn = iter(range(100))
    found = find(lambda rate, _: trial(rate, 99.0 if next(turn) == 1 else 9.0, achieved=min(rate, 300.0)))
    assert (found.crossing, found.bounded_by) == (None, "generator")


def test_a_rate_that_never_gives_samples_enough_is_not_said_to_hold() -> None:
    found = find_max_rate(lambda rate, _: trial(rate, calls=10), OBJECTIVE, start=100.0, lowest=100.0, seconds=3.0)
    assert (found.held, found.crossing, found.bounded_by) == (None, None, "too few samples")
    assert len(found.trials) == 2


@pytest.mark.parametrize("accident", range(12))
def test_one_bad_trial_does_not_decide(accident: int) -> None:
    turn = iter(range(100))
    found = find(lambda rate, _: trial(rate, 500.0) if next(turn) == accident else exact(300.0)(rate, 1.0))
    assert found.interval is not None
    assert found.interval[0] < 300 < 1.01 * found.interval[1]


def test_trials_beyond_the_interval_widen_it() -> None:
    """A real search claimed 520.9 to 522.3, while trials at 651 had held and broken."""
    held, broke = [300.0, 480.0, 500.0, 510.0, 520.9, 520.9], [522.3, 522.3, 540.0, 580.0, 900.0]
    without = conclude(tried(held, broke), OBJECTIVE)
    found = conclude(tried([*held, 651.0], [*broke, 651.0]), OBJECTIVE)
    assert without.interval is not None
    assert found.interval is not None
    assert found.interval[1] / found.interval[0] > 1.1 * without.interval[1] / without.interval[0]
    assert found.interval[0] < 520.9 < 651 < found.interval[1]
    assert found.contradicting(OBJECTIVE) == 0


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (conclude([], OBJECTIVE), "nothing is known"),
        (conclude(tried([], [50.0, 25.0]), OBJECTIVE), "no rate held, 25 the lowest tried"),
        (Found(50.0, None, None, "generator", ()), "rely on 50, no higher rate is known to break"),
        (
            Found(90.0, 100.26, (95.2, 106.0), "p99", ()),
            "half of the trials hold at 100.3 (95% interval 95.2 to 106), rely on 90",
        ),
    ],
)
def test_what_is_known_is_said_in_words(found: Found, words: str) -> None:
    assert describe(found) == words


def test_trials_outside_the_interval_are_counted_where_they_contradict_it() -> None:
    held, broke = [90.0, 95.0] * 8, [105.0, 110.0] * 8
    assert conclude(tried(held, broke), OBJECTIVE).contradicting(OBJECTIVE) == 0
    assert conclude(tried(held, [*broke, 50.0]), OBJECTIVE).contradicting(OBJECTIVE) == 1
    assert (
        conclude([*tried([*held, 150.0], broke), trial(50.0, limited=True, p99_ms=99.0)], OBJECTIVE).contradicting(
            OBJECTIVE
        )
        == 1
    )


def test_a_server_that_got_slower_meanwhile_lowers_the_rate_to_rely_on() -> None:
    made = tried([100.0, 200.0, 300.0, 290.0, 280.0], [310.0, 150.0, 140.0, 160.0, 170.0, 130.0])
    found = conclude(made, OBJECTIVE)
    assert found.held is not None
    assert found.held < 130


MM1 = 1000 - math.log(100) / 0.020
"""Where the p99 of an M/M/1 queue of 1 ms is 20 ms: its time in system is exponential of rate 1000 - arrivals."""


@pytest.mark.parametrize("seed", range(4))
def test_the_crossing_of_a_noisy_queue_is_found(seed: int) -> None:
    found = find(Queue(seed, accidents=0.1), Objective(20.0, 0.0))
    assert found.held is not None
    assert found.interval is not None
    assert found.interval[0] < 1.08 * MM1
    assert found.interval[1] > 0.95 * MM1
    assert 0.6 * MM1 < found.held < MM1


def test_the_search_is_the_same_for_a_seed() -> None:
    first, second = (find(Queue(3), Objective(20.0, 0.0)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("constant", [False, True], ids=["M/M/1", "M/D/1"])
def test_the_found_rate_holds_in_fresh_runs_and_breaks_beyond_the_interval(constant: bool) -> None:
    objective, holds, breaks = Objective(20.0, 0.0), 0, 0
    for seed in range(3):
        server = Queue(seed, constant=constant)
        found = find(server, objective)
        assert found.held is not None
        assert found.interval is not None
        holds += sum(server(found.held, 3.0).outcome(objective) == "holds" for _ in range(10))
        breaks += sum(server(1.25 * found.interval[1], 3.0).outcome(objective) == "p99" for _ in range(10))
    assert holds >= 26
    assert breaks == 30
