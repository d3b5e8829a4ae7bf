"""What stays in floating point while the rest of a network becomes int8: layers that are named, and the tail.

The tail is what follows the last layers, those with weights: sigmoids, reshapes and whatever else makes outputs of what
these compute. One 8-bit scale for a tensor of scores below 1 beside boxes of hundreds of pixels would leave no scores.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import fx, nn
from torch.ao.quantization import ObserverBase

Node = TypeVar("Node")
Layer = TypeVar("Layer")


def tail(
    ends: Iterable[Node], before: Callable[[Node], Iterable[Node]], is_layer: Callable[[Node], bool]
) -> dict[Node, None]:
    """Returns the nodes of a graph, `ends` among them, from which an end is reached without passing a layer."""
    found, open_ends = dict[Node, None](), list(ends)
    while open_ends:
        node = open_ends.pop()
        if node not in found and not is_layer(node):
            found[node] = None
            open_ends += before(node)
    return found


def is_expectation(weight: NDArray[Any]) -> bool:
    """Says whether a weight holds 0, 1, 2, ...: the bins of a distribution, whose mean is a side of a box.

    It is no layer: what it computes belongs to the tail. Source: Li et al. 2020 (https://arxiv.org/abs/2006.04388)
    """
    return weight.size > 1 and np.array_equal(weight.ravel(), np.arange(weight.size))


def named(names: Iterable[str], layers: Mapping[str, Layer]) -> list[Layer]:
    """Returns the layers that a step keeps in floating point; raises `ValueError` for a name that is none."""
    for name in names:
        if name not in layers:
            few = ", ".join(list(layers)[:3])
            raise ValueError(f"float_layers: got '{name}', expected layers of the network, such as {few}")
    return [layers[name] for name in names]


def take_observers_out(prepared: nn.Module, stays: Callable[[fx.Node], bool]) -> None:
    """Takes what would round the tail's values out of a graph that torch prepared for int8.

    The outputs of the last layers for which `stays` holds are rounded all the same.
    """
    assert isinstance(prepared, fx.GraphModule)
    modules = dict(prepared.named_modules(remove_duplicate=False))
    (output,) = (node for node in prepared.graph.nodes if node.op == "output")
    found = tail([output], lambda node: node.all_input_nodes, lambda node: _is_torch_layer(node, modules))
    for node in found:
        if isinstance(modules.get(str(node.target)), ObserverBase) and not stays(node.all_input_nodes[0]):
            for user in [user for user in node.users if user in found]:
                user.replace_input_with(node, node.all_input_nodes[0])
    prepared.graph.eliminate_dead_code()
    prepared.recompile()


def _is_torch_layer(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_function":
        return getattr(node.target, "__name__", "").startswith(("conv", "linear"))  # of functional and of aten
    inside = modules[str(node.target)].modules() if node.op == "call_module" else ()
    return any(isinstance(module, nn.Linear | nn.modules.conv._ConvNd) for module in inside)
