"""The offline stage's part of a task; `compressors.tasks.table` has the tasks."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from compressors.data.datasets import Dataset
from compressors.recipes.steps import Fit
from compressors.report.columns import Column
from protos.tasks.task import Arrays, Rows

Network = Callable[[torch.Tensor], Any]
"""Inputs (N, 3, H, W) to the output, or to several: a module, or what calls it compiled."""


class Batch(Protocol):
    """Images to learn from, and what is true of them."""

    @property
    def inputs(self) -> torch.Tensor:
        """Float32 (N, 3, H, W)."""

    def loss(self, network: Network, taught: torch.Tensor | Sequence[torch.Tensor] | None) -> torch.Tensor:
        """Returns the loss of a network in training mode, a scalar; `taught` are a teacher's outputs for the inputs."""


class StudiedTask(Protocol):
    """How networks of one kind of task are checked, trained and judged."""

    columns: tuple[Column, ...]
    """What the table shows of accuracy."""
    heading: str
    """What a sentence of the table calls the metric."""
    axis: str
    """What plots call it."""

    def fault(self, outputs: Arrays, data: Dataset) -> str | None:
        """Returns what is wrong with the outputs (N, ...) of a network for the data, by name; None where nothing is."""

    def batches(self, data: Dataset, how: Fit, seed: int, epoch: int) -> Iterator[Batch]:
        """Yields the training images of one epoch; their order and augmentation follow from seed and epoch alone."""

    def validate(self, data: Dataset, outputs: Sequence[Arrays], rows: Rows) -> tuple[float, list[float] | None]:
        """Returns the metric on the calibration images at `rows`, and that of each where images have one."""

    def last_layers(self, network: nn.Module, data: Dataset) -> list[nn.Module]:
        """Returns the layers whose output channels are those of the network and stay what they are."""
