"""Classification: cross entropy, soft labels of a teacher, images that are shifted and mirrored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn
from torch.nn import functional

from compressors.data.datasets import Dataset
from compressors.networks.layers import OUTPUT, weighted
from compressors.recipes.steps import Fit
from compressors.report.columns import AGAINST, Column, agreement, of_metric, of_quality
from compressors.tasks.task import Network
from protos.manifest import Quality
from protos.support.significance import mcnemar_p
from protos.tasks.task import Arrays, Rows

DISTILLATION_TEMPERATURE = 4.0
"""Hinton et al. 2015 (https://arxiv.org/abs/1503.02531) use 2 to 5 for networks of this size."""


@dataclass(frozen=True)
class LabelledBatch:
    """Images and their class indices (N,)."""

    inputs: torch.Tensor
    labels: torch.Tensor
    distillation: float
    smoothing: float

    def loss(self, network: Network, taught: torch.Tensor | Sequence[torch.Tensor] | None) -> torch.Tensor:
        """Returns the cross entropy, or its mean with how far soft labels are from the teacher's logits."""
        logits = network(self.inputs).float()
        loss = functional.cross_entropy(logits, self.labels, label_smoothing=self.smoothing)
        if not isinstance(taught, torch.Tensor) or self.distillation == 0:
            return loss
        return (1 - self.distillation) * loss + self.distillation * _divergence(logits, taught.float())


class StudiedClassification:
    """See `compressors.tasks.task.StudiedTask`."""

    heading, axis = "Top-1", "top-1 accuracy"
    columns: tuple[Column, ...] = (
        Column("top-1", "top1", of_quality(lambda q: q.value), "{:.2%}", brief=True),
        Column("top-5", "top5", of_metric("top5"), "{:.2%}"),
        *AGAINST,
        Column("agrees with FP32", "agreement", of_quality(agreement), "{:.2%}"),
        Column("lost", "lost", of_quality(lambda q: q.lost), "{}"),
        Column("gained", "gained", of_quality(lambda q: q.gained), "{}"),
        Column("McNemar p", "mcnemar_p", of_quality(lambda q: mcnemar(q)), "{:.2g}"),
    )

    def fault(self, outputs: Arrays, data: Dataset) -> str | None:
        """Returns what is wrong where there is not one vector of numbers for each image, one for each class."""
        if data.decoding is not None:
            return f"got decoder '{data.decoding.decoder}', expected none: the data is of classes, see --task"
        shapes = [list(array.shape) for array in outputs.values()]
        if len(shapes) != 1 or len(shapes[0]) != 2:
            return f"got outputs {shapes} from the network, expected one (N, classes)"
        if shapes[0][1] != len(data.labels):
            return f"the network tells {shapes[0][1]} classes apart, the data has {len(data.labels)}"
        return None

    def batches(self, data: Dataset, how: Fit, seed: int, epoch: int) -> Iterator[LabelledBatch]:
        """Yields shuffled images, shifted and mirrored as `how` says."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        for chosen in torch.randperm(len(data.train), generator=generator).split(how.batch):
            batch = data.train.take(chosen.numpy())
            inputs = augmented(torch.from_numpy(data.inputs(batch)), how, generator)
            labels = torch.from_numpy(batch.truth["labels"])
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            yield LabelledBatch(inputs, labels, how.distillation, how.smoothing)

    def validate(self, data: Dataset, outputs: Sequence[Arrays], rows: Rows) -> tuple[float, list[float] | None]:
        """Returns top-1, and 1 or 0 for each image."""
        labels = data.calibration.truth["labels"][rows]
        right = [float(each[OUTPUT].argmax() == label) for each, label in zip(outputs, labels, strict=True)]
        return float(np.mean(right)), right

    def last_layers(self, network: nn.Module, data: Dataset) -> list[nn.Module]:
        """Returns the linear layers that have an output for each class."""
        linear = (layer for _, layer in weighted(network) if isinstance(layer, nn.Linear))
        return [layer for layer in linear if layer.out_features == len(data.labels)]


def augmented(inputs: torch.Tensor, how: Fit, generator: torch.Generator) -> torch.Tensor:
    """Moves each image of (N, 3, H, W) on its own, zeros coming after, and mirrors half of them; channels come last.

    It copies rows in one thread: torch's gathering is slower, and its threads wait for each other on a busy machine.
    """
    count, _, height, width = inputs.shape
    padded = np.pad(inputs.permute(0, 2, 3, 1).numpy(), [(0, 0), (how.shift,) * 2, (how.shift,) * 2, (0, 0)])
    down, right = torch.randint(0, 2 * how.shift + 1, (2, count), generator=generator).numpy()
    windows = sliding_window_view(padded, (height, width), (1, 2)).transpose(0, 1, 2, 4, 5, 3)
    moved = windows[np.arange(count), down, right]
    if how.flip:
        mirrored = (torch.rand(count, generator=generator) < 0.5).numpy()
        moved[mirrored] = moved[mirrored, :, ::-1]
    return torch.from_numpy(moved).permute(0, 3, 1, 2)


def _divergence(logits: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """Returns how far the student's soft labels are from the teacher's, a scalar."""
    soft = functional.log_softmax(taught / DISTILLATION_TEMPERATURE, 1)
    student = functional.log_softmax(logits / DISTILLATION_TEMPERATURE, 1)
    return DISTILLATION_TEMPERATURE**2 * functional.kl_div(student, soft, reduction="batchmean", log_target=True)


def mcnemar(quality: Quality) -> float | None:
    """Returns how likely flips so one-sided are, if variant and FP32 were equally good."""
    if quality.lost is None or quality.gained is None:
        return None
    return mcnemar_p(quality.lost, quality.gained)
