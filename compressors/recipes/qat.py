"""Quantization-aware training: rounding is part of the forward pass while the network is fine-tuned.

Weights are rounded as `rounding` does, the inputs of convolutions and linear layers to 256 levels of a moving
range. Afterwards the rounding is taken away; what is left is an FP32 network that each runtime's own static-int8
lowers with less loss. One scale for each output channel makes that possible: folding a batch norm multiplies
each channel by a number, which multiplies its scale as well and leaves every int8 code as it was, so that what
was trained here is what a runtime computes after it has folded.
Source: Jacob et al. 2018 (https://arxiv.org/abs/1712.05877)
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.ao.quantization import FusedMovingAvgObsFakeQuantize, MovingAverageMinMaxObserver
from torch.nn.utils import parametrize

from compressors.networks.layers import weighted
from compressors.recipes.rounding import rounded

_INPUT = "rounded_input"


class _Weight(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns the weight as int8 holds it."""
        return rounded(weight)


def _round_input(layer: nn.Module, arguments: tuple[torch.Tensor, ...]) -> torch.Tensor:
    rounding: nn.Module = getattr(layer, _INPUT)
    value: torch.Tensor = rounding(arguments[0].float())  # it takes no bfloat16, which autocast hands on
    return value


@contextmanager
def rounding_in_forward(network: nn.Module) -> Iterator[None]:
    """Within the block, `network` computes with rounded weights and inputs; after it, with its weights as trained."""
    hooks = []
    for _, layer in weighted(network):
        levels = FusedMovingAvgObsFakeQuantize(MovingAverageMinMaxObserver, 0, 255, dtype=torch.quint8)
        layer.add_module(_INPUT, levels)
        hooks.append(layer.register_forward_pre_hook(_round_input))
        parametrize.register_parametrization(layer, "weight", _Weight())
    try:
        yield
    finally:
        for _, layer in weighted(network):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
            delattr(layer, _INPUT)
        for hook in hooks:
            hook.remove()
