"""Which variant to ship under constraints, on cells for which the right answer is known by construction."""

from dataclasses import replace

import pytest

from loadtest.analysis.comparison import Comparison
from loadtest.analysis.results import Cell, Results
from loadtest.decision.decision import Decision, LoadDecision, asked, decide
from loadtest.measure.measurement import Stop
from loadtest.plan import Load
from tests.support.loadtest.cells import PLAN, cell, closed, comparison, results

BASE = cell("fp32-pytorch", 8.0, 0.98, rps=120, megabytes=70)
SLOW = cell("slow-pytorch", 40.0, 0.98, rps=25, megabytes=20)
DULL = cell("dull-openvino", 1.0, 0.90, rps=900, megabytes=20)
LARGE = cell("large-onnxruntime", 2.0, 0.979, rps=500, megabytes=300)
GOOD = cell("good-openvino", 3.0, 0.975, rps=350, megabytes=20)
CELLS = (BASE, SLOW, DULL, LARGE, GOOD)


def decided(*cells: Cell, comparisons: tuple[Comparison, ...] = (), **constraints: float) -> Decision:
    run = results(*(cells or CELLS), comparisons=comparisons)
    return decide(replace(run, plan=replace(run.plan, **constraints)))


def shown(*cells: Cell, comparisons: tuple[Comparison, ...] = (), **constraints: float) -> LoadDecision:
    """The answer that the card shows."""
    answer = decided(*cells, comparisons=comparisons, **constraints).shown
    assert answer
    return answer


def reasons(answer: LoadDecision) -> dict[str, tuple[str, ...]]:
    return {each.variant: each.reasons for each in answer.standings}


def places(answer: LoadDecision) -> list[tuple[str, str]]:
    return [(each.variant, each.place) for each in answer.standings]


@pytest.mark.parametrize(
    ("constraints", "winner", "runner_up"),
    [
        ({"p99": 20, "max_drop": 1.0, "max_memory": 200}, "good-openvino", "fp32-pytorch"),
        ({"max_drop": 1.0}, "large-onnxruntime", "good-openvino"),
        ({"max_memory": 50}, "dull-openvino", "good-openvino"),
        ({"rate": 400, "max_drop": 1.0}, "large-onnxruntime", None),
        ({"rate": 400, "max_memory": 200}, "dull-openvino", None),
        ({"max_size": 0.001}, "dull-openvino", "large-onnxruntime"),
        ({"max_size": 0.0009}, None, None),
        ({"rate": 100, "max_drop": 0.2}, "large-onnxruntime", "fp32-pytorch"),
        ({"max_drop": 0.0, "max_memory": 30}, "slow-pytorch", None),
        ({"p99": 9, "max_drop": 0.0}, "fp32-pytorch", None),
        ({"p99": 0.5}, None, None),
        ({"rate": 400, "max_drop": 1.0, "max_memory": 200}, None, None),
    ],
)
def test_the_variant_to_ship_meets_all_constraints_and_is_the_best_that_does(
    constraints: dict[str, float], winner: str | None, runner_up: str | None
) -> None:
    answer = shown(**constraints)
    assert (answer.winner and answer.winner.variant) == winner
    assert (answer.runner_up and answer.runner_up.variant) == runner_up
    assert (answer.nearest is None) == (winner is not None)
    assert {each.variant for each in answer.standings} == {each.variant for each in CELLS}


@pytest.mark.parametrize(
    ("constraints", "words"),
    [
        ({}, ""),
        ({"max_drop": 0.5}, "top-1 at most 0.5 points below FP32"),
        (
            {"p99": 20.0, "rate": 200.0, "max_drop": 1.0},
            "p99 within 20 ms, 200 requests/s, top-1 at most 1 points below FP32",
        ),
        ({"max_memory": 150.0, "max_size": 2.5}, "at most 150 MB of memory, at most 2.5 MB on disk"),
    ],
)
def test_what_is_asked_for_is_said_in_words(constraints: dict[str, float], words: str) -> None:
    assert asked(replace(PLAN, **constraints), "top-1") == words


def test_every_loser_is_told_what_it_broke_and_by_how_much() -> None:
    answer = shown(p99=5, rate=300, max_drop=1.0, max_memory=50)
    assert {each.variant: each.reasons for each in answer.losers} == {
        "dull-openvino": ("top-1 is 8.00 points below FP32, 7.00 more than the 1 allowed",),
        "large-onnxruntime": ("300.0 MB of memory, 250.0 more than the 50 allowed",),
        "fp32-pytorch": (
            "p99 at 1 user is 8.00 ms (7.20 to 8.80), 3.00 more than the 5 allowed",
            "120 requests/s at 1 user, 180 fewer than the 300 asked for",
            "70.0 MB of memory, 20.0 more than the 50 allowed",
        ),
        "slow-pytorch": (
            "p99 at 1 user is 40.00 ms (36.00 to 44.00), 35.00 more than the 5 allowed",
            "25 requests/s at 1 user, 275 fewer than the 300 asked for",
        ),
    }


def test_where_none_is_admitted_the_nearest_breaks_the_fewest_and_by_the_least() -> None:
    answer = shown(rate=400, max_drop=1.0, max_memory=200)
    assert places(answer) == [
        ("good-openvino", "nearest"),  # an eighth of the rate
        ("large-onnxruntime", "ruled out"),  # half of the memory
        ("fp32-pytorch", "ruled out"),  # seven tenths of the rate
        ("slow-pytorch", "ruled out"),
        ("dull-openvino", "ruled out"),  # seven times the drop
    ]
    assert answer.nearest
    assert answer.nearest.reasons == ("350 requests/s at 1 user, 50 fewer than the 400 asked for",)


def test_what_is_not_known_to_break_a_constraint_is_nearer_than_what_breaks_it() -> None:
    answer = shown(
        cell("a-x", 21.0, p99_interval=(20.5, 22.0)),
        cell("b-x", None),
        cell("c-x", 30.0, p99_interval=(9.0, 40.0)),
        p99=20,
    )
    assert places(answer) == [("c-x", "nearest"), ("b-x", "ruled out"), ("a-x", "ruled out")]


def test_a_detector_is_told_points_of_ap() -> None:
    base, dull = (cell(name, 9.0, quality, metric="ap") for name, quality in (("fp32-x", 0.92), ("int8-x", 0.912)))
    assert decided(base, dull, max_drop=0.5).asked == "AP at most 0.5 points below FP32"
    (loser,) = shown(base, dull, max_drop=0.5).losers
    assert loser.reasons == ("AP is 0.80 points below FP32, 0.30 more than the 0.5 allowed",)
    (point,) = shown(base).standings
    assert "AP 92.00%, 0.00 points below FP32" in point.sentence


@pytest.mark.parametrize(
    ("shows", "place", "said"),
    [
        (
            (comparison(GOOD.variant, BASE.variant, 4.0),),
            "beaten",
            "takes 4.00 times as long per answer (2.00 to 8.00), clear",
        ),
        (
            (comparison(GOOD.variant, BASE.variant, 1.21, "too close to call"),),
            "close",
            "takes 1.21 times as long per answer (0.83 to 1.33), too close to call",
        ),
        ((), "close", "too few calls to compare it"),
    ],
)
def test_what_meets_all_and_is_not_shipped_is_told_how_it_compares(
    shows: tuple[Comparison, ...], place: str, said: str
) -> None:
    second = replace(cell("second-x", 4.0, 0.975, rps=349), facts=GOOD.facts)
    smaller = replace(GOOD, facts=replace(GOOD.facts, artifact_bytes=1))
    answer = shown(smaller, second, replace(BASE, facts=GOOD.facts), comparisons=shows, p99=20)
    assert places(answer) == [(GOOD.variant, "winner"), ("second-x", "runner-up"), (BASE.variant, place)]
    assert said in reasons(answer)[BASE.variant][0]


def test_an_unclear_p99_leaves_it_to_p50() -> None:
    shows = (
        comparison("b-x", "a-x", 1.21, "likely", "p99"),
        comparison("a-x", "b-x", 1.44, figure="p50"),
    )
    answer = shown(BASE, cell("a-x", 2.0), cell("b-x", 1.9), comparisons=shows, max_drop=9.0)
    assert answer.winner
    assert answer.winner.variant == "a-x"
    assert reasons(answer)["b-x"] == ("its p50 is 1.44 times as long (1.20 to 1.73), clear",)


def test_of_two_that_cannot_be_told_apart_the_one_shown_to_be_more_accurate_ships() -> None:
    fast = cell("fast-x", 2.0, 0.97, drop_interval=(0.005, 0.015))
    exact = cell("exact-x", 2.1, 0.98, drop_interval=(-0.001, 0.001))
    shows = (comparison("fast-x", "exact-x", 1.05, "too close to call", "p99"),)
    answer = shown(fast, exact, BASE, comparisons=shows, max_drop=5.0)
    assert places(answer)[:2] == [("exact-x", "winner"), ("fast-x", "runner-up")]
    said = "its p99 is 0.95 times as long (0.93 to 1.05), too close to call, less accurate"
    assert reasons(answer)["fast-x"] == (said,)


def test_of_equals_the_one_on_the_first_server_ships() -> None:
    first, other = (cell(name, p99, rps=rps) for name, p99, rps in (("a-x", 2.0, 500), ("a-x @ two", 1.9, 520)))
    close = comparison("a-x @ two", "a-x", 1.04, "too close to call")
    assert places(shown(first, other, comparisons=(close,), p99=5)) == [("a-x", "winner"), ("a-x @ two", "runner-up")]
    clear = comparison("a-x @ two", "a-x", 1.04)
    assert places(shown(first, other, comparisons=(clear,), p99=5)) == [("a-x @ two", "winner"), ("a-x", "runner-up")]


def test_a_difference_of_accuracy_that_chance_explains_leaves_it_to_the_size() -> None:
    fast = cell("fast-x", 2.0, 0.97, drop_interval=(0.0, 0.02))
    exact = cell("exact-x", 2.1, 0.98, drop_interval=(-0.01, 0.01))
    small = replace(fast, facts=replace(fast.facts, artifact_bytes=500))
    shows = (comparison("fast-x", "exact-x", 1.05, "too close to call", "p99"),)
    for one, winner in ((fast, "fast-x"), (small, "fast-x")):
        answer = shown(one, exact, BASE, comparisons=shows, max_drop=5.0)
        assert answer.winner
        assert answer.winner.variant == winner
    assert reasons(answer)["exact-x"][0].endswith("too close to call, larger")


def test_what_was_clearly_beaten_by_any_does_not_win_for_its_accuracy() -> None:
    a, b = cell("a-x", 2.0, 0.9), cell("b-x", 2.1, 0.91)
    c = cell("c-x", 2.2, 0.95)
    shows = (
        comparison("a-x", "c-x", 1.05, "likely", "p99"),
        comparison("a-x", "b-x", 1.05, "likely", "p99"),
        comparison("b-x", "c-x", 1.5, figure="p99"),
    )
    answer = shown(a, b, c, BASE, comparisons=shows, max_drop=50.0)
    assert answer.winner
    assert answer.winner.variant == "b-x"
    assert [each.variant for each in answer.losers] == ["c-x"]


def test_what_was_not_compared_with_the_best_does_not_win_for_its_accuracy() -> None:
    answer = shown(cell("a-x", 2.0, 0.9), cell("b-x", 20.0, 0.95), BASE, max_drop=50.0)
    assert answer.winner
    assert answer.winner.variant == "a-x"


def test_a_loser_that_the_generator_limited_may_be_faster() -> None:
    shows = (comparison("a-x", "b-x", 2.0, figure="p99"),)
    answer = shown(BASE, cell("a-x"), cell("b-x", 2.0, generator_limit="thread"), comparisons=shows, max_drop=9.0)
    assert reasons(answer)["b-x"][0].endswith("clear, but the load generator was the limit")


def test_calls_that_failed_rule_a_variant_out() -> None:
    (loser,) = shown(BASE, cell("int8-openvino", 1.0, 0.98, failures=3), max_drop=5.0).losers
    assert loser.reasons == ("3 calls failed",)


def test_a_winner_that_is_not_sure_to_meet_a_constraint_says_so() -> None:
    answer = shown(BASE, p99=8.5)
    assert answer.winner
    assert answer.winner.reasons == ("p99 at 1 user is 8.00 ms (7.20 to 8.80), not 95% sure",)


def two_loads(*, quick: float, busy: float) -> tuple[Cell, ...]:
    """`good-openvino` meets 20 ms under both loads, `fp32-pytorch` only with one user."""
    return (
        cell("fp32-pytorch", 8.0, 0.98, rps=120),
        cell("fp32-pytorch", 60.0, 0.98, rps=130, users=8),
        cell("good-openvino", quick, 0.975, rps=350),
        cell("good-openvino", busy, 0.975, rps=500, users=8),
    )


def test_without_a_rate_the_load_of_the_highest_throughput_within_p99_decides() -> None:
    decision = decided(*two_loads(quick=3.0, busy=16.0), p99=20)
    assert decision.shown
    assert (decision.shown.load, places(decision.shown)) == (
        closed(8),
        [("good-openvino", "winner"), ("fp32-pytorch", "ruled out")],
    )
    assert reasons(decision.shown)["fp32-pytorch"][0].startswith("p99 at 8 users is 60.00 ms")


def test_no_loser_is_blamed_for_a_load_at_which_the_winner_fails_too() -> None:
    decision = decided(*two_loads(quick=3.0, busy=70.0), p99=20)
    assert decision.shown
    assert (decision.shown.load, [each.load for each in decision.loads]) == (closed(1), [closed(1), closed(8)])
    assert not any("8 users" in text for each in reasons(decision.shown).values() for text in each)
    assert places(decision.loads[1]) == [("fp32-pytorch", "nearest"), ("good-openvino", "ruled out")]


def test_without_p99_the_load_of_the_lowest_p99_decides() -> None:
    answer = shown(*two_loads(quick=3.0, busy=16.0), max_drop=1.0)
    assert answer.load == closed(1)


def arrivals(variant: str, p99: float, rps: float, rate: float = 200.0) -> Cell:
    return replace(cell(variant, p99, 0.98, rps=rps, load=Load("server", rate)), asked_rps=rate)


def test_the_load_of_the_asked_rate_decides_though_another_carries_it() -> None:
    kept_up, fell_behind = arrivals("a-x", 9.0, 199), arrivals("b-x", 5.0, 150)
    answer = shown(cell("a-x", 1.0, rps=900), cell("b-x", 1.0, rps=900), kept_up, fell_behind, rate=200)
    assert answer.load == Load("server", 200)
    assert places(answer) == [("a-x", "winner"), ("b-x", "ruled out")]
    assert reasons(answer)["b-x"] == ("150 requests/s at 200 per second, 50 fewer than arrived",)


def test_without_the_asked_rate_the_smallest_load_that_carries_it_decides() -> None:
    cells = (cell("a-x", 9.0, rps=150), cell("a-x", 9.0, rps=300, users=4), cell("a-x", 9.0, rps=400, users=8))
    assert shown(*cells, rate=200).load == closed(4)


def test_arrivals_are_compared_by_p99_as_their_rate_is_given() -> None:
    answer = shown(arrivals("a-x", 9.0, 199.9), arrivals("b-x", 5.0, 199.8), p99=20)
    assert answer.winner
    assert answer.winner.variant == "b-x"


def test_a_variant_that_was_stopped_is_told_when_and_why() -> None:
    run = results(BASE, SLOW)
    stop = Stop("slow-pytorch", closed(1), 12, "p99 is above 20 ms", 0.025)
    answer = decide(replace(run, plan=replace(run.plan, p99=20.0), stops=(stop,))).shown
    assert answer
    assert reasons(answer)["slow-pytorch"][-1] == "stopped after round 12: p99 is above 20 ms"


@pytest.mark.parametrize(
    ("limits", "then", "now"),
    [
        (
            {"p99": 20.0},
            "p99 at 1 user is 39.00 ms (at least 30.00), 19.00 more than the 20 allowed",
            "p99 at 1 user is 40.00 ms (at least 36.00), 20.00 more than the 20 allowed",
        ),
        (
            {"max_drop": 5.0},
            "its p99 is 6.02 times as long (3.05 to 9.00), clear",
            "its p99 is 5.00 times as long (2.24 to 11.18), clear",
        ),
    ],
)
def test_why_a_variant_was_stopped_is_said_once(limits: dict[str, float], then: str, now: str) -> None:
    slow = replace(SLOW, p99_interval_ms=(36.0, None))
    run = results(BASE, slow, comparisons=(comparison("fp32-pytorch", "slow-pytorch", 5.0, figure="p99"),))
    stop = Stop("slow-pytorch", closed(1), 41, then, 0.025)
    answer = decide(replace(run, plan=replace(run.plan, **limits), stops=(stop,))).shown
    assert answer
    assert reasons(answer)["slow-pytorch"] == (now, "stopped after round 41")


def test_without_constraints_the_frontier_of_each_load_is_named_point_by_point() -> None:
    answer, other = decided(*CELLS, cell("dull-openvino", 5.0, 0.90, users=8)).loads
    assert places(answer) == [
        ("dull-openvino", "frontier"),
        ("large-onnxruntime", "frontier"),
        ("fp32-pytorch", "frontier"),
    ]
    assert answer.standings[0].sentence.startswith("p99 1.00 ms and 900 requests/s at 1 user")
    assert answer.standings[0].reasons == ("the fastest",)
    assert answer.standings[2].reasons == ("0.10 points more accurate than large-onnxruntime, and 4.0 times its p99",)
    assert places(other) == [("dull-openvino", "frontier")]


def test_a_run_of_nothing_but_searches_decides_nothing() -> None:
    nothing: Results = results()
    assert decide(replace(nothing, plan=replace(nothing.plan, p99=20.0))) == Decision("p99 within 20 ms")
