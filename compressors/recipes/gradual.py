"""Pruning in rounds: a little is taken away, the network is fine-tuned, and again.

Each finished round is kept beside the checkpoint, so that an interrupted step goes on from it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from protos.support import atomic

Restore = Callable[[dict[str, torch.Tensor]], nn.Module]
"""From weights to the network, whatever its widths are."""
Round = Callable[[nn.Module, float], nn.Module]
"""A network and the level it is to reach, to the fine-tuned network at that level."""


def equal_levels(final: float, rounds: int) -> list[float]:
    """Levels up to `final` in equal steps."""
    return [final * number / rounds for number in range(1, rounds)] + [final]


def cubic_levels(final: float, rounds: int) -> list[float]:
    """Levels up to `final`, much at first and little at last: Zhu & Gupta 2017 (https://arxiv.org/abs/1710.01878)."""
    return [final * (1 - (1 - number / rounds) ** 3) for number in range(1, rounds)] + [final]


def climb(network: nn.Module, levels: Sequence[float], one_round: Round, restore: Restore, kept: Path) -> nn.Module:
    """The network after a round at each of `levels`; finished rounds are kept in the folder `kept`."""
    for number, level in enumerate(levels, 1):
        path = kept / f"round{number}.pt"
        if path.is_file():
            network = restore(torch.load(path, weights_only=True))
            continue
        network = one_round(network, level)
        with atomic.new_file(path) as temporary:
            torch.save(network.state_dict(), temporary)
    return network
