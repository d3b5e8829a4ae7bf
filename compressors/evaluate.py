"""What is measured of a variant, always through the adapter that will serve it.

Accuracy is taken on the whole test split. Latency is taken for all variants of a study together, in
rounds that go over the variants in a new order each time, so that a slow minute of the machine hurts all
alike. Predictions are kept: agreement compares them one by one.
"""

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressors.progress import track
from protos.machine import available_cores
from protos.manifest import Latency
from server.runtimes import Runtime

BATCH = 100
THREADS = 1
WARM_UP_CALLS = 10
ROUNDS = 20
CALLS = 50
"""Latency samples of one variant: ROUNDS x CALLS."""

Predictions = NDArray[np.int64]
"""Predicted classes (N,)."""


def predict(runtime: Runtime, inputs: NDArray[np.float32], input_name: str, output_name: str) -> Predictions:
    """The class of largest output for each of the inputs (N, 3, H, W)."""
    batches = np.split(inputs, range(BATCH, len(inputs), BATCH))
    return np.concatenate([runtime.infer({input_name: batch})[output_name].argmax(1) for batch in batches])


def predict_network(network: nn.Module, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The outputs of a network in eager FP32 PyTorch for inputs (N, 3, H, W): the reference for everything."""
    torch.set_num_threads(available_cores())  # an adapter may have left it at its own count
    with torch.inference_mode():
        answers = [network(batch).numpy() for batch in torch.from_numpy(inputs).split(BATCH)]
    outputs: NDArray[np.float32] = np.concatenate(answers)
    return outputs


def share_equal(predictions: Predictions, others: Predictions) -> float:
    """The share of equal elements: accuracy against labels, agreement against other predictions."""
    return float((predictions == others).mean())


def latencies(
    runtimes: dict[str, Runtime], inputs: dict[str, NDArray[np.float32]], seed: int
) -> dict[str, NDArray[np.float64]]:
    """Seconds of each batch-1 call of each runtime, interleaved; `inputs` (1, ...) by name are the same for all.

    The time of one call is from NumPy arrays in to NumPy arrays out. First calls are not counted.
    """
    order = np.random.default_rng(seed)
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    for runtime in runtimes.values():
        for _ in range(WARM_UP_CALLS):
            runtime.infer(inputs)
    for _ in track(range(ROUNDS), ROUNDS, "latency, rounds over all variants"):
        for name in order.permutation(list(runtimes)):
            infer = runtimes[name].infer
            infer(inputs)  # the caches were another variant's
            for _ in range(CALLS):
                start = time.perf_counter()
                infer(inputs)
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(samples) for name, samples in seconds.items()}


def summary(seconds: NDArray[np.float64]) -> Latency:
    """The percentiles of raw samples, as a manifest has them."""
    p50, p95, p99 = (round(float(q) * 1e3, 4) for q in np.quantile(seconds, [0.50, 0.95, 0.99]))
    return Latency(p50, p95, p99, batch=1, threads=THREADS, samples=len(seconds))
