"""Element-wise pruning by magnitude, with torch.nn.utils.prune; what was pruned stays zero in every later training.

Source: https://docs.pytorch.org/tutorials/intermediate/pruning_tutorial.html
It does not make anything faster by itself: kernels are dense. It makes files smaller that are stored compressed.
"""

import copy
from typing import Literal

import torch
from torch import nn
from torch.nn.utils import prune

from compressors.networks.layers import weighted


def sparsify(network: nn.Module, sparsity: float, scope: Literal["local", "global"]) -> nn.Module:
    """Returns a copy in which the share `sparsity` of conv and linear weights, rounded to whole weights, is zero.

    With scope "local" that is so in each layer. Weights that are zero already count.
    """
    pruned = copy.deepcopy(network)
    weights = [(layer, "weight") for _, layer in weighted(pruned)]
    for group in [weights] if scope == "global" else [[one] for one in weights]:
        total = sum(layer.weight.numel() for layer, _ in group)
        # A count, not a share: the library would round the share of what is left, not of the whole.
        prune.global_unstructured(group, prune.L1Unstructured, amount=round(sparsity * total))
    for layer, name in weights:
        prune.remove(layer, name)
    return pruned


class PruningMask:
    """The zeros among a network's conv and linear weights, to be set back to zero after each step of a training.

    A layer that is all zero is left free: it was not pruned, it is waiting for its first values.
    """

    def __init__(self, network: nn.Module) -> None:
        # The parameter itself, which is not `layer.weight` while quantization-aware training computes that from it.
        weights = [p for _, layer in weighted(network) for p in layer.parameters() if p.ndim > 1]
        masks = [(weight, weight.detach().ne(0)) for weight in weights]
        self._masks = [(weight, mask) for weight, mask in masks if mask.any() and not mask.all()]

    @torch.no_grad()
    def reapply(self) -> None:
        """Sets to zero what was zero when training began."""
        for weight, mask in self._masks:
            weight.mul_(mask)
