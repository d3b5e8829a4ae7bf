"""Structured pruning: channels are really removed, with everything that depends on them.

Source: Fang et al. 2023, DepGraph (https://arxiv.org/abs/2301.12900), by their library torch-pruning.
"""

import copy
from collections.abc import Mapping

import torch
import torch_pruning
from torch import nn

from compressors.data.datasets import Dataset
from compressors.networks.layers import weighted
from compressors.tasks.table import STUDIED


def remove_channels(network: nn.Module, ratio: float, data: Dataset, whole: nn.Module | None = None) -> nn.Module:
    """Returns a copy of `network` without the share `ratio` of each layer's channels, those of least L2 norm.

    The share is of the channels of `whole`, the network before earlier rounds, or else of `network` itself.
    Channel counts are rounded down to multiples of 8, which is what int8 kernels are vectorized by, or of
    4, 2, 1 where a layer is left with fewer. The last layers keep their outputs. Raises `ValueError` for a
    network with attention: its heads are not channels.
    """
    if any(isinstance(module, nn.MultiheadAttention) for module in network.modules()):
        raise ValueError("channel pruning does not take networks with attention: element-pruning does")
    wanted = {path: _kept(layer.weight.shape[0], ratio) for path, layer in weighted(whole or network)}
    pruned = copy.deepcopy(network)
    narrow(pruned, wanted, STUDIED[data.task].last_layers(pruned, data), torch.zeros(1, 3, *data.preprocessing.resize))
    return pruned


def narrow(network: nn.Module, wanted: Mapping[str, int], keeping: list[nn.Module], example: torch.Tensor) -> None:
    """Leaves the layers at the paths `wanted` so many channels, but for those that are to keep their outputs."""
    layers = dict(weighted(network))
    widths = {path: layer.weight.shape[0] for path, layer in layers.items()}
    # Every dictionary and list is passed: the library's defaults are shared objects that it writes to.
    pruner = torch_pruning.pruner.BasePruner(
        network,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        # What is left is rounded down: a hair more keeps 48 * (1 - 1/3) from being 31. The library's own round_to
        # takes too much of grouped convolutions, for which it mixes up a group's channels with those of the layer.
        pruning_ratio_dict={layers[path]: 1 - (width + 1e-6) / widths[path] for path, width in wanted.items()},
        ignored_layers=keeping,
        in_channel_groups={},
        out_channel_groups={},
        num_heads={},
        channel_groups={},
    )
    pruner.step()


def _kept(width: int, ratio: float) -> int:
    """Returns how many of `width` channels are left."""
    left = max(1, int(width * (1 - ratio) + 1e-6))
    return left - left % next(step for step in (8, 4, 2, 1) if step <= left)
