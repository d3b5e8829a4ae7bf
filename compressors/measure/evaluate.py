"""How well a variant answers, always through the adapter that will serve it.

Accuracy is taken on the whole test split, or on as much of it as there is time for.
"""

import math
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressors.export.exporters import INPUT, OUTPUT
from protos import repository
from protos.manifest import Quality
from protos.support.machine import available_cores
from protos.support.significance import share_equal
from server.runtimes import Runtime

BATCH = 100

TOP5_FROM = 6
"""Classes from which on the five most likely ones say something."""

Predictions = NDArray[np.int64]
"""Predicted classes (N,)."""
Rows = NDArray[np.int64]
"""Places of samples among all, ascending."""
Outputs = NDArray[np.float32]
"""Outputs (N, classes)."""


def predict(runtime: Runtime, inputs: NDArray[np.float32], seconds: float = math.inf) -> tuple[Rows, Outputs]:
    """Returns the outputs for the inputs (N, 3, H, W), and which of their rows these are.

    All of them, or as many as `seconds` are enough for, drawn at random, and one batch at least.
    """
    order, end = repository.drawn(len(inputs)), time.monotonic() + seconds
    outputs = list[Outputs]()
    for rows in np.split(order, range(BATCH, len(inputs), BATCH)):
        if not outputs or time.monotonic() < end:
            outputs.append(runtime.infer({INPUT: inputs[rows]})[OUTPUT])
    answered = order[: sum(map(len, outputs))]
    return np.sort(answered), np.concatenate(outputs)[np.argsort(answered)]


def predict_network(network: nn.Module, inputs: NDArray[np.float32]) -> Outputs:
    """Returns the outputs of eager FP32 PyTorch for inputs (N, 3, H, W): the reference for everything."""
    torch.set_num_threads(available_cores())  # an adapter may have left it at its own count
    with torch.inference_mode():
        batches = np.split(inputs, range(BATCH, len(inputs), BATCH))
        return np.concatenate([network(torch.from_numpy(batch.copy())).numpy() for batch in batches])  # its own copy


def top5(outputs: Outputs, labels: Predictions) -> float | None:
    """Returns the share of labels among the five largest outputs; None where there are hardly more classes."""
    if outputs.shape[1] < TOP5_FROM:
        return None
    five = np.argpartition(-outputs, 5, axis=1)[:, :5]
    return float((five == labels[:, None]).any(axis=1).mean())


def flips(predictions: Predictions, reference: Predictions, labels: Predictions) -> tuple[int, int]:
    """Counts the samples that only the reference gets right, and those that only the predictions get right."""
    right, before = predictions == labels, reference == labels
    return int((before & ~right).sum()), int((right & ~before).sum())


def quality(
    outputs: Outputs, labels: Predictions, reference: Predictions, dataset: str, parent: float, fp32: float | None
) -> Quality:
    """Counts outputs (N, classes) against the labels and against the predictions of the reference."""
    predictions = outputs.argmax(1)
    lost, gained = flips(predictions, reference, labels)
    return Quality(
        metric="top1",
        value=share_equal(predictions, labels),
        dataset=dataset,
        samples=len(predictions),
        parent=parent,
        fp32=fp32,
        agreement=share_equal(predictions, reference),
        top5=top5(outputs, labels),
        lost=lost,
        gained=gained,
    )
