"""Which variants were shown to be more accurate, and how far each is below FP32, worked out by hand."""

from dataclasses import replace

import pytest

from loadtest.analysis.results import Cell
from loadtest.decision.accuracy import Drop, drop_of, frontier, more_accurate
from tests.support.loadtest.cells import cell

FP32 = cell("fp32-pytorch", 8.0, 0.98)
DULL = cell("int8-openvino", 2.0, 0.95, drop_interval=(0.024, 0.036))
FAIR = cell("int8-pytorch", 3.0, 0.97, drop_interval=(0.002, 0.018))
FINE = cell("half-openvino", 4.0, 0.985, drop_interval=(-0.012, 0.002))
UNKNOWN = cell("int8-torchscript", 5.0, None)


def without_interval(one: Cell) -> Cell:
    return replace(one, facts=replace(one.facts, drop_interval=None))


def shown(*cells: Cell) -> set[tuple[str, str]]:
    return {(a.variant, b.variant) for a in cells for b in cells if more_accurate(a, b)}


def test_what_was_shown_to_be_more_accurate() -> None:
    """Drops of 3 +- 0.6 and 1 +- 0.8 points differ by 2 +- 1, those of 1 +- 0.8 and -0.5 +- 0.7 by 1.5 +- 1.1."""
    assert shown(FP32, DULL, FAIR, FINE) == {
        ("fp32-pytorch", "int8-openvino"),
        ("fp32-pytorch", "int8-pytorch"),
        ("int8-pytorch", "int8-openvino"),
        ("half-openvino", "int8-openvino"),
        ("half-openvino", "int8-pytorch"),
    }


def test_two_intervals_may_overlap_less_than_chance_explains() -> None:
    """1 +- 0.8 and 2 +- 0.7 points differ by 1 +- 1.06."""
    assert not more_accurate(FAIR, cell("a-x", quality=0.96, drop_interval=(0.013, 0.027)))


def test_without_an_interval_any_difference_counts() -> None:
    close = without_interval(cell("a-x", quality=0.9701))
    assert more_accurate(close, FAIR)
    assert not more_accurate(FAIR, close)
    assert not more_accurate(close, close)


def test_without_a_metric_nothing_is_shown() -> None:
    assert shown(UNKNOWN, FP32, cell("b-x", quality=None)) == set()
    assert frontier([UNKNOWN, FP32], lambda each: each.latency_ms.p99 or 0.0) == [FP32]


def test_a_drop_below_fp32_pytorch_is_the_manifest_s() -> None:
    drop = drop_of(DULL, FP32)
    assert drop is not None
    assert (drop.points, drop.low, drop.high) == pytest.approx((3.0, 2.4, 3.6))


def test_a_variant_that_is_better_than_fp32_has_a_drop_below_zero() -> None:
    drop = drop_of(FINE, FP32)
    assert drop is not None
    assert (drop.points, drop.low, drop.high) == pytest.approx((-0.5, -1.2, 0.2))


def test_the_baseline_is_below_itself_by_nothing() -> None:
    alone = cell("fp32-openvino", quality=0.97, drop_interval=(-0.03, 0.03))
    assert drop_of(FP32, FP32) == drop_of(alone, alone) == Drop(0.0, 0.0, 0.0)


def test_below_fp32_of_another_runtime_both_drops_errors_count() -> None:
    """3 +- 0.6 points less 0 +- 0.8 are 3 +- 1."""
    drop = drop_of(DULL, cell("fp32-openvino", quality=0.98, drop_interval=(-0.008, 0.008)))
    assert drop is not None
    assert (drop.points, drop.low, drop.high) == pytest.approx((3.0, 2.0, 4.0))


def test_without_an_interval_a_drop_is_its_points() -> None:
    assert drop_of(without_interval(DULL), FP32) == Drop(pytest.approx(3.0))
    assert drop_of(DULL, cell("fp32-openvino", quality=0.98)) == Drop(pytest.approx(3.0))


@pytest.mark.parametrize(("one", "baseline"), [(DULL, None), (UNKNOWN, FP32), (DULL, UNKNOWN)])
def test_without_a_metric_or_a_baseline_no_drop_is_known(one: Cell, baseline: Cell | None) -> None:
    assert drop_of(one, baseline) is None
