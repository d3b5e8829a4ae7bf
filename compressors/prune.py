"""Structured pruning: channels are really removed, with everything that depends on them.

Source: Fang et al. 2023, DepGraph (https://arxiv.org/abs/2301.12900), by their library torch-pruning.
"""

import copy

import torch
import torch_pruning
from torch import nn

from compressors.data import Dataset


def remove_channels(network: nn.Module, ratio: float, data: Dataset) -> nn.Module:
    """A copy of `network` without the share `ratio` of each layer's channels, those of least L2 norm.

    Channel counts are rounded to multiples of 8, which is what int8 kernels are vectorized by. The
    classifier keeps its outputs.
    """
    pruned = copy.deepcopy(network)
    example = torch.zeros(1, 3, *data.preprocessing.resize)
    classifiers = [m for m in pruned.modules() if isinstance(m, nn.Linear) and m.out_features == len(data.labels)]
    # Every dictionary and list is passed: the library's defaults are shared objects that it writes to.
    pruner = torch_pruning.pruner.BasePruner(
        pruned,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        pruning_ratio_dict={},
        ignored_layers=classifiers,
        round_to=8,
        in_channel_groups={},
        out_channel_groups={},
        num_heads={},
        channel_groups={},
    )
    pruner.step()
    return pruned
