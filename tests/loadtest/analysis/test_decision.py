"""Which variant to ship under constraints, on cells for which the right answer is known by construction."""

from dataclasses import replace

import pytest

from loadtest.analysis.decision import Decision, asked, decide
from loadtest.analysis.results import Cell
from loadtest.plan import Load
from tests.support.loadtest.cells import PLAN, cell, results

BASE = cell("fp32-pytorch", 8.0, 0.98, rps=120, megabytes=70)
SLOW = cell("slow-pytorch", 40.0, 0.98, rps=25, megabytes=20)
DULL = cell("dull-openvino", 1.0, 0.90, rps=900, megabytes=20)
LARGE = cell("large-onnxruntime", 2.0, 0.979, rps=500, megabytes=300)
GOOD = cell("good-openvino", 3.0, 0.975, rps=350, megabytes=20)
CELLS = (BASE, SLOW, DULL, LARGE, GOOD)


def decided(*cells: Cell, **constraints: float) -> Decision:
    run = results(*(cells or CELLS))
    return decide(replace(run, plan=replace(run.plan, **constraints)))


def losers(decision: Decision) -> dict[str, tuple[str, ...]]:
    return {loser.variant: loser.reasons for loser in decision.losers}


@pytest.mark.parametrize(
    ("constraints", "winner", "runner_up"),
    [
        ({"p99": 20, "max_drop": 1.0, "max_memory": 200}, "good-openvino", "fp32-pytorch"),
        ({"max_drop": 1.0}, "large-onnxruntime", "good-openvino"),
        ({"max_memory": 50}, "dull-openvino", "good-openvino"),
        ({"rate": 400, "max_drop": 1.0}, "large-onnxruntime", None),
        ({"rate": 400, "max_memory": 200}, "dull-openvino", None),
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
    decision = decided(**constraints)
    assert (decision.winner and decision.winner.cell.variant) == winner
    assert (decision.runner_up and decision.runner_up.cell.variant) == runner_up
    assert len(decision.losers) == len(CELLS) - (winner is not None)
    assert decision.why_not == ("" if winner else "no variant meets all constraints")


@pytest.mark.parametrize(
    ("constraints", "words"),
    [
        ({}, ""),
        ({"max_drop": 0.5}, "top-1 at most 0.5 points below FP32"),
        (
            {"p99": 20.0, "rate": 200.0, "max_drop": 1.0, "max_memory": 150.0},
            "p99 within 20 ms, 200 requests per second, top-1 at most 1 points below FP32, at most 150 MB of memory",
        ),
    ],
)
def test_what_is_asked_for_is_said_in_words(constraints: dict[str, float], words: str) -> None:
    assert asked(replace(PLAN, **constraints), "top-1") == words


def test_every_loser_is_told_what_it_broke_and_by_how_much() -> None:
    assert losers(decided(p99=5, rate=300, max_drop=1.0, max_memory=50)) == {
        "fp32-pytorch": (
            "70.0 MB of memory, 20.0 more than the 50 allowed",
            "120 requests/s at most, 180 fewer than the 300 asked for",
        ),
        "slow-pytorch": ("25 requests/s at most, 275 fewer than the 300 asked for",),
        "dull-openvino": ("top-1 is 8.00 points below FP32, 7.00 more than the 1 allowed",),
        "large-onnxruntime": ("300.0 MB of memory, 250.0 more than the 50 allowed",),
    }


def test_a_detector_is_told_points_of_ap() -> None:
    base, dull = (cell(name, 9.0, quality, metric="ap") for name, quality in (("fp32-x", 0.92), ("int8-x", 0.912)))
    decision = decided(base, dull, max_drop=0.5)
    assert decision.asked == "AP at most 0.5 points below FP32"
    assert losers(decision) == {"int8-x": ("AP is 0.80 points below FP32, 0.30 more than the 0.5 allowed",)}
    (choice,) = decided(base).frontier
    assert "AP 92.00% (0.00 points below FP32)" in choice.sentence


def test_a_p99_that_is_too_long_is_named_with_its_load() -> None:
    assert losers(decided(p99=5))["fp32-pytorch"] == ("p99 is 8.00 ms at 1 user, 3.00 more than the 5 allowed",)


def test_one_that_meets_all_and_is_not_shipped_is_told_what_was_better() -> None:
    against = losers(decided(max_drop=1.0))["good-openvino"]
    assert against == ("p99 is 3.00 ms against 2.00; too few rounds to show it",)


def test_too_few_samples_for_p99_are_said_and_never_ship() -> None:
    decision = decided(BASE, cell("int8-openvino", None, 0.98), p99=20)
    assert decision.winner
    assert decision.winner.cell is BASE
    assert losers(decision)["int8-openvino"] == ("not enough samples for p99 at 1 user: 120 of the 299 needed",)


def test_what_is_not_valid_does_not_ship() -> None:
    decision = decided(BASE, cell("int8-openvino", 1.0, 0.98, generator_limit="thread"), p99=20)
    assert decision.winner
    assert decision.winner.cell is BASE
    assert "at 1 user it could not be judged: limited by the generator" in losers(decision)["int8-openvino"][0]


def test_unknown_accuracy_or_memory_meets_no_constraint_on_it() -> None:
    unknown = cell("v1", 1.0, None)
    assert losers(decided(BASE, unknown, max_drop=1.0, max_memory=500))["v1"] == (
        "how much accuracy it lost is not known",
        "how much memory it takes is not known",
    )


def test_a_rate_is_carried_by_the_arrivals_that_were_answered_in_time() -> None:
    def arrivals(variant: str, p99: float, rps: float) -> Cell:
        return replace(cell(variant, p99, 0.98, rps=rps), load=Load("server", 200), asked_rps=200.0)

    kept_up, fell_behind = arrivals("a-x", 9.0, 199), arrivals("b-x", 5.0, 150)
    decision = decided(BASE, kept_up, fell_behind, rate=200)
    assert decision.winner
    assert decision.winner.cell is kept_up
    assert losers(decision)["b-x"] == ("150 requests/s at most, 50 fewer than the 200 asked for",)


def test_of_two_that_cannot_be_told_apart_the_more_accurate_ships() -> None:
    near = cell("near-x", 2.0, 0.97, p50s=(1.0, 1.1, 0.9, 1.05, 1.0, 0.95, 1.02, 0.98))
    exact = cell("exact-x", 2.1, 0.98, p50s=(1.01, 1.08, 0.92, 1.04, 1.01, 0.94, 1.0, 1.0))
    slower = cell("slower-x", 2.2, 0.99, p50s=(1.5, 1.6, 1.4, 1.5, 1.5, 1.45, 1.5, 1.5))
    decision = decided(near, exact, slower, cell("fp32-pytorch", 8.0, 0.98, p50s=(4.0,) * 8), max_drop=5.0)
    assert decision.winner
    assert (decision.winner.cell.variant, decision.winner.tied_with) == ("exact-x", ("near-x",))
    assert losers(decision)["near-x"] == ("p99 is 2.00 ms against 2.10; no difference was shown",)


def test_without_constraints_the_frontier_is_named_point_by_point() -> None:
    decision = decided()
    assert decision.winner is None
    assert [choice.cell.variant for choice in decision.frontier] == [
        "dull-openvino",
        "large-onnxruntime",
        "fp32-pytorch",
    ]
    assert decision.frontier[0].sentence.startswith("the fastest of all: p99 1.00 ms and 900 requests/s at 1 user")
    assert decision.frontier[2].sentence.startswith("0.10 points more accurate than large-onnxruntime, and 4.0 times")
