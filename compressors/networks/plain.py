"""Plain networks by a line of channels, `plain:16/2,32/2,32,64/2,64`: nothing but 3x3 convolutions, one after another.

Each entry is a convolution's output channels, and its stride behind a slash where that is not 1; batch normalization
and ReLU follow, and at the end the mean over the image and a linear layer. With branches, as RepVGG trains it, each
convolution has a 1x1 convolution beside it, and where its input has the shape of its output the input itself, each with
a batch normalization of its own. Their sum is one 3x3 convolution again.
Source: https://arxiv.org/abs/2101.03697
"""

import re
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

FAMILY = "plain:"
_ENTRY = re.compile(r"([1-9]\d{0,3})(?:/([1-4]))?")


def is_plain(name: str) -> bool:
    """Says whether a name is that of a plain network, right or wrong in what follows."""
    return name.startswith(FAMILY)


def line(name: str) -> list[tuple[int, int]]:
    """Returns the output channels and stride of each convolution; raises `ValueError` where the name has none."""
    entries = [_ENTRY.fullmatch(entry) for entry in name.removeprefix(FAMILY).split(",")]
    layers = [(int(entry[1]), int(entry[2] or 1)) for entry in entries if entry]
    if len(layers) < len(entries):
        raise ValueError(f"got '{name}', expected channels and strides such as {FAMILY}16/2,32/2,32,64")
    return layers


def factory(name: str) -> Callable[[int], nn.Module]:
    """Returns what makes the network of that name for a number of classes."""
    layers = line(name)

    def make(classes: int) -> nn.Module:
        made: list[nn.Module] = []
        before = 3
        for width, stride in layers:
            made += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        return nn.Sequential(*made, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))

    return make


class Branches(nn.Module):
    """What is trained in the place of a 3x3 convolution and its batch normalization."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        before, width, stride = convolution.in_channels, convolution.out_channels, convolution.stride[0]
        self.three, self.three_norm = convolution, nn.BatchNorm2d(width)
        self.one, self.one_norm = nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
        self.itself = nn.BatchNorm2d(width) if (before, stride) == (width, 1) else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        branches: torch.Tensor = self.three_norm(self.three(x)) + self.one_norm(self.one(x))
        return branches if self.itself is None else branches + self.itself(x)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns weight (C', C, 3, 3) and bias (C',) of the one convolution that they are in evaluation mode."""
        parts = [(self.three.weight, self.three_norm), (functional.pad(self.one.weight, [1] * 4), self.one_norm)]
        if self.itself is not None:
            parts.append((functional.pad(torch.eye(self.one.in_channels)[:, :, None, None], [1] * 4), self.itself))
        folded = [fuse_conv_bn_weights(kernel, None, *_statistics(norm)) for kernel, norm in parts]
        weights, biases = zip(*folded, strict=True)
        return torch.stack(weights).sum(0), torch.stack(biases).sum(0)


def _statistics(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor, float, torch.Tensor, torch.Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias


def with_branches(network: nn.Module) -> nn.Module:
    """Returns a plain network with branches; those of 3x3 begin as the network's own."""
    return nn.Sequential(*(Branches(m) if isinstance(m, nn.Conv2d) else m for m in _layers(network)))


def _layers(network: nn.Module) -> list[nn.Module]:
    """Returns the layers of a plain network but for the batch normalizations, which each branch has itself."""
    return [module for module in network.children() if not isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def fold_branches(trained: nn.Module, network: nn.Module) -> nn.Module:
    """Returns the plain `network` with the weights that a trained one with branches has, in evaluation mode."""
    for module, layer in zip(trained.children(), _layers(network), strict=True):
        if isinstance(layer, nn.Linear):
            layer.load_state_dict(module.state_dict())
    branches = (module for module in trained.children() if isinstance(module, Branches))
    norms = (module for module in network.children() if isinstance(module, nn.BatchNorm2d))
    convolutions = (module for module in network.children() if isinstance(module, nn.Conv2d))
    for module, convolution, norm in zip(branches, convolutions, norms, strict=True):
        weight, bias = module.folded()
        convolution.weight.copy_(weight)
        norm.reset_running_stats()
        norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]
        norm.weight.fill_(1)
        norm.bias.copy_(bias)
    return network.eval()
