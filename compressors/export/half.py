"""A network that computes in half precision between FP32 inputs and FP32 outputs."""

import copy

import torch
from torch import nn


class Half(nn.Module):
    """`network` in `kind`, torch.float16 or torch.bfloat16, between two casts."""

    def __init__(self, network: nn.Module, kind: torch.dtype) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).to(kind)
        self.kind = kind
        self.eval()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """FP32 in, FP32 out."""
        outputs: torch.Tensor = self.network(inputs.to(self.kind))
        return outputs.float()
