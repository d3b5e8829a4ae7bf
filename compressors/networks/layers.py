"""Layers whose weights are compressed, weights as layers really have them, and what a network's outputs are called."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

INPUT, OUTPUT = "input", "logits"
"""Names of the input, and of the output where there is one, in every artifact that has names."""

Layer = nn.Conv2d | nn.Linear


def output_names(network: nn.Module) -> tuple[str, ...]:
    """Returns the names of a network's outputs: those that it gives them in `outputs`, else that of the only one."""
    names: tuple[str, ...] = getattr(network, "outputs", (OUTPUT,))
    return names


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


def with_plain_weights(network: nn.Module) -> nn.Module:
    """Returns the network after weights that each call makes of others (`weight_norm`, masks) became plain ones."""
    for module in list(network.modules()):
        for name in list(getattr(module, "parametrizations", ())) if parametrize.is_parametrized(module) else ():
            parametrize.remove_parametrizations(module, name)
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
                module._load_state_dict_pre_hooks.clear()  # where torch 2.13 leaves its own, which then finds nothing
            elif isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)
    return network
