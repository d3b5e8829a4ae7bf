"""How long an epoch of a training takes, from a few of its steps; what is done once, as compiling, does not count."""

import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compressors.data.datasets import Dataset
from compressors.data.split import Split
from compressors.recipes import recipes
from compressors.recipes.recipes import StepContext
from compressors.recipes.steps import Student

STEPS, WARM_UP = 30, 10
"""Steps that are taken, and those of them that are not counted."""


@dataclass(frozen=True)
class Clocked(Dataset):
    """Data that notes when it is read: a training reads as often in each of its steps."""

    read_at: list[float] = field(default_factory=list)

    def inputs(self, split: Split) -> NDArray[np.float32]:
        """See `Dataset.inputs`."""
        self.read_at.append(time.perf_counter())
        return super().inputs(split)


def epoch_seconds(step: Student, network_name: str, seed: int, data: Dataset, teacher: nn.Module | None) -> float:
    """Returns the seconds of one epoch of a student's training on all training images of `data`."""
    count = min(len(data.train), STEPS * step.fit.batch)
    few = {f.name: getattr(data, f.name) for f in fields(Dataset)} | {"train": data.train.take(np.arange(count))}
    clocked = Clocked(**few)
    with TemporaryDirectory() as folder:
        at = StepContext(network_name, clocked, seed, teacher, Path(folder) / "checkpoint.pt")
        recipes.apply(step, at)
    return per_step(clocked.read_at, -(-count // step.fit.batch)) * -(-len(data.train) // step.fit.batch)


def per_step(read_at: list[float], steps: int) -> float:
    """Returns the seconds of a step, from when each of `steps` steps read its data, once or several times."""
    each = len(read_at) // steps
    begun = read_at[::each][min(WARM_UP, steps // 2) :]
    return float(np.median(np.diff(begun)))
