"""Ranks of made-up cells under one load."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from loadtest.analysis.ranking import rank_cells
from loadtest.analysis.results import Cell, LatencyMs
from tests.support.loadtest.cells import cell, closed


def of_rounds(variant: str, p50s: Sequence[float | None], **figures: bool) -> Cell:
    """A cell with one round for each of these medians."""
    made = cell(variant, **figures)  # type: ignore[arg-type]
    rounds = [replace(made.rounds[0], round=i, latency_ms=LatencyMs(p50, None, None)) for i, p50 in enumerate(p50s, 1)]
    return replace(made, rounds=tuple(rounds))


def ranks(*cells: Cell) -> list[tuple[int, str]]:
    return [(place.rank, place.cell.variant) for place in rank_cells(cells, closed(1)).places]


def test_what_is_faster_in_every_round_ranks_higher() -> None:
    fast = [1.0, 1.1, 1.05, 1.2, 1.02, 1.3, 1.15]
    assert ranks(of_rounds("b-x", [2 * p50 for p50 in fast]), of_rounds("a-x", fast)) == [(1, "a-x"), (2, "b-x")]


def test_what_is_faster_in_every_second_round_is_tied() -> None:
    cells = of_rounds("a-x", [1.0, 1.2] * 4), of_rounds("b-x", [1.1, 1.0] * 4)
    assert sorted(ranks(*cells)) == [(1, "a-x"), (1, "b-x")]


def test_the_ratio_says_how_many_times_slower_than_the_first() -> None:
    first, second = rank_cells([of_rounds("a-x", [1.0] * 6), of_rounds("b-x", [3.0] * 6)], closed(1)).places
    assert (first.ratio, first.interval) == (None, None)
    assert second.ratio == pytest.approx(3.0)
    assert second.interval == pytest.approx((3.0, 3.0))


def test_too_few_rounds_say_how_many_are_needed() -> None:
    found = rank_cells([of_rounds("a-x", [1.0] * 3), of_rounds("b-x", [9.0] * 3)], closed(1))
    assert (found.rounds, found.needed, found.enough) == (3, 6, False)
    assert [place.rank for place in found.places] == [1, 1]


def test_a_round_without_a_figure_is_dropped_for_all() -> None:
    found = rank_cells([of_rounds("a-x", [1.0, None, 1.0]), of_rounds("b-x", [1.0, 1.0, 1.0])], closed(1))
    assert found.rounds == 2


def test_cells_that_are_not_valid_are_left_out_with_the_reason() -> None:
    cells = [
        of_rounds("a-x", [1.0] * 6),
        of_rounds("b-x", [0.5] * 6, generator_limit="thread"),
        replace(of_rounds("c-x", [0.5] * 6), latency_ms=LatencyMs(None, None, None)),
    ]
    found = rank_cells(cells, closed(1))
    assert ranks(*cells) == [(1, "a-x")]
    assert [(left.variant, why) for left, why in found.left_out] == [
        ("b-x", "limited by the generator (its thread was busy for more than 90% of the time), p99 at most 1.00 ms"),
        ("c-x", "too few samples"),
    ]


def test_without_a_single_valid_cell_nothing_is_ranked() -> None:
    assert rank_cells([cell("a-x", generator_limit="thread")], closed(1)).places == ()
