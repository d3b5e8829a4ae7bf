"""Layers stay in FP32 where that is clearly faster. Times are made up where the claim is what is chosen by them."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compressors.export import exporters, measured
from compressors.export.exporters import Exported, Job
from compressors.export.lowerings import StaticInt8
from compressors.export.measured import Choice, Layers
from compressors.networks.layers import INPUT, OUTPUT
from compressors.networks.onnx_network import OnnxNetwork
from protos.manifest import RuntimeName
from server import runtimes
from tests.support.compressors.artifacts import described
from tests.support.compressors.small import Small

IMAGES = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
STEP = StaticInt8(exclude="measured")
LAYERS = ["a", "b", "c", "d", "e"]

Cost = Callable[[set[str]], float]
"""Microseconds of a call with these layers in FP32."""


class MadeUpTimes:
    """Stands for networks on a machine: times are those of `cost`, each with noise of its own, and one for each load.

    Noise is the standard deviation as a share of the time."""

    cost: Cost
    noise, noise_of_load, seed = 0.0, 0.0, 0

    def __init__(self, *arguments: object) -> None:
        self._random = np.random.default_rng(self.seed)

    def make(self, choice: Layers) -> None:
        """Nothing is to be made."""

    def seconds(self, choices: Sequence[Layers], rounds: int) -> dict[Layers, NDArray[np.float64]]:
        found = {}
        for choice in choices:
            of_load = self._random.normal(1, self.noise_of_load)
            times = self._random.normal(1, self.noise, rounds) * of_load
            found[choice] = 1e-6 * type(self).cost({*choice}) * times
        return found


@pytest.fixture
def choosing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Choice]:
    def choose(cost: Cost, step: StaticInt8 = STEP, **noise: float) -> Choice:
        made_up = type("Times", (MadeUpTimes,), {"cost": staticmethod(cost), **noise})
        monkeypatch.setattr(measured, "_Networks", made_up)
        return measured.choose(job(step, tmp_path), "onnxruntime", "model.onnx", LAYERS, lambda layers, folder: None)

    return choose


def job(step: StaticInt8, folder: Path) -> Job:
    torch.manual_seed(0)
    return Job(Small().eval(), IMAGES[:2].clone(), step, IMAGES, folder)


def test_each_layer_that_is_slower_in_int8_stays_in_fp32(choosing: Callable[..., Choice]) -> None:
    choice = choosing(lambda fp32: 71 - 8 * ("a" in fp32) - 5 * ("e" in fp32) + 4 * len(fp32 & {"b", "c", "d"}))
    assert choice == Choice(("a", "e"), ("a, e stay in FP32: 58 us with, 71 us without (5 of 5 layers timed)",))


def test_one_layer_is_told_as_one(choosing: Callable[..., Choice]) -> None:
    choice = choosing(lambda fp32: 71 - 8 * ("a" in fp32) + len(fp32 - {"a"}))
    assert choice.notes == ("a stays in FP32: 63 us with, 71 us without (5 of 5 layers timed)",)


def test_where_no_layer_is_slower_in_int8_the_note_says_so(choosing: Callable[..., Choice]) -> None:
    none = Choice((), ("no layer is clearly faster in FP32 here (5 of 5 layers timed)",))
    assert choosing(lambda fp32: 71 + len(fp32)) == none


def test_a_gain_below_the_margin_is_none(choosing: Callable[..., Choice]) -> None:
    assert choosing(lambda fp32: 1000 - 19 * ("a" in fp32) + 30 * len(fp32 - {"a"})).layers == ()


def test_first_layers_that_gain_only_together_are_found(choosing: Callable[..., Choice]) -> None:
    """Between them, nothing is quantized or dequantized any more."""
    assert choosing(lambda fp32: 71 - 9 * (fp32 >= {"a", "b"}) + 3 * len(fp32)).layers == ("a", "b")


def test_a_neighbour_that_gains_only_beside_a_layer_that_stays_is_found(choosing: Callable[..., Choice]) -> None:
    assert choosing(lambda fp32: 71 - 9 * ("e" in fp32) - 6 * (fp32 >= {"d", "e"}) + 2 * len(fp32)).layers == ("d", "e")


def test_a_layer_that_gains_nothing_stays_in_int8_beside_one_that_does(choosing: Callable[..., Choice]) -> None:
    assert choosing(lambda fp32: 71 - 8 * ("a" in fp32)).layers == ("a",)


def test_of_two_layers_that_gain_by_the_same_only_one_stays(choosing: Callable[..., Choice]) -> None:
    assert choosing(lambda fp32: 71 - 9 * bool(fp32 & {"b", "d"}) + len(fp32)).layers in {("b",), ("d",)}


@pytest.mark.parametrize("noise", [{"noise": 0.2}, {"noise_of_load": 0.02}, {"noise": 0.05, "noise_of_load": 0.01}])
def test_noise_leaves_every_layer_in_int8(choosing: Callable[..., Choice], noise: dict[str, float]) -> None:
    assert {choosing(lambda fp32: 71, seed=seed, **noise).layers for seed in range(20)} == {()}


def test_a_clear_gain_is_found_in_noise(choosing: Callable[..., Choice]) -> None:
    def cost(fp32: set[str]) -> float:
        return 71 - 12 * ("a" in fp32) + 6 * len(fp32 - {"a"})

    found = [choosing(cost, seed=seed, noise=0.05, noise_of_load=0.01) for seed in range(20)]
    assert {choice.layers for choice in found} == {("a",)}


def test_layers_that_are_fp32_by_name_stay_so_and_are_not_timed(choosing: Callable[..., Choice]) -> None:
    choice = choosing(lambda fp32: 71 - 8 * len(fp32 & {"a", "b"}), replace(STEP, float_layers=("b",)))
    assert choice == Choice(("b", "a"), ("a stays in FP32: 63 us with, 71 us without (4 of 4 layers timed)",))


def test_when_the_time_is_over_the_rest_stays_in_int8(
    choosing: Callable[..., Choice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "SECONDS", 0)
    choice = choosing(lambda fp32: 71 - 8 * len(fp32))
    assert choice == Choice((), ("no layer is clearly faster in FP32 here (0 of 5 layers timed: its time was over)",))


def test_without_exclude_nothing_is_timed(choosing: Callable[..., Choice]) -> None:
    def never(fp32: set[str]) -> float:
        raise AssertionError

    assert choosing(never, StaticInt8(float_layers=("b",))) == Choice(("b",))


def first_is_slow(fp32: set[str]) -> float:
    """The first convolution of `Small`, and no other layer, is slower in int8."""
    return 71 - 8 * ("stem.0" in fp32) + 9 * len(fp32 - {"stem.0"})


RUNTIMES: list[RuntimeName] = ["torchscript", "onnxruntime", "openvino"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_was_chosen_is_written_as_if_it_had_been_named(
    runtime: RuntimeName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "_Networks", type("Times", (MadeUpTimes,), {"cost": staticmethod(first_is_slow)}))
    step = StaticInt8(float_layers=("classifier",), exclude="measured")
    written = exporters.export(exporters.EXPORTERS[runtime], job(step, tmp_path / "measured"))
    assert written.notes == (
        "1 of 3 layers stay in FP32: classifier",
        "stem.0 stays in FP32: 63 us with, 71 us without (2 of 2 layers timed)",
    )
    found = answer(tmp_path / "measured", runtime, written)
    named = StaticInt8(float_layers=("classifier", "stem.0"))
    expected = exporters.export(exporters.EXPORTERS[runtime], job(named, tmp_path / "named"))
    np.testing.assert_array_equal(found, answer(tmp_path / "named", runtime, expected))
    int8 = exporters.export(exporters.EXPORTERS[runtime], job(StaticInt8(), tmp_path / "int8"))
    assert (found != answer(tmp_path / "int8", runtime, int8)).any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_real_times_choose_among_real_artifacts(
    runtime: RuntimeName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which layers are slower is the machine's own affair; torch keeps its threads."""
    written, threads = quickly(job(STEP, tmp_path), runtime, monkeypatch), torch.get_num_threads()
    assert written.notes[0].endswith("(3 of 3 layers timed)")
    assert {path.name for path in tmp_path.iterdir()} == {written.entry, *(["model.bin"] * (runtime == "openvino"))}
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_graph_that_was_given_is_timed_too(
    runtime: RuntimeName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = replace(job(STEP, tmp_path), network=OnnxNetwork(graph()))
    assert quickly(made, runtime, monkeypatch).notes[0].endswith("(2 of 2 layers timed)")


def test_corrected_biases_are_timed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = job(replace(STEP, bias_correction=True), tmp_path)
    assert quickly(made, "onnxruntime", monkeypatch).notes[0].endswith("(3 of 3 layers timed)")


def quickly(job: Job, runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """Exports with short rounds: what they show is another test's affair."""
    monkeypatch.setattr(measured, "SECONDS", 600.0)
    monkeypatch.setattr(measured, "BLOCK_CALLS", 2)
    return exporters.export(exporters.EXPORTERS[runtime], job)


def answer(folder: Path, runtime: RuntimeName, written: Exported) -> NDArray[np.float32]:
    variant = described(folder, runtime, written.entry, STEP)
    with closing(runtimes.load(folder, variant, threads=1)) as adapter:
        return adapter.infer({INPUT: IMAGES.numpy()})[OUTPUT]


def graph() -> bytes:
    """Two convolutions in ONNX, the last without a name of its weight that PyTorch would give it."""
    weights = [
        numpy_helper.from_array(np.random.default_rng(0).random((3, 3, 1, 1), np.float32), name)
        for name in ("first.weight", "own")
    ]
    nodes = [
        helper.make_node("Conv", [INPUT, "first.weight"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "own"], [OUTPUT]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 8, 8]) for name in (INPUT, OUTPUT)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], weights),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()
