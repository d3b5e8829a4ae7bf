"""How much slower than the fastest made-up cells under one load are."""

from dataclasses import replace

from loadtest.analysis.percentiles import LatencyMs
from loadtest.analysis.ranking import by_p50, rank_cells
from tests.support.loadtest.cells import cell, closed, comparison, results


def test_places_are_sorted_by_the_very_p50_that_is_shown_whatever_the_rounds_say() -> None:
    shows = (comparison("a-x", "b-x", 1.21, "too close to call", "p50"), comparison("b-x", "c-x", 4.0, figure="p50"))
    run = results(cell("c-x", 9.0), cell("a-x", 2.1), cell("b-x", 2.0), comparisons=shows)
    places = rank_cells(run, closed(1)).places
    assert [(each.cell.variant, each.cell.latency_ms.p50) for each in places] == [
        ("b-x", 0.5),
        ("a-x", 0.525),
        ("c-x", 2.25),
    ]
    assert [each.against for each in places] == [
        "",
        "0.83 (0.75 to 1.21), too close to call",
        "4.00 (2.00 to 8.00), clear",
    ]
    assert (places[2].ratio, places[2].interval, places[2].verdict) == (4.0, (2.0, 8.0), "clear")


def test_only_the_comparison_by_p50_under_this_load_counts() -> None:
    shows = (comparison("a-x", "b-x", 4.0, figure="p99"), comparison("a-x", "b-x", 4.0, figure="p50", users=8))
    run = results(cell("a-x", 1.0), cell("b-x", 2.0), comparisons=shows)
    assert [each.against for each in rank_cells(run, closed(1)).places] == ["", ""]


def test_cells_that_are_not_valid_are_left_out_with_the_reason() -> None:
    cells = (
        cell("a-x"),
        cell("b-x", generator_limit="thread"),
        replace(cell("c-x"), latency_ms=LatencyMs(None, None, None)),
    )
    found = rank_cells(results(*cells), closed(1))
    assert [each.cell.variant for each in found.places] == ["a-x"]
    assert [(left.variant, why) for left, why in found.left_out] == [
        ("b-x", "limited by the generator (its thread was busy for more than 90% of the time), p99 at most 1.00 ms"),
        ("c-x", "too few samples"),
    ]


def test_without_a_single_valid_cell_nothing_is_compared() -> None:
    assert rank_cells(results(cell("a-x", generator_limit="thread")), closed(1)).places == ()


def test_cells_are_sorted_load_by_load_and_those_without_p50_come_last() -> None:
    without = replace(cell("a-x"), latency_ms=LatencyMs(None, None, None))
    cells = [without, cell("b-x", 9.0, users=8), cell("c-x", 9.0), cell("d-x", 8.0)]
    assert [each.variant for each in by_p50(cells)] == ["d-x", "c-x", "a-x", "b-x"]
