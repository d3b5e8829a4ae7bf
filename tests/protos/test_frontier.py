"""One baseline and one frontier, whoever asks: values worked out by hand."""

import pytest

from protos.frontier import fp32_baseline, pareto_frontier


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
    assert pareto_frontier(costs, gains) == [1, 2, 0]


def test_of_equal_cost_only_the_better_is_on_the_frontier() -> None:
    assert pareto_frontier([1.0, 1.0], [0.5, 0.6]) == [1]


def test_of_equal_gain_only_the_cheaper_is_on_the_frontier() -> None:
    assert pareto_frontier([2.0, 1.0], [0.5, 0.5]) == [1]


def test_equal_points_are_all_on_the_frontier() -> None:
    assert pareto_frontier([1.0, 1.0, 2.0], [0.5, 0.5, 0.4]) == [0, 1]


def test_the_frontier_of_nothing_is_empty() -> None:
    assert pareto_frontier([], []) == []
