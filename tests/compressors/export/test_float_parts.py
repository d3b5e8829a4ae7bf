"""What stays in floating point beside int8: named layers, and what follows the last layers."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from compressors.export import exporters, float_parts, pytorch, torchscript
from compressors.export.exporters import Job
from compressors.export.lowerings import AccuracyAwareInt8, Lowering, StaticInt8
from compressors.networks.layers import INPUT, OUTPUT
from compressors.networks.onnx_network import OnnxNetwork
from protos.manifest import RuntimeName
from protos.tasks.task import Arrays, Rows
from server import runtimes
from tests.support.compressors.artifacts import described

IMAGES = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Detector(nn.Module):
    """Boxes in pixels and scores in one tensor (N, 5, 64): the scores are below 1, the boxes reach 640."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.box, self.score = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shared = self.stem(x).relu()
        boxes, scores = self.box(shared).sigmoid() * 640, self.score(shared).sigmoid()
        return torch.cat([boxes.flatten(2), scores.flatten(2)], 1)


@pytest.fixture(scope="module")
def detector() -> nn.Module:
    torch.manual_seed(0)
    network = Detector().eval()
    with torch.no_grad():
        network.score.weight *= 8
    return network


def job(network: nn.Module, lowering: Lowering, folder: Path, float_tail: bool = True) -> Job:
    return Job(network, IMAGES[:2].clone(), lowering, IMAGES, folder, float_tail=float_tail)


def scores(network: nn.Module, runtime: RuntimeName, folder: Path, float_tail: bool) -> np.ndarray:
    """What the int8 artifact gives as scores, (N, 64)."""
    step = StaticInt8()
    made = job(network, step, folder, float_tail)
    if runtime == "pytorch":  # as it is before it is compiled, which takes long
        with torch.no_grad():
            return pytorch._quantized(made, step)(IMAGES)[:, 4].numpy()  # type: ignore[no-any-return]
    entry = exporters.export(exporters.EXPORTERS[runtime], made).entry
    adapter = runtimes.load(folder, described(folder, runtime, entry, step), threads=1)
    answer = adapter.infer({INPUT: IMAGES.numpy()})[OUTPUT][:, 4]
    adapter.close()
    return answer


def test_the_tail_ends_where_a_layer_is_and_at_inputs() -> None:
    before = {"out": ["cat"], "cat": ["sigmoid", "box"], "sigmoid": ["score"], "score": ["relu"], "relu": ["stem"]}
    before |= {"other": ["input"], "input": [], "cat2": ["cat", "other"]}
    found = float_parts.tail(["out", "cat2"], before.__getitem__, {"box", "score"}.__contains__)
    assert set(found) == {"out", "cat", "sigmoid", "cat2", "other", "input"}


@pytest.mark.parametrize(("weight", "expected"), [([0, 1, 2, 3], True), ([0, 1, 2, 4], False), ([0], False)])
def test_bins_of_a_distribution_are_no_layer(weight: list[float], expected: bool) -> None:
    assert float_parts.is_expectation(np.array(weight, np.float32).reshape(1, -1, 1, 1)) == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("runtime", exporters.EXPORTERS)
def test_a_float_tail_keeps_the_scores_beside_boxes(runtime: RuntimeName, detector: nn.Module, tmp_path: Path) -> None:
    with torch.no_grad():
        expected = detector(IMAGES)[:, 4].numpy()
    assert np.abs(scores(detector, runtime, tmp_path, float_tail=True) - expected).max() < 0.1


def test_without_it_one_scale_of_both_takes_the_scores(detector: nn.Module, tmp_path: Path) -> None:
    assert len(np.unique(scores(detector, "onnxruntime", tmp_path, float_tail=False))) <= 2


class Two(nn.Module):
    """The second output is ruined by int8: one channel of `stem` takes the whole range, the others are what counts."""

    outputs = ("total", "detail")

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.total, self.detail = (nn.Conv2d(3, 3, 1, bias=False) for _ in range(3))
        with torch.no_grad():
            self.stem.weight.copy_(torch.diag(torch.tensor([1.0, 1.0, 5000.0]))[..., None, None])
            self.detail.weight.copy_(torch.diag(torch.tensor([1.0, 1.0, 0.0]))[..., None, None])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        shared = self.stem(x)
        return self.total(shared), self.detail(shared)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_accuracy_aware_int8_validates_all_outputs(runtime: RuntimeName, tmp_path: Path) -> None:
    network = Two().eval()
    with torch.no_grad():
        expected = network(IMAGES)[1].numpy()

    def validate(answers: Sequence[Arrays], rows: Rows) -> tuple[float, list[float]]:
        assert all(set(answer) == {"total", "detail"} for answer in answers)
        errors = [np.abs(a["detail"][0] - expected[row]).max() for a, row in zip(answers, rows, strict=True)]
        right = [float(error < 0.1) for error in errors]
        return float(np.mean(right)), right

    step = AccuracyAwareInt8(max_drop=1)
    made = replace(job(network, step, tmp_path), validate=validate)
    (note,) = exporters.export(exporters.EXPORTERS[runtime], made).notes
    assert "detail" in note


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_named_layer_stays_in_floating_point(detector: nn.Module, tmp_path: Path) -> None:
    step = StaticInt8(float_layers=("box",))
    notes = {}
    for runtime in ("onnxruntime", "openvino"):
        notes[runtime] = exporters.export(exporters.EXPORTERS[runtime], job(detector, step, tmp_path / runtime)).notes
    lowered = torchscript._lowered(step, job(detector, step, tmp_path))
    converted = pytorch._quantized(job(detector, step, tmp_path), step)
    assert {*notes.values()} == {("1 of 3 layers stay in FP32: box",)}
    tensors = {t.name: t.data_type for t in onnx.load(tmp_path / "onnxruntime/model.onnx").graph.initializer}
    assert tensors["box.weight"] == tensors["box.bias"] == TensorProto.FLOAT
    assert tensors["score.weight_quantized"] == tensors["stem.weight_quantized"] == TensorProto.INT8
    assert type(lowered.get_submodule("box")) is nn.Conv2d
    assert type(lowered.get_submodule("score")) is not nn.Conv2d
    assert sum("dequantize_per_channel" in str(node.target) for node in converted.graph.nodes) == 2
    bits = (tmp_path / "openvino/model.bin").read_bytes()
    assert detector.box.weight.detach().numpy().tobytes() in bits
    assert detector.score.weight.detach().numpy().tobytes() not in bits


def test_corrected_biases_come_closer_to_fp32(detector: nn.Module, tmp_path: Path) -> None:
    with torch.no_grad():
        expected = detector(IMAGES).numpy().mean()
    means = {}
    for corrected in (False, True):
        step = StaticInt8(float_layers=("box", "score"), bias_correction=corrected)
        entry = exporters.export(exporters.EXPORTERS["onnxruntime"], job(detector, step, tmp_path)).entry
        with closing(runtimes.load(tmp_path, described(tmp_path, "onnxruntime", entry, step), threads=1)) as adapter:
            means[corrected] = adapter.infer({INPUT: IMAGES.numpy()})[OUTPUT].mean()
    assert abs(means[True] - expected) < abs(means[False] - expected)


def test_ranges_that_nncf_lacks_are_refused_with_corrected_biases() -> None:
    with pytest.raises(ValueError, match=r"^bias_correction: NNCF, which does it, has no ranges by entropy"):
        StaticInt8(ranges="entropy", bias_correction=True)


@pytest.mark.parametrize("runtime", exporters.EXPORTERS)
def test_a_name_that_is_no_layer_is_refused(runtime: RuntimeName, detector: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^float_layers: got 'boxes', expected layers of the network, such as "):
        exporters.export(
            exporters.EXPORTERS[runtime], job(detector, StaticInt8(float_layers=("box", "boxes")), tmp_path)
        )


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_layer_of_a_graph_goes_by_its_node_or_its_weight(runtime: RuntimeName, tmp_path: Path) -> None:
    """Both convolutions of one weight are that weight's; a node without a name does not keep the others out."""
    weight = numpy_helper.from_array(np.random.default_rng(0).random((3, 3, 1, 1), np.float32), "shared.weight")
    other = numpy_helper.from_array(np.random.default_rng(1).random((3, 3, 1, 1), np.float32), "own")
    nodes = [
        helper.make_node("Conv", [INPUT, "shared.weight"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "shared.weight"], ["c"]),
        helper.make_node("Conv", ["c", "own"], [OUTPUT], name="/last/Conv"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 8, 8]) for name in (INPUT, OUTPUT)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight, other])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    network = OnnxNetwork(model.SerializeToString())
    for name, kept, rounded in (("shared", weight, other), ("/last/Conv", other, weight)):
        exporters.export(exporters.EXPORTERS[runtime], job(network, StaticInt8(float_layers=(name,)), tmp_path))
        written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert kept.raw_data in written
        assert rounded.raw_data not in written
