"""Detection: anchors that learn their boxes, crops at random scales, average precision."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressors.data.datasets import Dataset
from compressors.data.detection import DetectionSplit
from compressors.networks.scrfd import Scrfd
from compressors.recipes.steps import Fit
from compressors.report.columns import AGAINST, Column, agreement, of_metric, of_quality
from compressors.tasks.augmentation import augment
from compressors.tasks.detection_loss import DetectionLoss
from compressors.tasks.task import Network
from protos import images
from protos.errors import UsageError
from protos.preprocessing import normalise
from protos.tasks.boxes import Truth
from protos.tasks.decoders import DECODERS
from protos.tasks.detection import Detection
from protos.tasks.task import Arrays, Rows

TASK = Detection()


@dataclass(frozen=True)
class BoxedBatch:
    """Crops (N, 3, H, W) and what is in each, in pixels of the input."""

    inputs: torch.Tensor
    truths: list[Truth]
    criterion: DetectionLoss

    def loss(self, network: Network, taught: torch.Tensor | Sequence[torch.Tensor] | None) -> torch.Tensor:
        """Returns the loss of scores, boxes and key points; a teacher teaches by features alone."""
        assert isinstance(network, Scrfd)
        return self.criterion([each.float() for each in network.logits(self.inputs)], self.truths)


class StudiedDetection:
    """See `compressors.tasks.task.StudiedTask`."""

    heading, axis = "AP", "average precision"
    columns: tuple[Column, ...] = (
        Column("AP", "ap", of_quality(lambda q: q.value), "{:.2%}", brief=True),
        *(
            Column(name.removeprefix("ap_"), name, of_metric(name), "{:.2%}")
            for name in ("ap_easy", "ap_medium", "ap_hard", "ap50", "ap75", "ap_small", "ap_large")
        ),
        *AGAINST,
        Column("boxes agree with FP32", "agreement", of_quality(agreement), "{:.2%}"),
        Column("objects lost", "lost", of_quality(lambda q: q.lost), "{}"),
        Column("objects gained", "gained", of_quality(lambda q: q.gained), "{}"),
    )

    def fault(self, outputs: Arrays, data: Dataset) -> str | None:
        """Returns what is wrong where the decoder cannot make boxes of the outputs, or makes those of other classes."""
        if data.decoding is None:
            return f"--decoder is missing: how do the outputs become boxes? Expected one of {', '.join(DECODERS)}"
        how = data.decoding
        try:
            found = DECODERS[how.decoder](outputs, data.preprocessing.resize, how.keypoints, np.float32(-np.inf))
        except ValueError as error:
            return str(error)
        classes = int(found.classes.max(initial=-1)) + 1
        if classes > len(data.labels) or (classes < len(data.labels) and not found.suppressed):
            return f"the network tells {classes} classes apart, the data has {len(data.labels)}"
        return None

    def batches(self, data: Dataset, how: Fit, seed: int, epoch: int) -> Iterator[BoxedBatch]:
        """Yields crops of shuffled images, mirrored and recoloured."""
        size, train = data.preprocessing.resize, data.train
        assert isinstance(train, DetectionSplit)
        if how.smoothing or how.compiled:
            raise UsageError("got smoothing or compiled in the fit of a detector, expected neither")
        if how.distillation or size[0] != size[1]:
            raise UsageError(
                f"got distillation {how.distillation} and inputs of {size[0]}x{size[1]}, expected a detector to be"
                " taught by features (review) and trained on squares"
            )
        random, criterion = np.random.default_rng((seed, epoch)), DetectionLoss(size)
        order = random.permutation(len(train))
        for chosen in np.split(order, range(how.batch, len(order), how.batch)):
            made = [_crop(train, image, size[0], random, how.flip) for image in chosen]
            pixels = normalise(np.stack([crop for crop, _ in made]), data.preprocessing)
            inputs = torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)
            yield BoxedBatch(inputs, [truth for _, truth in made], criterion)

    def validate(self, data: Dataset, outputs: Sequence[Arrays], rows: Rows) -> tuple[float, list[float] | None]:
        """Returns average precision, which no image has of its own."""
        chosen = data.calibration.take(rows)
        joined = {name: np.concatenate([each[name] for each in outputs]) for name in outputs[0]}
        answers = TASK.answers(joined, chosen.as_sent(), data.preprocessing, data.decoding)
        return TASK.scores(answers, chosen.truth).get(TASK.metric, 0.0), None

    def last_layers(self, network: nn.Module, data: Dataset) -> list[nn.Module]:
        """Returns the convolutions that predict scores, boxes and key points."""
        if not isinstance(network, Scrfd):
            raise ValueError(f"got a {type(network).__name__}, expected SCRFD, whose last layers are known")
        return network.last_layers()


def _crop(
    train: DetectionSplit, image: int, size: int, random: np.random.Generator, flip: bool
) -> tuple[NDArray[np.uint8], Truth]:
    """Returns a crop of a training image, and the objects in it that count in some setting."""
    pixels, truth = images.read(train.files[image], "a training image"), train.objects.of(image)
    counting = np.asarray(truth.counting.any(axis=1))
    return augment(np.asarray(pixels), truth.where(counting), size, random, flip)
