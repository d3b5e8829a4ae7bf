"""A small convolutional network with everything that exporters and pruning must cope with, and data for it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressors.data.datasets import Dataset
from compressors.data.user_data import Split
from compressors.export.exporters import Validate
from compressors.tasks.classification import StudiedClassification
from protos.manifest import Preprocessing
from protos.tasks.task import Array


class Small(nn.Module):
    """Convolutions with batch norm, a residual sum, pooling and a classifier; (N, 3, 8, 8) to (N, classes)."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.relu(x + self.block(x))
        return self.classifier(self.pool(x).flatten(1))


def dataset(rows: int = 96) -> Dataset:
    """Noise with one brighter channel, which is the label: (N, 3, 8, 8), three classes."""
    generator = np.random.default_rng(0)

    def split(count: int) -> Split:
        labels = generator.integers(0, 3, count)
        images = generator.integers(0, 160, (count, 3, 8, 8), dtype=np.uint8)
        images[np.arange(count), labels] += 60
        return Split(images, labels)

    preprocessing = Preprocessing((8, 8), (0.4, 0.4, 0.4), (0.25, 0.25, 0.25), "NCHW")
    return Dataset("small", split(rows), split(rows), split(rows), ("red", "green", "blue"), preprocessing)


def classes(count: int) -> Callable[[dict[str, Array]], str | None]:
    """What says whether outputs are those of a network for so many classes."""
    data = dataclasses.replace(dataset(), labels=tuple(map(str, range(count))))
    return lambda outputs: StudiedClassification().fault(outputs, data)


def scoring(labels: Array) -> Validate:
    """What scores answers to calibration inputs that have these class indices (N,)."""
    split = Split(np.zeros((len(labels), 3, 1, 1), np.uint8), labels)
    return partial(StudiedClassification().validate, dataset().only(split))


@dataclass(frozen=True)
class InterruptedData(Dataset):
    """Data that counts what is read of it in `reads`, and is interrupted as by Ctrl-C at read number `stop`."""

    stop: int = 0
    reads: list[int] = field(default_factory=list)

    def inputs(self, split: Split) -> NDArray[np.float32]:
        self.reads.append(len(split))
        if len(self.reads) == self.stop:
            raise KeyboardInterrupt
        return super().inputs(split)


def interrupted(data: Dataset, stop: int) -> InterruptedData:
    """The same data, interrupted at read number `stop`; a training reads once for each batch."""
    return InterruptedData(**{part.name: getattr(data, part.name) for part in dataclasses.fields(data)}, stop=stop)
