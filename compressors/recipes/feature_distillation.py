"""Feature distillation: the student's stages learn what the teacher's hold, the deep ones reviewing the early ones.

Chen et al. 2021, ReviewKD (https://arxiv.org/abs/2104.09044). From the deepest stage to the first, attention
based fusion (ABF) mixes a stage's features with what the deeper ones handed on; each mixture is compared with the
teacher's features of that stage by a hierarchical context loss (HCL). The fusions are trained with the student and
thrown away. Not covered: the paper's warm-up of the weight, and vectors as a last stage.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from compressors.recipes.steps import Review

WIDEST = 512
"""Channels of the fused features, unless the student's last stage has fewer."""


class FeatureDistillation(nn.Module):
    """The fusions, and the loss of the features that the two networks last computed."""

    def __init__(self, student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor], weight: float) -> None:
        """Takes features (N, C, H, W) of the sizes that will be compared, from the first stage to the last."""
        super().__init__()
        middle, deepest = min(WIDEST, student[-1].shape[1]), len(student) - 1
        self._fusions = nn.ModuleList(
            _Fusion(ours.shape[1], middle, theirs.shape[1], fuse=index < deepest)
            for index, (ours, theirs) in enumerate(zip(student, teacher, strict=True))
        )
        self._weight = weight
        self.student: list[torch.Tensor] = []
        self.teacher: list[torch.Tensor] = []

    def loss(self) -> torch.Tensor:
        """Returns the weighted loss of one batch and forgets its features."""
        total, deeper = torch.zeros(()), None
        for fusion, ours, theirs in reversed(list(zip(self._fusions, self.student, self.teacher, strict=True))):
            answer, deeper = fusion(ours, deeper, theirs.shape[2:])
            total = total + hierarchical_context(answer.float(), theirs.float())
        self.student.clear()
        self.teacher.clear()
        return self._weight * total


class _Fusion(nn.Module):
    """Attention based fusion of a stage with the fused features of the deeper one."""

    def __init__(self, inputs: int, middle: int, outputs: int, fuse: bool) -> None:
        super().__init__()
        self._enter = nn.Sequential(nn.Conv2d(inputs, middle, 1, bias=False), nn.BatchNorm2d(middle))
        self._leave = nn.Sequential(nn.Conv2d(middle, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self._attention = nn.Sequential(nn.Conv2d(2 * middle, 2, 1), nn.Sigmoid()) if fuse else None

    def forward(
        self, own: torch.Tensor, deeper: torch.Tensor | None, size: torch.Size
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns what is compared with the teacher, of height and width `size`, and what the stage before is given."""
        fused = self._enter(own)
        if self._attention is not None and deeper is not None:
            resized = functional.interpolate(deeper, fused.shape[2:])
            attention = self._attention(torch.cat([fused, resized], 1))
            fused = fused * attention[:, :1] + resized * attention[:, 1:]
        if fused.shape[2:] != size:
            fused = functional.interpolate(fused, size)
        return self._leave(fused), fused


def hierarchical_context(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Returns the mean squared error of features (N, C, H, W) at full size and at 4, 2, 1, each for half as much."""
    loss, weight, weights = functional.mse_loss(ours, theirs), 1.0, 1.0
    for size in (4, 2, 1):
        if size < ours.shape[2]:
            weight /= 2
            one, other = (functional.adaptive_avg_pool2d(features, size) for features in (ours, theirs))
            loss, weights = loss + weight * functional.mse_loss(one, other), weights + weight
    return loss / weights


@contextmanager
def distilling(
    student: nn.Module, teacher: nn.Module, how: Review, example: torch.Tensor
) -> Iterator[FeatureDistillation]:
    """Within the block, the yielded loss is given the features of each forward pass of both networks.

    Raises `ValueError` for a stage that a network does not have or that gives no (N, C, H, W).
    """
    theirs = how.teacher_stages or how.stages
    features = _features(student, how.stages, example), _features(teacher, theirs, example)
    reviewer = FeatureDistillation(*features, how.weight)
    with _recording(student, how.stages, reviewer.student), _recording(teacher, theirs, reviewer.teacher):
        yield reviewer


def _features(network: nn.Module, stages: Sequence[str], example: torch.Tensor) -> list[torch.Tensor]:
    known = dict(network.named_modules())
    if unknown := [stage for stage in stages if stage not in known]:
        raise ValueError(f"review.stages: got '{unknown[0]}', expected a layer such as '{list(known)[1]}'")
    features: list[torch.Tensor] = []
    was_training = network.training
    with torch.no_grad(), _recording(network, stages, features):
        network.eval()(example)
    network.train(was_training)
    if len(features) != len(stages) or any(feature.ndim != 4 for feature in features):
        raise ValueError(f"review.stages: got {list(stages)}, expected layers that each give one (N, C, H, W)")
    return features


@contextmanager
def _recording(network: nn.Module, stages: Sequence[str], kept: list[torch.Tensor]) -> Iterator[None]:
    """Adds to `kept` what the stages compute within the block."""
    layers = [network.get_submodule(stage) for stage in stages]
    hooks = [layer.register_forward_hook(lambda module, inputs, output: kept.append(output)) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
