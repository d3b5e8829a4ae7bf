"""A network that computes in half precision between FP32 inputs and FP32 outputs."""

import copy

import torch
from torch import nn

from protos.manifest import Precision


class Half(nn.Module):
    """Computes `network` in the precision "fp16" or "bf16", between two casts."""

    def __init__(self, network: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.kind = torch.bfloat16 if precision == "bf16" else torch.float16
        self.network = copy.deepcopy(network).to(self.kind)
        self.eval()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Returns FP32 outputs for FP32 inputs."""
        outputs = self.network(inputs.to(self.kind))
        return outputs.float() if isinstance(outputs, torch.Tensor) else tuple(each.float() for each in outputs)
