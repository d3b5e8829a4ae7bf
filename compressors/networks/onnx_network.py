"""An ONNX graph as a network: what a graph without Python needs to go the way of all other networks.

It computes by ONNX Runtime, its state is the graph itself, and the ONNX exporter writes that instead of exporting.
`onnx_graph` reads a file's graph and makes it fit. Only lowerings can be applied to it.
"""

from functools import lru_cache, partial

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from compressors.networks import onnx_graph
from compressors.networks.layers import INPUT, OUTPUT
from protos.manifest import Network
from protos.support.machine import available_cores
from server.runtimes import in_batches

NAME = "onnx"
"""The name of this network in a study."""


class OnnxNetwork(nn.Module):
    """A graph in ONNX as a module for inputs (N, 3, H, W); it cannot be trained."""

    def __init__(self, graph: bytes = b"") -> None:
        super().__init__()
        self.graph = graph

    @property
    def max_batch(self) -> int | None:
        """The rows that the graph takes at a time; None where the batch is free."""
        batch = _session(self.graph).get_inputs()[0].shape[0] if self.graph else None
        return batch if isinstance(batch, int) else None

    @property
    def is_int8(self) -> bool:
        """Whether the graph was quantized before it came here."""
        return onnx_graph.is_int8(onnx.load_from_string(self.graph))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the graph's outputs."""
        return tuple(output.name for output in _session(self.graph).get_outputs()) if self.graph else (OUTPUT,)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Returns the graph's output (N, ...), or all of them where there are several."""
        rows, infer = {INPUT: inputs.numpy()}, partial(onnx_graph.answer, _session(self.graph))
        answer = infer(rows) if self.max_batch is None else in_batches(infer, rows, self.max_batch)
        first, *others = map(torch.from_numpy, answer.values())
        return (first, *others) if others else first

    def get_extra_state(self) -> torch.Tensor:
        """Returns the graph, the one thing that this network consists of."""
        return torch.from_numpy(np.frombuffer(self.graph, np.uint8).copy())

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Takes the graph."""
        self.graph = state.numpy().tobytes()

    def size(self) -> Network:
        """Counts the weights, all elements of its float or 8-bit initializers, and those that are not zero."""
        values = [onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(self.graph).graph.initializer]
        kept = [value for value in values if value.dtype.kind == "f" or (value.dtype.itemsize == 1 and value.ndim > 1)]
        return Network(sum(w.size for w in kept), sum(int(np.count_nonzero(w)) for w in kept))


@lru_cache(maxsize=2)
def _session(graph: bytes) -> onnxruntime.InferenceSession:
    return onnx_graph.open_session(graph, available_cores())
