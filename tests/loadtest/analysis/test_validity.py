"""Which cells are valid evidence, and which of those nothing beats."""

from loadtest.analysis.results import Cell
from loadtest.analysis.validity import baseline_of, invalid_reason, p99_frontier, throughput_frontier
from protos.support.significance import paired_drop_interval
from tests.support.loadtest.cells import cell


def names(cells: list[Cell]) -> list[str]:
    return [each.variant for each in cells]


FP32 = cell("fp32-pytorch", p99=8.0, quality=0.98)


def test_an_invalid_cell_says_why_and_what_is_known_all_the_same() -> None:
    limited = cell("a-x", 2.5, generator_limit="ceiling")
    assert invalid_reason(limited) == "limited by the generator (within 10% of its ceiling), p99 at most 2.50 ms"
    assert invalid_reason(cell("a-x", None)) == "too few samples"
    assert invalid_reason(cell("a-x", 2.5, failures=1)) == "1 call failed"
    assert (
        invalid_reason(cell("a-x", 2.5, failures=3, generator_limit="thread"))
        == "3 calls failed, limited by the generator (its thread was busy for more than 90% of the time)"
    )


def test_fp32_pytorch_is_the_baseline_even_if_another_fp32_is_more_accurate() -> None:
    assert baseline_of([cell("fp32-openvino", 2.0, 0.981), FP32]) == FP32


def test_without_fp32_pytorch_the_most_accurate_fp32_is_the_baseline() -> None:
    best = cell("fp32-openvino", 2.0, 0.981)
    assert baseline_of([cell("fp32-onnxruntime", 9.0, 0.98), best]) == best


def test_the_p99_frontier_runs_from_the_fastest_to_the_most_accurate() -> None:
    cells = [
        FP32,
        cell("int8-openvino", 2.0, 0.97),
        cell("int8-pytorch", 3.0, 0.96),
        cell("channels50-openvino", 1.0, 0.9),
    ]
    assert names(p99_frontier(cells)) == ["channels50-openvino", "int8-openvino", "fp32-pytorch"]


def test_the_throughput_frontier_runs_from_the_fastest_to_the_most_accurate() -> None:
    cells = [cell("a-x", rps=100, quality=0.98), cell("b-x", rps=300, quality=0.9), cell("c-x", rps=50, quality=0.97)]
    assert names(throughput_frontier(cells)) == ["b-x", "a-x"]


def test_one_image_of_600_puts_no_slower_variant_on_a_frontier() -> None:
    """Chance explains those 0.17 points; it does not explain 18 images."""
    fast = cell("int8-openvino", 2.0, 0.97, rps=500, drop_interval=paired_drop_interval(0, 0, 600))
    slow = cell("int8-pytorch", 9.0, 0.97 + 1 / 600, rps=100, drop_interval=paired_drop_interval(0, 1, 600))
    assert names(p99_frontier([fast, slow])) == names(throughput_frontier([fast, slow])) == ["int8-openvino"]
    better = cell("int8-pytorch", 9.0, 1.0, rps=100, drop_interval=paired_drop_interval(0, 18, 600))
    assert names(p99_frontier([fast, better])) == ["int8-openvino", "int8-pytorch"]


def test_a_generator_limited_cell_is_not_on_a_frontier() -> None:
    cells = [FP32, cell("int8-openvino", 1.0, 0.99, rps=999, generator_limit="thread")]
    assert names(p99_frontier(cells)) == names(throughput_frontier(cells)) == ["fp32-pytorch"]
