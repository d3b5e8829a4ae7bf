"""The layers whose weights are compressed: convolutions and linear layers."""

from collections.abc import Iterator

from torch import nn

Layer = nn.Conv2d | nn.Linear


def weighted(network: nn.Module) -> Iterator[tuple[str, Layer]]:
    """The convolutions and linear layers of a network, by path."""
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield path, module
