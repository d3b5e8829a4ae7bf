"""The layers whose weights are compressed: convolutions and linear layers."""

from collections.abc import Iterator

import torch
from torch import nn

Layer = nn.Conv2d | nn.Linear


def weighted(network: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Yields the convolutions and linear layers of a network, with their paths."""
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield path, module


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Returns the weights to round or cluster, by layer: of convolutions, linear layers and attention's inputs."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            found[name] = module.weight
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found[f"{name}.in_proj"] = module.in_proj_weight
    return found
