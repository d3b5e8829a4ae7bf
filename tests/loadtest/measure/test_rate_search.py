"""The search on simulated servers: exact ones, queues of known highest rate, and odd ones. All seeded."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from loadtest.measure.rate_search import BEYOND, Found, Measure, Objective, Outcome, Trial, find_max_rate

OBJECTIVE = Objective(p99_ms=20.0)


def find(measure: Measure, objective: Objective = OBJECTIVE, seconds: float = 3.0) -> Found:
    return find_max_rate(measure, objective, start=50.0, lowest=10.0, seconds=seconds)


def trial(
    rate: float, p99_ms: float | None = 10.0, *, calls: int = 1000, failures: int = 0, achieved: float | None = None,
    limited: bool = False,
) -> Trial:  # fmt: skip
    return Trial(rate, rate if achieved is None else achieved, calls, failures, p99_ms, limited)


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


def summary(found: Found) -> tuple[float | None, float | None, str, bool, bool | None]:
    return found.held, found.broke, found.bounded_by, found.held_again, found.breaks_beyond


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
        return exact(5000.0)(rate, seconds)

    find(measure)
    assert asked[50.0] == pytest.approx(22.0)
    assert asked[3200.0] == 3.0


def test_an_exact_server_is_bracketed_bisected_and_verified() -> None:
    found = find(exact(300.0))
    rates = [each.rate for each in found.trials[::2]]
    assert rates[:4] == [50.0, 100.0, 200.0, 400.0]
    assert rates[4:8] == pytest.approx([200 * 2 ** (k / 16) for k in (8, 12, 10, 9)])
    low = 200 * 2 ** (9 / 16)
    assert rates[8:] == pytest.approx([low / 1.05, BEYOND * low / 1.05])
    assert summary(found) == (pytest.approx(low / 1.05), pytest.approx(200 * 2 ** (10 / 16)), "p99", True, True)
    assert len(found.trials) == 20


def test_without_accidents_no_rate_takes_a_third_trial() -> None:
    found = find(exact(300.0))
    rates = [each.rate for each in found.trials]
    assert rates[::2] == rates[1::2]


@pytest.mark.parametrize("accident", range(20))
def test_one_bad_trial_of_three_does_not_decide(accident: int) -> None:
    turn = iter(range(100))

    def measure(rate: float, seconds: float) -> Trial:
        return trial(rate, 500.0) if next(turn) == accident else exact(300.0)(rate, seconds)

    assert summary(find(measure)) == summary(find(exact(300.0)))


def test_below_the_start_rates_are_halved() -> None:
    found = find(exact(15.0))
    assert [each.rate for each in found.trials[:6:2]] == [50.0, 25.0, 12.5]
    assert found.held is not None
    assert 15 / 1.05**2 <= found.held <= 15


def test_a_server_that_fails_everything_holds_no_rate() -> None:
    found = find(lambda rate, _: trial(rate, None, failures=1000))
    assert summary(found) == (None, 10.0, "errors", False, None)
    assert [each.rate for each in found.trials[::2]] == [50.0, 25.0, 12.5, 10.0]


def test_a_server_that_never_breaks_is_bounded_by_the_generator() -> None:
    ceiling = 300.0
    found = find(lambda rate, _: trial(rate, achieved=min(rate, ceiling)))
    assert found.bounded_by == "generator"
    assert (found.held_again, found.breaks_beyond) == (True, None)
    assert found.held is not None
    assert found.held <= ceiling / 0.98


def test_trials_that_were_too_short_are_made_again_twice_as_long() -> None:
    asked = []

    def measure(rate: float, seconds: float) -> Trial:
        asked.append(seconds)
        calls = round(rate * seconds * 0.6)  # more than a third of the calls go missing
        return trial(rate, 10.0 if rate <= 50 else 100.0, calls=calls)

    find(measure)
    assert asked[:3] == pytest.approx([22.0, 44.0, 44.0])


def test_a_rate_that_never_gives_samples_enough_is_not_said_to_hold() -> None:
    found = find_max_rate(lambda rate, _: trial(rate, calls=10), OBJECTIVE, start=100.0, lowest=100.0, seconds=3.0)
    assert summary(found) == (None, 100.0, "too few samples", False, None)


def test_a_dip_below_a_rate_that_holds_moves_the_bracket_up() -> None:
    def measure(rate: float, seconds: float) -> Trial:
        return trial(rate, 100.0) if 190 < rate < 210 else exact(600.0)(rate, seconds)

    found = find(measure)
    assert found.held is not None
    assert 600 / 1.05**2 <= found.held <= 600
    assert (found.held_again, found.breaks_beyond) == (True, True)


def test_a_server_that_got_slower_meanwhile_moves_the_bracket_down() -> None:
    def slowing() -> Iterator[float]:
        yield from [300.0] * 16
        while True:
            yield 150.0

    limits = slowing()
    found = find(lambda rate, _: exact(next(limits))(rate, 1.0))
    assert found.held is not None
    assert 150 / 1.05**2 <= found.held <= 150
    assert (found.held_again, found.breaks_beyond) == (True, True)


def test_a_server_that_gets_ever_slower_holds_no_rate() -> None:
    turn = iter(range(1000))
    found = find(lambda rate, _: exact(300 * 0.9 ** next(turn))(rate, 1.0))
    assert summary(found) == (None, 10.0, "p99", False, None)


def test_a_server_that_belies_every_bracket_is_given_up_unverified() -> None:
    seen: list[float] = []

    def measure(rate: float, seconds: float) -> Trial:
        seen.append(rate)
        verifying = any(math.isclose(rate, BEYOND * earlier) for earlier in seen)
        return trial(rate) if verifying else exact(300.0 + 50 * len(seen))(rate, seconds)

    found = find(measure)
    assert not found.held_again
    assert found.breaks_beyond is None
    assert len(found.trials) < 150


MM1 = 1000 - math.log(100) / 0.020
"""Where the p99 of an M/M/1 queue of 1 ms is 20 ms: its time in system is exponential of rate 1000 - arrivals."""


@pytest.mark.parametrize("seed", range(10))
def test_the_highest_rate_of_a_noisy_queue_is_found(seed: int) -> None:
    found = find(Queue(seed, accidents=0.1), Objective(20.0, 0.0))
    assert found.held is not None
    assert found.broke is not None
    assert 0.85 * MM1 < found.held < 1.06 * MM1
    assert found.held < found.broke <= 1.05**2 * found.held
    assert (found.bounded_by, found.held_again, found.breaks_beyond) == ("p99", True, True)


def test_the_search_is_the_same_for_a_seed() -> None:
    first, second = (find(Queue(3), Objective(20.0, 0.0)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("constant", "held"), [(False, 35), (True, 39)], ids=["M/M/1", "M/D/1"])
def test_the_found_rate_holds_in_a_fresh_run_and_breaks_at_a_quarter_more(constant: bool, held: int) -> None:
    objective, holds, breaks = Objective(20.0, 0.0), 0, 0
    for seed in range(40):
        server = Queue(seed, constant=constant)
        found = find(server, objective, seconds=10.0)
        assert found.held is not None
        holds += server(found.held, 10.0).outcome(objective) == "holds"
        breaks += server(BEYOND * found.held, 10.0).outcome(objective) == "p99"
    assert (holds, breaks) == (held, 40)
