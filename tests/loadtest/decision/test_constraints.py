"""What is met, broken, or not known, on cells whose figures are given."""

from dataclasses import replace

import pytest

from loadtest.analysis.results import Cell
from loadtest.decision.constraints import Judgement, judge, span
from loadtest.plan import Load
from protos.support.significance import paired_drop_interval
from tests.support.loadtest.cells import PLAN, cell

BASE = cell("fp32-pytorch", 8.0, 0.98)


def judged(made: Cell, baseline: Cell | None = BASE, **constraint: float) -> Judgement:
    (found,) = judge(made, baseline, replace(PLAN, **constraint))
    return found


def arrivals(rps: float, level: float = 200.0, *, limited: bool = False) -> Cell:
    made = cell("a-x", 5.0, rps=rps, load=Load("server", level), generator_limit="thread" if limited else None)
    return replace(made, asked_rps=level)


@pytest.mark.parametrize(
    ("interval", "state", "admits", "text"),
    [
        ((8.5, 9.9), "met", True, "p99 at 1 user is 9.00 ms (8.50 to 9.90)"),
        ((8.5, 10.5), "unknown", True, "p99 at 1 user is 9.00 ms (8.50 to 10.50), not 95% sure"),
        ((8.5, None), "unknown", True, "p99 at 1 user is 9.00 ms (at least 8.50), not 95% sure"),
        ((None, None), "unknown", True, "p99 at 1 user is 9.00 ms, not 95% sure"),
    ],
)
def test_a_p99_meets_its_limit_where_the_upper_end_does(
    interval: tuple[float | None, float | None], state: str, admits: bool, text: str
) -> None:
    found = judged(cell("a-x", 9.0, p99_interval=interval), p99=10.0)
    assert (found.state, found.admits, found.value, found.text) == (state, admits, 9.0, text)


@pytest.mark.parametrize(
    ("interval", "state", "text"),
    [
        (
            (11.0, None),
            "broken",
            "p99 at 1 user is 12.00 ms (at least 11.00), 2.00 more than the 10 allowed",
        ),
        (
            (9.0, 15.0),
            "unknown",
            "p99 at 1 user is 12.00 ms (9.00 to 15.00), 2.00 more than the 10 allowed, not 95% sure",
        ),
    ],
)
def test_a_p99_breaks_its_limit_where_the_lower_end_does(
    interval: tuple[float | None, float | None], state: str, text: str
) -> None:
    found = judged(cell("a-x", 12.0, p99_interval=interval), p99=10.0)
    assert (found.state, found.admits, found.excess, found.text) == (state, False, 0.2, text)


def test_too_few_samples_leave_it_to_the_interval() -> None:
    few = judged(cell("a-x", None, p99_interval=(9.0, None)), p99=10.0)
    assert (few.state, few.admits, few.text) == (
        "unknown",
        False,
        "p99 at 1 user is not known: 120 samples, 299 needed",
    )
    slow = judged(cell("a-x", None, p99_interval=(15.0, None)), p99=10.0)
    assert (slow.state, slow.excess, slow.value) == ("broken", 0.5, None)
    assert slow.text == "p99 at 1 user is at least 15.00 ms, 5.00 more than the 10 allowed"


def test_a_p99_that_the_generator_limited_is_met_or_not_known() -> None:
    fast = judged(cell("a-x", 9.0, generator_limit="thread"), p99=10.0)
    assert (fast.state, fast.admits) == ("met", True)
    slow = judged(cell("a-x", 20.0, generator_limit="thread"), p99=10.0)
    assert (slow.state, slow.admits) == ("unknown", False)
    assert slow.text.endswith("10.00 more than the 10 allowed, but the load generator was the limit")


def test_a_p99_of_calls_of_which_some_failed_is_broken_or_not_known() -> None:
    fast, slow = (judged(cell("a-x", p99, failures=3), p99=10.0) for p99 in (5.0, 20.0))
    assert (fast.state, fast.admits, fast.text) == ("unknown", False, "p99 at 1 user is not known: 3 calls failed")
    assert (slow.state, slow.admits) == ("broken", False)


@pytest.mark.parametrize(
    ("made", "state", "admits", "text"),
    [
        (cell("a-x", rps=200), "met", True, "200 requests/s at 1 user"),
        (cell("a-x", rps=150), "broken", False, "150 requests/s at 1 user, 50 fewer than the 200 asked for"),
        (
            cell("a-x", rps=150, generator_limit="thread"),
            "unknown",
            False,
            "150 requests/s at 1 user, 50 fewer than the 200 asked for, but the load generator was the limit",
        ),
        (arrivals(196), "met", True, "196 requests/s at 200 per second"),
        (arrivals(195), "broken", False, "195 requests/s at 200 per second, 5 fewer than arrived"),
        (
            arrivals(100, level=100),
            "unknown",
            False,
            "100 requests/s at 100 per second, 100 fewer than the 200 asked for, and no more arrived",
        ),
        (arrivals(392, level=400), "met", True, "392 requests/s at 400 per second"),
        (arrivals(300, level=400), "broken", False, "300 requests/s at 400 per second, 100 fewer than arrived"),
    ],
)
def test_a_rate_is_carried_by_answers_or_by_arrivals_that_were_answered(
    made: Cell, state: str, admits: bool, text: str
) -> None:
    found = judged(made, rate=200.0)
    assert (found.state, found.admits, found.text) == (state, admits, text)


@pytest.mark.parametrize(
    ("quality", "interval", "state", "admits", "text"),
    [
        (0.972, (0.006, 0.0095), "met", True, "top-1 is 0.80 points below FP32 (0.60 to 0.95)"),
        (0.972, (0.002, 0.014), "unknown", True, "top-1 is 0.80 points below FP32 (0.20 to 1.40), not 95% sure"),
        (0.985, (-0.01, 0.0), "met", True, "top-1 is 0.50 points above FP32 (0.00 to 1.00)"),
        (
            0.965,
            (0.005, 0.025),
            "unknown",
            False,
            "top-1 is 1.50 points below FP32 (0.50 to 2.50), 0.50 more than the 1 allowed, not 95% sure",
        ),
        (
            0.95,
            (0.02, 0.04),
            "broken",
            False,
            "top-1 is 3.00 points below FP32 (2.00 to 4.00), 2.00 more than the 1 allowed",
        ),
        (0.97, None, "met", True, "top-1 is 1.00 points below FP32"),
        (None, None, "unknown", False, "how much accuracy it lost is not known"),
    ],
)
def test_a_drop_is_within_its_limit_where_its_whole_interval_is(
    quality: float | None, interval: tuple[float, float] | None, state: str, admits: bool, text: str
) -> None:
    found = judged(cell("int8-x", 1.0, quality, drop_interval=interval), max_drop=1.0)
    assert (found.state, found.admits, found.text) == (state, admits, text)


def test_without_an_fp32_variant_nobody_knows_the_drop() -> None:
    assert judged(cell("int8-x"), None, max_drop=1.0).text == "how much accuracy it lost is not known"


@pytest.mark.parametrize(
    ("lost", "gained", "state"),
    [(0, 0, "met"), (1, 0, "met"), (0, 6, "met"), (6, 0, "unknown"), (18, 0, "broken"), (600, 0, "broken")],
)
def test_within_a_point_of_600_images(lost: int, gained: int, state: str) -> None:
    """Of no flips up to 0.33 points may be lost, of one 0.63, of six 0.13 to 1.86, of 18 at least 1.58."""
    interval = paired_drop_interval(lost, gained, 600)
    assert (
        judged(cell("a-x", quality=0.98 - (lost - gained) / 600, drop_interval=interval), max_drop=1.0).state == state
    )


def test_20_images_without_a_flip_do_not_show_that_a_point_is_kept() -> None:
    made = cell("a-x", quality=0.98, drop_interval=paired_drop_interval(0, 0, 20))
    assert judged(made, max_drop=1.0).state == "unknown"


def test_without_an_interval_the_points_decide() -> None:
    assert [judged(cell("a-x", quality=each), max_drop=1.0).state for each in (0.97, 0.9699)] == ["met", "broken"]


def test_a_limit_of_nothing_is_met_by_the_baseline_and_by_what_rounding_makes_of_it() -> None:
    rounded = cell("a-x", quality=0.98 - 1e-7, drop_interval=(-1e-7, 4e-7))
    assert [judged(each, max_drop=0.0).state for each in (BASE, rounded)] == ["met", "met"]


def test_memory_is_what_it_is() -> None:
    made = [judged(cell("a-x", megabytes=size), max_memory=200.0) for size in (200, 201, None)]
    assert [(each.state, each.admits, each.text) for each in made] == [
        ("met", True, "200.0 MB of memory"),
        ("broken", False, "201.0 MB of memory, 1.0 more than the 200 allowed"),
        ("unknown", False, "how much memory it takes is not known"),
    ]


def test_size_is_that_of_the_artifact_on_disk() -> None:
    one = cell("a-x")
    sized = [replace(one, facts=replace(one.facts, artifact_bytes=size)) for size in (20_000_000, 20_100_000, None)]
    found = [judged(each, max_size=20.0) for each in sized]
    assert [(each.state, each.admits, each.text) for each in found] == [
        ("met", True, "20.00 MB on disk"),
        ("broken", False, "20.10 MB on disk, 0.10 more than the 20 allowed"),
        ("unknown", False, "how large it is on disk is not known"),
    ]


def test_an_interval_is_shown_as_far_as_it_is_known() -> None:
    shown = [span(0.25, 2.0), span(1.0, None), span(None, 3.0), span(None, None)]
    assert shown == [" (0.25 to 2.00)", " (at least 1.00)", " (at most 3.00)", ""]


def test_there_is_a_judgement_for_each_constraint_of_the_plan() -> None:
    plan = replace(PLAN, p99=20.0, rate=50.0, max_drop=0.0, max_memory=100.0, max_size=5.0)
    found = judge(cell("int8-x", 9.0, 0.97, megabytes=50, drop_interval=(0.0, 0.02)), BASE, plan)
    assert [(each.heading, each.shown) for each in found] == [
        ("p99 within 20 ms", "9.00 (8.10 to 9.90)"),
        ("50 requests/s", "100"),
        ("at most 0 points below FP32", "1.00 (0.00 to 2.00)"),
        ("at most 100 MB of memory", "50.0"),
        ("at most 5 MB on disk", "0.00"),
    ]
    assert judge(BASE, BASE, PLAN) == ()
