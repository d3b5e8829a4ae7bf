"""SCRFD, a detector of one stage for small objects such as faces: a backbone, a neck that mixes its three last levels,
and a head for each of them.

Every position of a level has two anchors of one centre, and each row of the outputs is an anchor: its score for every
class, its distances to the four sides of the box, and the offsets of the key points, both in units of the stride.
Inputs are (N, 3, H, W) with sides that are multiples of 32, normalised as (pixel - 127.5) / 128.
Source: Guo et al. 2021 (https://arxiv.org/abs/2105.04714)
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

STRIDES = (8, 16, 32)
ANCHORS = 2
"""Anchors of a position."""
SIDES = ((16, 32), (64, 128), (256, 512))
"""Sides in pixels of the square anchors of a position, for each of `STRIDES`: what training starts from."""
OUTPUTS: tuple[str, ...] = tuple(f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in STRIDES)
"""Names of the outputs in their order; a network without key points gives the first six."""

_RARE = -4.595
"""The logit of 0.01: in the beginning almost nothing is an object (https://arxiv.org/abs/1708.02002)."""


def scrfd_500m_kps(classes: int = 1, keypoints: int = 5) -> "Scrfd":
    """Makes SCRFD_500M_KPS: depthwise separable convolutions, 0.63 M parameters, 0.55 G MACs at 640x480."""
    backbone = MobileNet((16, 40, 72, 152, 288), (2, 3, 2, 6))
    towers = [nn.Sequential(_separable(16, 64), _separable(64, 64)) for _ in STRIDES]
    return Scrfd(backbone, Pafpn(backbone.widths, 16), [Head(tower, 64, classes, keypoints) for tower in towers])


def scrfd_10g_kps(classes: int = 1, keypoints: int = 5) -> "Scrfd":
    """Makes SCRFD_10G_KPS, a teacher for the small one: a residual network, 4.23 M parameters, 10 G MACs at 640x480.

    The authors multiply the boxes of each level by a learned number; here the weights of its convolution hold that.
    """
    backbone = ResNet(28, (56, 88, 88, 224), (3, 4, 2, 3))
    towers = [nn.Sequential(_convolution(56, 80), _convolution(80, 80), _convolution(80, 80)) for _ in STRIDES]
    return Scrfd(backbone, Pafpn(backbone.widths, 56), [Head(tower, 80, classes, keypoints) for tower in towers])


class Scrfd(nn.Module):
    """Backbone, neck and one head for each of `STRIDES`, with the initial values of the authors.

    But in the beginning a box is its anchor, where theirs is a point: a point overlaps nothing, so that scores, which
    learn how well boxes fit, and boxes, by the gradient of their overlap, would both start from zero.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, heads: Sequence["Head"]) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, nn.ModuleList(heads)
        _initialise(self.backbone, lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"))
        _initialise(self.neck, nn.init.xavier_uniform_)
        _initialise(self.head, lambda w: nn.init.normal_(w, std=0.01))
        for head, stride, sides in zip(heads, STRIDES, SIDES, strict=True):
            nn.init.constant_(head.score.bias, _RARE)  # type: ignore[arg-type]
            distances = torch.tensor(sides).repeat_interleave(4) / (2 * stride)
            head.box.bias.data.copy_(distances)  # type: ignore[union-attr]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what it returns."""
        return OUTPUTS if self.keypoints else OUTPUTS[:-3]

    @property
    def keypoints(self) -> int:
        """Points of each box."""
        return self.head[0].keypoints  # type: ignore[return-value]

    def last_layers(self) -> list[nn.Module]:
        """Returns the convolutions that make the outputs."""
        kinds = ("score", "box", "points") if self.keypoints else ("score", "box")
        return [head.get_submodule(kind) for head in self.head for kind in kinds]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns `OUTPUTS`: probabilities (N, n, classes) of each level, boxes (N, n, 4), key points (N, n, 2P).

        The n rows of a level are ordered by y, x, anchor.
        """
        outputs, levels = self.logits(images), len(self.head)
        return (*(score.sigmoid() for score in outputs[:levels]), *outputs[levels:])

    def logits(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the outputs with scores before their sigmoid, which is what a loss is computed from."""
        features = self.neck(self.backbone(images))
        levels = [head(feature) for head, feature in zip(self.head, features, strict=True)]
        return tuple(output for kind in zip(*levels, strict=True) for output in kind)


class MobileNet(nn.Module):
    """Stages of depthwise separable blocks, the first block of each at half the size of the stage before.

    Source: Howard et al. 2017 (https://arxiv.org/abs/1704.04861)
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths[-len(STRIDES) :])
        self.stem = nn.Sequential(_convolution(3, widths[0], stride=2), _separable(widths[0], widths[0]))
        self.stages = nn.ModuleList()
        for before, after, depth in zip(widths, widths[1:], depths, strict=False):
            rest = (_separable(after, after) for _ in range(depth - 1))
            self.stages.append(nn.Sequential(_separable(before, after, stride=2), *rest))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Returns the features of the last three stages, the finest first."""
        return _last_levels(self.stem(images), self.stages)


class ResNet(nn.Module):
    """Stages of basic blocks behind a stem of three convolutions.

    Source: He et al. 2019, ResNet-D (https://arxiv.org/abs/1812.01187)
    """

    def __init__(self, stem: int, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths[-len(STRIDES) :])
        deep = (_convolution(3, stem, stride=2), _convolution(stem, stem), _convolution(stem, widths[0]))
        self.stem = nn.Sequential(*deep, nn.MaxPool2d(2, 2))
        self.stages, before = nn.ModuleList(), widths[0]
        for number, (after, depth) in enumerate(zip(widths, depths, strict=True)):
            first = BasicBlock(before, after, stride=1 if number == 0 else 2)
            self.stages.append(nn.Sequential(first, *(BasicBlock(after, after) for _ in range(depth - 1))))
            before = after

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Returns the features of the last three stages, the finest first."""
        return _last_levels(self.stem(images), self.stages)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is made smaller by an average."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.first, self.second = _convolution(before, after, stride=stride), _convolution(after, after, relu=False)
        self.shortcut = nn.Sequential()
        if stride > 1 or before != after:
            pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
            self.shortcut = nn.Sequential(pool, _convolution(before, after, size=1, relu=False))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, after, H / stride, W / stride) for (N, before, H, W)."""
        residual: torch.Tensor = self.second(self.first(x))
        return self.relu(residual + self.shortcut(x))  # type: ignore[no-any-return]


class Pafpn(nn.Module):
    """A feature pyramid with a second way from fine to coarse; it has neither norms nor activations.

    Source: Liu et al. 2018 (https://arxiv.org/abs/1803.01534)
    """

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()

        def convolutions(count: int, stride: int = 1) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(width, width, 3, stride, 1) for _ in range(count))

        self.lateral = nn.ModuleList(nn.Conv2d(given, width, 1) for given in widths)
        self.smooth = convolutions(len(widths))
        self.down = convolutions(len(widths) - 1, stride=2)
        self.last = convolutions(len(widths) - 1)

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Returns a feature (N, width, H, W) for each one of the backbone."""
        levels = [convolution(feature) for convolution, feature in zip(self.lateral, features, strict=True)]
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + functional.interpolate(levels[i], scale_factor=2.0, mode="nearest")
        levels = [convolution(level) for convolution, level in zip(self.smooth, levels, strict=True)]
        for i, convolution in enumerate(self.down):
            levels[i + 1] = levels[i + 1] + convolution(levels[i])
        return [levels[0], *(convolution(level) for convolution, level in zip(self.last, levels[1:], strict=True))]


class Head(nn.Module):
    """The predictors of one level behind the convolutions that they share."""

    def __init__(self, tower: nn.Module, width: int, classes: int, keypoints: int) -> None:
        super().__init__()
        self.tower, self.classes, self.keypoints = tower, classes, keypoints
        self.score = nn.Conv2d(width, ANCHORS * classes, 3, padding=1)
        self.box = nn.Conv2d(width, ANCHORS * 4, 3, padding=1)
        if keypoints:
            self.points = nn.Conv2d(width, ANCHORS * 2 * keypoints, 3, padding=1)

    def forward(self, feature: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the logits of scores, the boxes and the key points, if any, of all anchors: (N, n, ...) each."""
        shared = self.tower(feature)
        found = (_rows(self.score(shared), self.classes), _rows(self.box(shared), 4))
        return (*found, _rows(self.points(shared), 2 * self.keypoints)) if self.keypoints else found


def _rows(maps: torch.Tensor, width: int) -> torch.Tensor:
    """Returns (N, 2 * width, H, W) as (N, n, width), ordered by y, x, anchor."""
    flat = maps.permute(0, 2, 3, 1).flatten(1)
    return flat.unflatten(1, (-1, width))  # type: ignore[no-any-return]


def _last_levels(x: torch.Tensor, stages: nn.ModuleList) -> list[torch.Tensor]:
    levels = []
    for stage in stages:
        x = stage(x)
        levels.append(x)
    return levels[-len(STRIDES) :]


def _convolution(i: int, o: int, size: int = 3, stride: int = 1, groups: int = 1, relu: bool = True) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(i, o, size, stride, size // 2, groups=groups, bias=False)
    layers["norm"] = nn.BatchNorm2d(o)
    if relu:
        layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


def _separable(i: int, o: int, stride: int = 1) -> nn.Sequential:
    depthwise, pointwise = _convolution(i, i, stride=stride, groups=i), _convolution(i, o, size=1)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))


def _initialise(part: nn.Module, weight: Callable[[torch.Tensor], torch.Tensor]) -> None:
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            weight(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
