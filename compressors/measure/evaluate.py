"""What is measured of a variant, always through the adapter that will serve it.

Accuracy is taken on the whole test split. Latency is taken for all variants of a study together, in
rounds that go over the variants in a new order each time, so that a slow minute of the machine hurts all
alike; throughput too, at several batch sizes.
"""

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressors.export.exporters import Inputs
from compressors.progress import track
from protos.manifest import Latency, Throughput
from protos.support.machine import available_cores
from server.runtimes import Runtime

BATCH = 100
THREADS = 1
WARM_UP_CALLS = 10
ROUNDS = 20
CALLS = 50
"""Latency samples of one variant: ROUNDS x CALLS."""

BATCHES = (1, 4, 16, 32, 64)
"""Rows of a call, for throughput."""
BATCH_ROUNDS = 5
LONG_CALL_SECONDS = 1.0
"""A variant whose call takes longer is not asked for larger batches."""

TOP5_FROM = 6
"""Classes from which on the five most likely ones say something."""

Predictions = NDArray[np.int64]
"""Predicted classes (N,)."""
Outputs = NDArray[np.float32]
"""Outputs (N, classes)."""
Seconds = dict[str, NDArray[np.float64]]
"""Raw samples by variant."""


def predict(runtime: Runtime, inputs: NDArray[np.float32], input_name: str, output_name: str) -> Outputs:
    """Returns the outputs for the inputs (N, 3, H, W)."""
    batches = np.split(inputs, range(BATCH, len(inputs), BATCH))
    return np.concatenate([runtime.infer({input_name: batch})[output_name] for batch in batches])


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


def latencies(runtimes: dict[str, Runtime], inputs: Inputs, seed: int, rounds: int = ROUNDS) -> Seconds:
    """Times each batch-1 call of each runtime, interleaved; `inputs` (1, ...) are the same for all.

    The time of one call is from NumPy arrays in to NumPy arrays out. First calls are not counted.
    """
    order = np.random.default_rng(seed)
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    for runtime in runtimes.values():
        for _ in range(WARM_UP_CALLS):
            runtime.infer(inputs)
    for _ in track(range(rounds), rounds, "latency, rounds over all variants"):
        for name in order.permutation(list(runtimes)):
            infer = runtimes[name].infer
            infer(inputs)  # the caches were another variant's
            for _ in range(CALLS):
                start = time.perf_counter()
                infer(inputs)
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(samples) for name, samples in seconds.items()}


def summary(seconds: NDArray[np.float64]) -> Latency:
    """Returns the percentiles of raw samples, as a manifest has them."""
    p50, p95, p99 = (round(float(q) * 1e3, 4) for q in np.quantile(seconds, [0.50, 0.95, 0.99]))
    return Latency(p50, p95, p99, batch=1, threads=THREADS, samples=len(seconds))


def batch_seconds(runtimes: dict[str, Runtime], inputs: Inputs, seed: int, long: float = LONG_CALL_SECONDS) -> Seconds:
    """Times calls of each runtime by batch size, (sizes, rounds), interleaved; `inputs` are repeated if too few.

    The sizes are those of `BATCHES` up to the first whose call takes long.
    """
    order = np.random.default_rng(seed)
    sizes = {name: _bearable(runtime, inputs, long) for name, runtime in runtimes.items()}
    seconds = {name: np.zeros((count, BATCH_ROUNDS)) for name, count in sizes.items()}
    for turn in track(range(BATCH_ROUNDS), BATCH_ROUNDS, "throughput, rounds over all variants"):
        for name in order.permutation(list(runtimes)):
            for i in range(sizes[name]):
                seconds[name][i, turn] = _call(runtimes[name], inputs, BATCHES[i])
    return seconds


def best_throughput(seconds: NDArray[np.float64]) -> Throughput:
    """Returns the rows per second at the best batch size, from medians of raw samples (sizes, rounds)."""
    rates = [batch / float(np.median(samples)) for batch, samples in zip(BATCHES, seconds, strict=False)]
    best = int(np.argmax(rates))
    return Throughput(round(rates[best], 2), batch=BATCHES[best], threads=THREADS)


def _bearable(runtime: Runtime, inputs: Inputs, long: float) -> int:
    """Returns how many of `BATCHES` to measure; each is warmed up."""
    for count, batch in enumerate(BATCHES, 1):
        if _call(runtime, inputs, batch) > long:
            return count
    return len(BATCHES)


def _call(runtime: Runtime, inputs: Inputs, batch: int) -> float:
    rows = {name: np.resize(array, (batch, *array.shape[1:])) for name, array in inputs.items()}
    start = time.perf_counter()
    runtime.infer(rows)
    return time.perf_counter() - start
