"""Three small families of convolutional networks for 32x32, each of 0.22 to 0.23 million parameters for ten classes.

They differ in nothing but the kind of convolution, so that it alone is what a comparison of them compares.
A stem to 16x16, and three stages of two blocks, each at half the size and twice the width of the one before.
Sources: https://arxiv.org/abs/1704.04861 (MobileNet), https://arxiv.org/abs/1611.05431 (ResNeXt)
"""

from collections.abc import Callable

from torch import nn

Convolution = Callable[[int, int, int], nn.Module]
"""Input channels, output channels and stride to a 3x3 convolution."""

GROUPS = 4


def plain(classes: int) -> nn.Module:
    """Makes the network of 3x3 convolutions."""
    return _network(classes, 28, lambda i, o, stride: nn.Conv2d(i, o, 3, stride, 1, bias=False))


def depthwise_pointwise(classes: int) -> nn.Module:
    """Makes the one of depthwise 3x3, then pointwise 1x1 convolutions, as in MobileNet."""
    return _network(classes, 80, lambda i, o, stride: _separable(i, o, stride, groups=i))


def grouped(classes: int) -> nn.Module:
    """Makes the one of grouped 3x3, then pointwise 1x1 convolutions that mix the groups, as in ResNeXt."""
    return _network(classes, 48, lambda i, o, stride: _separable(i, o, stride, GROUPS))


def _separable(i: int, o: int, stride: int, groups: int) -> nn.Module:
    spatial = nn.Conv2d(i, i, 3, stride, 1, groups=groups, bias=False)
    return nn.Sequential(*_block(spatial, i), nn.Conv2d(i, o, 1, bias=False))


def _network(classes: int, width: int, convolution: Convolution) -> nn.Module:
    layers: list[nn.Module] = [*_block(nn.Conv2d(3, width, 3, 2, 1, bias=False), width)]
    before = width
    for stage in range(3):
        after = width << stage
        for stride in (1 if stage == 0 else 2, 1):
            layers += _block(convolution(before, after, stride), after)
            before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def _block(convolution: nn.Module, width: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return convolution, nn.BatchNorm2d(width), nn.ReLU()
