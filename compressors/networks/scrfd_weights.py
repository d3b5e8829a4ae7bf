"""Weights of SCRFD from a graph in ONNX, the form in which its authors' weights are passed on.

Exporters fold batch norms into the convolutions before them. Here the convolution gets the folded weights, and the
norm behind it adds the folded bias and does nothing else. The nth convolution of the graph is taken for the network's
nth; whether that was right is tried by asking both.
"""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from compressors.networks.onnx_graph import input_size, open_session
from compressors.networks.scrfd import Scrfd
from compressors.progress import first_line
from protos.errors import UsageError

_TRIED_SIZE = (64, 64)
_TOLERANCE = 1e-3
"""How much of an output's largest value two answers may differ."""

_Folded = tuple[str, NDArray[np.float32], NDArray[np.float32]]
"""A convolution's name in the graph, its weights and its bias."""
_Place = tuple[str, nn.Conv2d, nn.BatchNorm2d | None]
"""A convolution's path in the network, and the norm behind it."""


def load(network: nn.Module, path: Path) -> None:
    """Fills an SCRFD network from a file's graph; raises `UsageError` where the two are not the same network."""
    if not isinstance(network, Scrfd):
        raise UsageError(f"{path.name}: got an ONNX graph, expected a state dict: only SCRFD takes one")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # a damaged file fails in many ways
        raise UsageError(f"{path.name}: not an ONNX graph: {first_line(error)}") from None
    for folded, place in zip_longest(_convolutions(model.graph), _places(network)):
        got = f"weights {list(folded[1].shape)} of '{folded[0]}'" if folded else "no further convolution"
        expected = f"weights {list(place[1].weight.shape)} of '{place[0]}'" if place else "no further convolution"
        if not (folded and place and folded[1].shape == place[1].weight.shape):
            raise UsageError(f"{path.name}: got {got}, expected {expected}")
        _fill(folded, place)
    _check(network.eval(), model.SerializeToString(), path)


@torch.no_grad()
def give_statistics(network: nn.Module, images: torch.Tensor) -> None:
    """Gives all batch norms the mean and variance of what they get for `images` (N, 3, H, W); answers stay as they are.

    Folded weights have lost them. A norm in training divides by those of its batch, which would turn the network that
    `load` leaves into another one: to be called before its first training, with a few dozen images of the data.
    """

    def renew(norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        norm.bias.add_(scale * (mean - norm.running_mean))
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_hook(renew) for norm in norms]
    network.eval()(images)
    for hook in hooks:
        hook.remove()


def _convolutions(graph: onnx.GraphProto) -> Iterator[_Folded]:
    """Yields the convolutions in the graph's order; a number that multiplies one's outputs is folded into it."""
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    factors: dict[str, NDArray[np.float32]] = {}
    for node in graph.node:
        numbers = [values[name] for name in node.input if name in values and values[name].size == 1]
        if node.op_type == "Mul" and numbers:
            factors |= {name: numbers[0].reshape(()) for name in node.input}
    for node in graph.node:
        if node.op_type == "Conv":
            weight = values.get(node.input[1], np.zeros(0, np.float32))
            bias = next((values[name] for name in node.input[2:] if name in values), np.zeros(len(weight), np.float32))
            factor = factors.get(node.output[0], np.float32(1))
            yield node.name or node.output[0], weight * factor, bias * factor


def _places(network: nn.Module) -> Iterator[_Place]:
    """Yields the convolutions in the order in which they are declared, which is that of their computation."""
    modules = [(path, m) for path, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    for (path, module), (_, after) in zip_longest(modules, modules[1:], fillvalue=("", None)):
        if isinstance(module, nn.Conv2d):
            yield path, module, after if isinstance(after, nn.BatchNorm2d) else None


@torch.no_grad()
def _fill(folded: _Folded, place: _Place) -> None:
    (_, weight, bias), (_, convolution, norm) = folded, place
    convolution.weight.copy_(torch.from_numpy(weight))
    if norm is not None:
        norm.reset_parameters()
        norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]
    added = convolution.bias if norm is None else norm.bias
    added.copy_(torch.from_numpy(bias))  # type: ignore[union-attr]


def _check(network: nn.Module, graph: bytes, path: Path) -> None:
    """Raises `UsageError` where network and graph answer differently: one computes what the other does not."""
    images = np.random.default_rng(0).standard_normal((1, 3, *(input_size(path) or _TRIED_SIZE)), np.float32)
    try:
        session = open_session(graph)
        wanted = session.run(None, {session.get_inputs()[0].name: images})
    except Exception as error:
        raise UsageError(f"{path.name}: ONNX Runtime does not run it: {first_line(error)}") from None
    with torch.no_grad():
        answers = [answer.numpy() for answer in network(torch.from_numpy(images))]
    if [answer.size for answer in answers] != [output.size for output in wanted]:
        shapes = [list(output.shape) for output in wanted], [list(answer.shape) for answer in answers]
        raise UsageError(f"{path.name}: got outputs {shapes[0]}, expected {shapes[1]}")
    for answer, output in zip(answers, wanted, strict=True):  # some graphs leave the batch of one out
        if not np.allclose(answer, output.reshape(answer.shape), rtol=0, atol=_TOLERANCE * np.abs(output).max()):
            raise UsageError(f"{path.name}: its answers are not those of the network with its weights, expected SCRFD")
