"""An ONNX graph as a network: what a graph without Python needs to go the way of all other networks.

It computes by ONNX Runtime, its state is the graph itself, and the ONNX exporter writes that instead of exporting.
A graph is taken where it has one float32 input (N, 3, H, W) and one output (N, classes); the two get the names
that all artifacts have, and a batch that was fixed is made free. Only lowerings can be applied to it.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import torch
from onnx import version_converter
from torch import nn

from compressors.export.exporters import INPUT, OUTPUT
from compressors.progress import first_line
from protos.errors import UsageError
from protos.manifest import Network
from protos.support.machine import available_cores

NAME = "onnx"
"""The name of this network in a study."""

_OLDEST_OPSET = 13
"""QDQ quantization is per channel from this opset on; older graphs are converted."""


class OnnxNetwork(nn.Module):
    """A graph in ONNX as a module from (N, 3, H, W) to (N, classes); it cannot be trained."""

    def __init__(self, graph: bytes = b"") -> None:
        super().__init__()
        self.graph = graph

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the graph's outputs (N, classes)."""
        return torch.from_numpy(_session(self.graph).run([OUTPUT], {INPUT: inputs.numpy()})[0])

    def get_extra_state(self) -> torch.Tensor:
        """Returns the graph, the one thing that this network consists of."""
        return torch.from_numpy(np.frombuffer(self.graph, np.uint8).copy())

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Takes the graph."""
        self.graph = state.numpy().tobytes()

    def size(self) -> Network:
        """Counts the weights, which are all elements of its float initializers, and those that are not zero."""
        values = [onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(self.graph).graph.initializer]
        weights = [value for value in values if value.dtype.kind == "f"]
        return Network(sum(w.size for w in weights), sum(int(np.count_nonzero(w)) for w in weights))


def read_graph(path: Path) -> bytes:
    """Reads a file's graph and makes it fit for exporters; raises `UsageError`, one line, where that cannot be."""
    try:
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
    except Exception as error:  # a damaged file fails in many ways
        raise UsageError(f"{path.name}: not an ONNX graph: {first_line(error)}") from None
    model = onnx_ir.serde.deserialize_model(_modern(proto, path.name))
    _rename(model.graph, path.name)
    graph = onnx_ir.serde.serialize_model(model)
    graph.ClearField("metadata_props")
    return _tried(graph.SerializeToString(), model.graph.inputs[0].shape, path.name)


def input_size(path: Path) -> tuple[int, int] | None:
    """Returns height and width of a graph's input where they are fixed; None also where the file is no graph."""
    try:
        (declared,) = onnx.load(path, load_external_data=False).graph.input[:1]
        height, width = (d.dim_value for d in declared.type.tensor_type.shape.dim[2:])
    except Exception:  # said in full by `read_graph`
        return None
    return (height, width) if height and width else None


def _modern(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), _OLDEST_OPSET)
    if opset >= _OLDEST_OPSET:
        return proto
    try:
        return version_converter.convert_version(proto, _OLDEST_OPSET)
    except Exception as error:
        raise UsageError(f"{name}: opset {opset} cannot be made {_OLDEST_OPSET}: {first_line(error)}") from None


def _rename(graph: onnx_ir.Graph, name: str) -> None:
    """Gives the one input and the one output the names of all artifacts and a free batch."""
    weights = [value for value in graph.inputs if value.name in graph.initializers]
    for value in weights:  # old graphs list them among the inputs
        graph.inputs.remove(value)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        got = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        raise UsageError(f"{name}: got {got}, expected one of each")
    (taken,), (given,) = graph.inputs, graph.outputs
    if taken.dtype != onnx_ir.DataType.FLOAT or taken.shape is None or len(taken.shape) != 4 or taken.shape[1] != 3:
        raise UsageError(f"{name}: input '{taken.name}' is {taken.dtype} {taken.shape}, expected FLOAT [N,3,H,W]")
    for node in graph.all_nodes():
        for value in node.outputs:
            value.shape = None if value is not given else value.shape  # sizes of a fixed batch are left nowhere
            if value.name in (INPUT, OUTPUT):
                value.name += "_"
    taken.name, given.name = INPUT, OUTPUT
    taken.shape = onnx_ir.Shape(["batch", *taken.shape[1:]])
    given.shape = onnx_ir.Shape(["batch", *given.shape[1:]]) if given.shape is not None else None


def _tried(graph: bytes, shape: onnx_ir.Shape | None, name: str) -> bytes:
    """Returns the graph, after two rows gave the answers that they give alone."""
    assert shape is not None
    sizes = [d if isinstance(d, int) else 32 for d in list(shape)[1:]]
    rows = np.random.default_rng(0).random((2, *sizes), np.float32)
    try:
        session = _session(graph)
        alone = np.concatenate([session.run([OUTPUT], {INPUT: row[None]})[0] for row in rows])
    except Exception as error:
        raise UsageError(f"{name}: ONNX Runtime does not run it: {first_line(error)}") from None
    try:
        together = session.run([OUTPUT], {INPUT: rows})[0]
    except Exception as error:
        raise UsageError(f"{name}: its batch is fixed at 1 inside: {first_line(error)}") from None
    if together.shape != alone.shape or not np.allclose(together, alone, rtol=1e-3, atol=1e-3):
        raise UsageError(f"{name}: its batch is fixed at 1 inside: rows answer otherwise together than alone")
    return graph


@lru_cache(maxsize=2)
def _session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = 4  # what is wrong is raised
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
