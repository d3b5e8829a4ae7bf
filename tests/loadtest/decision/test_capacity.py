"""What one server carries of each variant, by what was searched or measured."""

from dataclasses import replace

import pytest

from loadtest.analysis.results import Cell, Results
from loadtest.decision.capacity import SEARCHED, Rate, capacities, default_rate, page_data
from loadtest.decision.decision import decide
from loadtest.measure.measurement import Search
from loadtest.measure.rate_search import Found, Objective
from loadtest.plan import Load
from tests.support.loadtest.cells import NO_SERVER, cell, results

ONE = cell("a-x", 9.0, rps=300.0, megabytes=50, server=replace(NO_SERVER, cpu_us_per_request=1500.0))
MANY = cell("a-x", 30.0, rps=500.0, users=8, megabytes=50, server=replace(NO_SERVER, cpu_us_per_request=900.0))
OFFLINE = cell("a-x", 5.0, rps=9000.0, load=Load("offline", 32))


def highest(*cells: Cell, p99: float | None = None, searches: tuple[Search, ...] = ()) -> Rate | None:
    (only,) = capacities(replace(results(*cells), searches=searches))
    return only.highest(p99)


def searched(held: float | None, crossing: float | None) -> tuple[Search, ...]:
    return (Search("a-x", Objective(20.0), Found(held, crossing, None, "p99", ())),)


def test_server_cpu_is_that_of_the_load_with_the_most_answers_per_second() -> None:
    (only,) = capacities(results(ONE, MANY))
    assert (only.cpu_seconds, only.cpu_at, only.memory_mb) == (0.9, "8 users", 50.0)


def test_what_was_not_measured_is_not_known() -> None:
    (only,) = capacities(results(cell("a-x", rps=0.0)))
    assert (only.cpu_seconds, only.cpu_at, only.memory_mb, only.rates) == (None, None, None, ())


@pytest.mark.parametrize(("p99", "rate", "at"), [(None, 500.0, "8 users"), (20.0, 300.0, "1 user")])
def test_the_highest_rate_is_the_highest_throughput_with_its_p99_within_the_limit(
    p99: float | None, rate: float, at: str
) -> None:
    found = highest(ONE, MANY, OFFLINE, p99=p99)
    assert found
    assert (found.rate, found.at, found.at_least) == (rate, at, False)


def test_nothing_within_the_limit_or_an_unknown_p99_is_no_rate() -> None:
    assert highest(ONE, MANY, p99=5.0) is None
    assert highest(cell("a-x", None), p99=5.0) is None
    assert highest(cell("a-x", 1.0, failures=1)) is None


def test_what_a_search_found_for_this_p99_counts_before_what_was_measured() -> None:
    assert highest(ONE, p99=20.0, searches=searched(410.0, 450.0)) == Rate(SEARCHED, 410.0, 20.0, at_least=False)
    assert highest(ONE, p99=20.0, searches=searched(410.0, None)) == Rate(SEARCHED, 410.0, 20.0, at_least=True)
    assert highest(ONE, p99=19.0, searches=searched(410.0, 450.0)) == Rate("1 user", 300.0, 9.0, at_least=False)
    assert highest(ONE, p99=20.0, searches=searched(None, None)) == Rate("1 user", 300.0, 9.0, at_least=False)


@pytest.mark.parametrize(
    "made", [cell("a-x", generator_limit="ceiling"), cell("a-x", rps=100.0, load=Load("server", 100))]
)
def test_a_limited_generator_and_arrivals_at_a_rate_show_the_least_that_a_server_carries(made: Cell) -> None:
    found = highest(made)
    assert found
    assert found.text == "at least 100"


def test_a_variant_measured_in_many_rows_only_has_the_rate_of_those() -> None:
    found = highest(OFFLINE)
    assert found
    assert (found.at, found.rate) == ("offline, 32 rows", 9000.0)


def asked(run: Results, **constraints: float) -> float:
    run = replace(run, plan=replace(run.plan, **constraints))
    return default_rate(run, decide(run))


def test_the_rate_to_begin_with_is_that_of_the_plan_or_of_the_winner_or_the_highest() -> None:
    run = results(cell("a-x", 9.0, rps=300.7), cell("b-x", 30.0, rps=400.2))
    assert asked(run, rate=77.5) == 77.5
    assert asked(run, p99=20.0) == 300.0
    assert asked(run) == 400.0
    assert asked(results(cell("a-x", rps=0.0))) == 1.0


@pytest.mark.parametrize(("target", "cores"), [("localhost:1", 2), ("elsewhere:1", None)])
def test_the_cores_of_a_server_are_known_only_where_it_is_on_this_machine(target: str, cores: int | None) -> None:
    run = results(ONE)
    assert page_data(replace(run, plan=replace(run.plan, target=target)))["cores"] == cores
