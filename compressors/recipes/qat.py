"""Quantization-aware training, and the int8 rounding of weights that it is based on.

Weights are rounded as int8 runtimes do it, symmetric, one scale for each output channel. While the network is
fine-tuned, rounding is part of its forward pass, and the inputs of convolutions and linear layers are rounded to 256
levels of a moving range. Afterwards the rounding is taken away; what is left is an FP32 network that each runtime's
own static-int8 lowers with less loss: folding a batch norm multiplies each channel by a number, which multiplies its
scale as well and leaves every int8 code as it was, so that what was trained here is what a runtime computes.
Source: Jacob et al. 2018 (https://arxiv.org/abs/1712.05877)
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.ao.quantization import FusedMovingAvgObsFakeQuantize, MovingAverageMinMaxObserver
from torch.nn.utils import parametrize

from compressors.networks.layers import weighted, weights

LARGEST = 127
"""The codes are -127 to 127: symmetric, so that zero stays zero."""

_INPUT = "rounded_input"


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """Rounds a weight (outputs, ...) to 255 levels in each output channel; gradients pass as if it were not."""
    largest = weight.detach().abs().flatten(1).amax(1)
    scale = torch.where(largest > 0, largest / LARGEST, 1.0)
    zero_points = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero_points, 0, -LARGEST, LARGEST)


def round_weights(network: nn.Module) -> nn.Module:
    """Returns a copy with all weights rounded."""
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for weight in weights(copied).values():
            weight.copy_(rounded(weight))
    return copied


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
