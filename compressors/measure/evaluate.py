"""How well a variant answers, always through the adapter that will serve it.

Accuracy is taken on the whole test split, or on as much of it as there is time for.
"""

import math
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from compressors.data.datasets import Dataset, Inputs
from compressors.networks.layers import INPUT, output_names
from protos import images, repository
from protos.manifest import Decoding, Preprocessing, Quality, TaskName
from protos.support.machine import available_cores
from protos.tasks.table import TASKS
from protos.tasks.task import Array, Arrays, Rows
from server.runtimes import Infer

BATCH, BATCH_BYTES = 100, 64 << 20
"""Inputs that are answered together: as many as these bytes hold, from 1 to so many."""


@dataclass(frozen=True)
class Questions:
    """Images that networks and variants are asked, and how their outputs become answers."""

    task: TaskName
    images: Array
    """As clients send them: RGB pixels uint8 (N, H, W, 3), or files (N,) of `bytes`."""
    preprocessing: Preprocessing
    decoding: Decoding | None

    @cached_property
    def inputs(self) -> Inputs:
        """The images as a network is given them."""
        return Inputs(images.fitted(self.images, self.preprocessing), self.preprocessing)

    def answers(self, outputs: Arrays, rows: Rows) -> dict[str, Array]:
        """Returns the answers that outputs for the images at `rows` are."""
        return TASKS[self.task].answers(outputs, self.images[rows], self.preprocessing, self.decoding)


def questions(data: Dataset) -> Questions:
    """Returns the test split as questions."""
    return Questions(data.task, data.test.as_sent(), data.preprocessing, data.decoding)


def eager(network: nn.Module) -> Infer:
    """Returns what calls a network as an adapter is called: FP32 in eager PyTorch, the reference for everything."""

    def infer(inputs: dict[str, Array]) -> dict[str, Array]:
        torch.set_num_threads(available_cores())  # an adapter may have left it at its own count
        with torch.inference_mode():
            answer = network(torch.from_numpy(inputs[INPUT].copy()))  # its own copy
        answers = (answer,) if isinstance(answer, torch.Tensor) else answer
        return {name: each.numpy() for name, each in zip(output_names(network), answers, strict=True)}

    return infer


def predict(infer: Infer, asked: Questions, seconds: float = math.inf) -> tuple[Rows, dict[str, Array]]:
    """Returns which of the questions were answered, and the answers.

    All of them, or as many as `seconds` are enough for, drawn at random, and one batch at least.
    """
    inputs, end = asked.inputs, time.monotonic() + seconds
    order = repository.drawn(len(inputs))
    size = inputs.within(BATCH_BYTES, 1, BATCH)
    parts, answered = list[dict[str, Array]](), 0
    for rows in np.split(order, range(size, len(inputs), size)):
        if not parts or time.monotonic() < end:
            parts.append(asked.answers(infer({INPUT: inputs[rows]}), rows))
            answered += len(rows)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.sort(order[:answered]), TASKS[asked.task].take(joined, np.argsort(order[:answered]))


def quality(
    task: TaskName, answers: Arrays, truth: Arrays, reference: Arrays, dataset: str, parent: float, fp32: float | None
) -> Quality:
    """Judges answers against the truth, and compares them with those of the reference."""
    judge = TASKS[task]
    scores, compared = judge.scores(answers, truth), judge.compare(answers, reference, truth)
    value = scores.pop(judge.metric)
    return Quality(
        metric=judge.metric,
        value=value,
        dataset=dataset,
        samples=judge.images(answers),
        parent=parent,
        fp32=fp32,
        agreement=compared.agreement,
        lost=compared.lost,
        gained=compared.gained,
        others=scores or None,
        interval=compared.interval,
        drop_interval=compared.drop_interval,
    )
