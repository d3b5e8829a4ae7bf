"""One baseline and one frontier, whoever asks: values worked out by hand."""

import pytest

from protos.frontier import KnownAccuracy, drop_below_fp32, fp32_baseline, is_more_accurate, pareto_frontier


def values(accuracies: list[float]) -> list[KnownAccuracy]:
    """Accuracies of which no interval is known."""
    return [KnownAccuracy(value) for value in accuracies]


@pytest.mark.parametrize(
    ("top1", "baseline"),
    [
        ({}, None),
        ({"fp32-pytorch": 0.8, "fp32-openvino": 0.9}, "fp32-pytorch"),
        ({"fp32-pytorch": None, "fp32-openvino": 0.9}, "fp32-pytorch"),
        ({"fp32-onnxruntime": 0.8, "fp32-openvino": 0.9}, "fp32-openvino"),
        ({"fp32-openvino": 0.9, "fp32-onnxruntime": 0.9}, "fp32-onnxruntime"),
        ({"fp32-onnxruntime": None, "fp32-openvino": 0.1}, "fp32-openvino"),
    ],
)
def test_the_baseline_is_fp32_pytorch_or_else_the_most_accurate(
    top1: dict[str, float | None], baseline: str | None
) -> None:
    assert fp32_baseline(top1) == baseline


def test_the_frontier_holds_the_points_that_none_beats_by_rising_cost() -> None:
    costs = [3.0, 1.0, 2.0, 4.0, 2.5]
    gains = [0.97, 0.90, 0.95, 0.96, 0.94]
    assert pareto_frontier(costs, values(gains)) == [1, 2, 0]


def test_of_equal_cost_only_the_better_is_on_the_frontier() -> None:
    assert pareto_frontier([1.0, 1.0], values([0.5, 0.6])) == [1]


def test_of_equal_gain_only_the_cheaper_is_on_the_frontier() -> None:
    assert pareto_frontier([2.0, 1.0], values([0.5, 0.5])) == [1]


def test_equal_points_are_all_on_the_frontier() -> None:
    assert pareto_frontier([1.0, 1.0, 2.0], values([0.5, 0.5, 0.4])) == [0, 1]


def test_the_frontier_of_nothing_is_empty() -> None:
    assert pareto_frontier([], values([])) == []


def test_of_two_variants_one_is_more_accurate_where_the_interval_of_their_difference_says_so() -> None:
    """Drops of 1 +- 0.3 and 2 +- 0.4 differ by 1 +- 0.5, those of 1 +- 0.6 and 2 +- 0.8 by 1 +- 1."""
    assert is_more_accurate(KnownAccuracy(0.9, (0.7, 1.3)), KnownAccuracy(0.8, (1.6, 2.4)))
    assert not is_more_accurate(KnownAccuracy(0.8, (1.6, 2.4)), KnownAccuracy(0.9, (0.7, 1.3)))
    assert not is_more_accurate(KnownAccuracy(0.9, (0.375, 1.625)), KnownAccuracy(0.8, (1.125, 2.875)))


def test_without_an_interval_the_greater_value_is_the_more_accurate() -> None:
    assert is_more_accurate(KnownAccuracy(0.91), KnownAccuracy(0.90, (-9.0, 9.0)))
    assert not is_more_accurate(KnownAccuracy(0.90), KnownAccuracy(0.90))


def test_rounding_makes_no_variant_more_accurate() -> None:
    """A detector's scores in another runtime: the drop is below zero in each resample, by 3e-7 at most."""
    exact, rounded = KnownAccuracy(0.8547, (0.0, 0.0)), KnownAccuracy(0.8547 + 2e-7, (-3.1e-7, -2.4e-10))
    assert not is_more_accurate(rounded, exact)
    assert not is_more_accurate(KnownAccuracy(rounded.value), KnownAccuracy(exact.value))


def test_fp32_pytorch_is_below_itself_by_nothing() -> None:
    assert drop_below_fp32("fp32-pytorch", (-0.1, 0.1)) == drop_below_fp32("fp32-pytorch", None) == (0.0, 0.0)
    assert drop_below_fp32("fp32-openvino", (-0.1, 0.1)) == (-0.1, 0.1)


def test_a_dearer_point_stays_only_if_it_was_shown_to_be_more_accurate() -> None:
    drops = [(0.02, 0.04), (0.0, 0.03), (-0.01, 0.01)]
    assert pareto_frontier([1.0, 2.0, 3.0], [KnownAccuracy(1 - sum(d) / 2, d) for d in drops]) == [0, 2]


def test_of_equal_cost_and_no_shown_difference_all_stay() -> None:
    drops = [(-0.01, 0.02), (-0.01, 0.01)]
    assert pareto_frontier([1.0, 1.0], [KnownAccuracy(1 - sum(d) / 2, d) for d in drops]) == [1, 0]
