"""What a person is told of a failure: texts that the real libraries raise, each by the line that tells."""

from collections.abc import Callable
from pathlib import Path

import nncf
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch._inductor.codecache import CppCodeCache

from compressors.progress import first_line

BATCH = ({0: torch.export.Dim("batch")},)
IMAGE = (torch.zeros(2, 3, 8, 8),)


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else x + 1


class Fixed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, -1)


class Misfit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(7, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def graph(folder: Path, kind: str, domain: str = "", free: bool = False) -> Path:
    """An ONNX graph of one operator over two inputs (1, 3), or of any shapes."""
    shapes = [(f"{name}0", f"{name}1") if free else (1, 3) for name in "ab"]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip("ab", shapes, strict=True)]
    outputs = [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)]
    whole = helper.make_graph([helper.make_node(kind, ["a", "b"], ["c"], domain=domain)], "g", inputs, outputs)
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(whole, opset_imports=opsets, ir_version=8), folder / "graph.onnx")
    return folder / "graph.onnx"


def noise(folder: Path, name: str) -> Path:
    (folder / name).write_bytes(b"noise" * 9)
    return folder / name


def onnx_run(path: Path, columns: int) -> None:
    arrays = {"a": np.zeros((2, columns), np.float32), "b": np.zeros((2, 3), np.float32)}
    onnxruntime.InferenceSession(path).run(None, arrays)


def openvino_run(path: Path) -> None:
    arrays = {name: np.zeros((2, 3), np.float32) for name in "ab"}
    openvino.Core().compile_model(path, "CPU")(arrays)


def onnx_export(network: nn.Module, folder: Path) -> None:
    torch.onnx.export(network.eval(), IMAGE, folder / "x.onnx", dynamo=True, dynamic_shapes=BATCH, verbose=False)


def nncf_quantize(images: list[np.ndarray]) -> None:
    nncf.quantize(openvino.convert_model(nn.Conv2d(3, 4, 3), example_input=IMAGE[0]), nncf.Dataset(images))


RAISED: dict[str, tuple[Callable[[Path], object], str]] = {
    "openvino: no graph": (
        lambda p: openvino.Core().read_model(noise(p, "m.xml")),
        'Unable to read the model: "m.xml" Please check',
    ),
    "openvino: no file": (
        lambda p: openvino.Core().read_model(p / "none.xml"),
        'ir: Could not open the file: "none.xml"',
    ),
    "openvino: unknown operator": (
        lambda p: openvino.Core().read_model(graph(p, "Magic", "their.domain")),
        "No conversion rule found for operations: their.domain.Magic",
    ),
    "openvino: shapes of a graph": (
        lambda p: openvino.Core().compile_model(graph(p, "MatMul"), "CPU"),
        "Incompatible MatMul matrix dimension. First input dimension=3",
    ),
    "openvino: shapes of a call": (
        lambda p: openvino_run(graph(p, "MatMul", free=True)),
        "Matmul input shapes are incompatible shape A: (2.3)",
    ),
    "onnxruntime: no graph": (
        lambda p: onnxruntime.InferenceSession(noise(p, "m.onnx")),
        "Protobuf parsing failed.",
    ),
    "onnxruntime: unknown operator": (
        lambda p: onnxruntime.InferenceSession(graph(p, "Magic", "their.domain")),
        "Fatal error: their.domain:Magic(-1) is not a registered function/op",
    ),
    "onnxruntime: shapes of a graph": (
        lambda p: onnxruntime.InferenceSession(graph(p, "MatMul")),
        "Node () Op (MatMul) [ShapeInferenceError] Incompatible dimensions for matrix multiplication",
    ),
    "onnxruntime: a call that does not fit": (
        lambda p: onnx_run(graph(p, "Add"), 3),
        "Got invalid dimensions for input: ",
    ),
    "onnxruntime: a call that fails": (
        lambda p: onnx_run(graph(p, "Add", free=True), 4),
        "Non-zero status code returned while running Add node. Name:'' Status Message: void",
    ),
    "torch.export: a branch": (
        lambda p: torch.export.export(Branching(), IMAGE, dynamic_shapes=BATCH),
        "Could not guard on data-dependent expression",
    ),
    "torch.export: a fixed batch": (
        lambda p: torch.export.export(Fixed(), IMAGE, dynamic_shapes=BATCH),
        "You marked batch as dynamic but your code specialized it to be a constant (2).",
    ),
    "torch._dynamo: a branch": (
        lambda p: torch.export.export(Branching(), IMAGE, dynamic_shapes=BATCH, strict=True),
        "Data-dependent branching: Detected data-dependent branching",
    ),
    "torch._dynamo: shapes": (
        lambda p: torch.export.export(Misfit(), IMAGE, dynamic_shapes=BATCH, strict=True),
        "RuntimeError when making fake tensor call: Dynamo failed to run FX node",
    ),
    "torch.onnx: a branch": (
        lambda p: onnx_export(Branching(), p),
        "Could not guard on data-dependent expression",
    ),
    "torch.onnx: shapes": (
        lambda p: onnx_export(Misfit(), p),
        "a and b must have same reduction dim, but got [24*s",
    ),
    "torch: weights": (
        lambda p: Misfit().load_state_dict({}),
        'Missing key(s) in state_dict: "linear.weight", "linear.bias".',
    ),
    "torch.jit: no archive": (
        lambda p: torch.jit.load(noise(p, "m.pt")),
        "PytorchStreamReader failed reading zip archive: failed finding central directory.",
    ),
    "inductor: the compiler": (
        lambda p: CppCodeCache.load("int broken( {"),
        ".main.cpp:1:14: error: expected",
    ),
    "nncf: no data": (
        lambda p: nncf_quantize([]),
        "Calibration dataset must not be empty.",
    ),
    "nncf: data that does not fit": (
        lambda p: nncf_quantize([np.zeros((1, 5, 8, 8), np.float32)]),
        "Can't set the input tensor with index: 0, because the model input (shape=[?,3,?,?])",
    ),
}


@pytest.mark.parametrize("case", RAISED)
def test_what_a_library_raises_is_told_by_the_line_that_says_what_was_wrong(tmp_path: Path, case: str) -> None:
    fail, expected = RAISED[case]
    with pytest.raises(Exception, match=r"(?s).+") as caught:
        fail(tmp_path)
    line = first_line(caught.value)
    assert expected in line
    assert not any(part in line for part in ("\n", "\x1b", "/tmp", str(tmp_path), "onnxruntime_src"))
