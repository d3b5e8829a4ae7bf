"""Which variant to ship, on cells for which the right answer is known."""

from loadtest.results import Cell
from loadtest.verdict import doubt, p99_frontier, throughput_frontier, verdict
from tests.loadtest.cells import cell, closed

ONE = closed(1)


def names(cells: list[Cell]) -> list[str]:
    return [each.variant for each in cells]


FP32 = cell("fp32-pytorch", p99=8.0, top1=0.98)


def test_the_fastest_within_a_point_of_fp32_wins() -> None:
    found = verdict([FP32, cell("int8-openvino", 2.0, 0.975), cell("int8-pytorch", 3.0, 0.98)], ONE)
    assert (found.winner and found.winner.variant, found.baseline) == ("int8-openvino", FP32)


def test_exactly_one_point_less_is_still_within_it() -> None:
    found = verdict([FP32, cell("int8-openvino", 2.0, 0.97)], ONE)
    assert found.winner
    assert found.winner.variant == "int8-openvino"


def test_a_variant_that_lost_more_than_a_point_does_not_win() -> None:
    assert verdict([FP32, cell("int8-openvino", 2.0, 0.9699)], ONE).winner == FP32


def test_a_cell_that_cannot_be_believed_does_not_win() -> None:
    cells = [
        FP32,
        cell("int8-openvino", 1.0, 0.98, generator_limited=True),
        cell("int8-pytorch", 1.0, 0.98, failures=1),
        cell("int8-torchscript", None, 0.98),
        cell("int8-onnxruntime", 3.0, 0.98),
    ]
    found = verdict(cells, ONE)
    assert found.winner
    assert found.winner.variant == "int8-onnxruntime"


def test_an_unjudged_cell_that_was_not_seen_to_be_slower_is_a_rival_of_the_winner() -> None:
    cells = [
        FP32,
        cell("int8-openvino", 3.0, 0.98),
        cell("int8-pytorch", 3.0, 0.98, generator_limited=True),
        cell("int8-torchscript", None, 0.98),
        cell("int8-onnxruntime", 3.01, 0.98, failures=1),
        cell("channels50-openvino", 1.0, 0.9, generator_limited=True),
    ]
    found = verdict(cells, ONE)
    assert found.winner
    assert found.winner.variant == "int8-openvino"
    assert names([*found.rivals]) == ["int8-pytorch", "int8-torchscript"]
    assert names([*found.unjudged]) == ["int8-pytorch", "int8-torchscript", "int8-onnxruntime"]


def test_without_a_winner_every_unjudged_cell_is_a_rival() -> None:
    found = verdict([cell("fp32-pytorch", failures=1), cell("int8-pytorch", generator_limited=True)], ONE)
    assert names([*found.rivals]) == ["fp32-pytorch", "int8-pytorch"]


def test_a_doubt_says_what_is_known_all_the_same() -> None:
    assert doubt(cell("a-x", 2.5, generator_limited=True)) == "limited by the generator, p99 at most 2.50 ms"
    assert doubt(cell("a-x", None)) == "too few samples"
    assert doubt(cell("a-x", 2.5, failures=1)) == "1 call failed"
    assert doubt(cell("a-x", 2.5, failures=3, generator_limited=True)) == "3 calls failed, limited by the generator"


def test_only_cells_of_the_same_number_of_users_are_compared() -> None:
    assert verdict([FP32, cell("int8-openvino", 1.0, 0.98, users=8)], ONE).winner == FP32


def test_fp32_pytorch_is_the_baseline_even_if_another_fp32_is_more_accurate() -> None:
    assert verdict([cell("fp32-openvino", 2.0, 0.981), FP32], ONE).baseline == FP32


def test_without_fp32_pytorch_the_most_accurate_fp32_is_the_baseline() -> None:
    best = cell("fp32-openvino", 2.0, 0.981)
    assert verdict([cell("fp32-onnxruntime", 9.0, 0.98), best], ONE).baseline == best


def test_unknown_accuracy_is_said_instead_of_an_answer() -> None:
    found = verdict([cell("fp32-pytorch", top1=None)], ONE)
    assert (found.winner, found.why_not) == (None, "the server does not say how accurate its variants are")


def test_a_run_without_fp32_is_said_instead_of_an_answer() -> None:
    found = verdict([cell("int8-pytorch")], ONE)
    assert (found.winner, found.why_not) == (None, "no FP32 variant was measured to compare with")


def test_no_believable_cell_is_said_instead_of_an_answer() -> None:
    found = verdict([cell("fp32-pytorch", failures=1)], ONE)
    assert (found.winner, found.why_not) == (None, "no cell can be believed, see the warnings")


def test_the_p99_frontier_runs_from_the_fastest_to_the_most_accurate() -> None:
    cells = [
        FP32,
        cell("int8-openvino", 2.0, 0.97),
        cell("int8-pytorch", 3.0, 0.96),
        cell("channels50-openvino", 1.0, 0.9),
    ]
    assert names(p99_frontier(cells)) == ["channels50-openvino", "int8-openvino", "fp32-pytorch"]


def test_the_throughput_frontier_runs_from_the_fastest_to_the_most_accurate() -> None:
    cells = [cell("a-x", rps=100, top1=0.98), cell("b-x", rps=300, top1=0.9), cell("c-x", rps=50, top1=0.97)]
    assert names(throughput_frontier(cells)) == ["b-x", "a-x"]


def test_a_generator_limited_cell_is_not_on_a_frontier() -> None:
    cells = [FP32, cell("int8-openvino", 1.0, 0.99, rps=999, generator_limited=True)]
    assert names(p99_frontier(cells)) == names(throughput_frontier(cells)) == ["fp32-pytorch"]
