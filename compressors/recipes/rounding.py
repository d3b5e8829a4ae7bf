"""int8 rounding of weights, symmetric, one scale for each output channel: as int8 runtimes do it."""

import copy

import torch
from torch import nn

from compressors.networks.layers import weights

LARGEST = 127
"""The codes are -127 to 127: symmetric, so that zero stays zero."""


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """A weight (outputs, ...) at the nearest of 255 levels in each of its output channels; gradients pass as if not."""
    largest = weight.detach().abs().flatten(1).amax(1)
    scale = torch.where(largest > 0, largest / LARGEST, 1.0)
    zero_points = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero_points, 0, -LARGEST, LARGEST)


def round_weights(network: nn.Module) -> nn.Module:
    """A copy with all weights rounded."""
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for weight in weights(copied).values():
            weight.copy_(rounded(weight))
    return copied
