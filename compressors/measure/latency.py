"""Batch-1 latency and throughput of several runtimes: interleaved, until it is known or its time is spent.

In rounds that go over the runtimes in a new order each time, so that a slow minute of the machine hurts all alike. A
runtime is known when the 95% interval of its p50 lies within `KNOWN` of it and its samples are enough for a p99. Each
has the same share of the time: one whose calls take long is looked at shortly.
"""

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from compressors.export.exporters import Inputs
from compressors.progress import track
from protos.manifest import Latency, Throughput
from protos.support.significance import median_interval, quantile, samples_needed
from server.runtimes import Runtime

THREADS = 1
KNOWN = 0.02
"""A p50 is known when half its interval is this share of it, or less."""
SECONDS = 3.0
"""A runtime's share of the time, where nobody says otherwise."""
BLOCK_SECONDS, BLOCK_CALLS = 0.05, 50
"""Calls of one runtime in one round: as many as fit in this time, from 1 to so many."""

BATCHES = (1, 4, 16, 32, 64)
"""Rows of a call, for throughput."""
BATCH_ROUNDS = 5

Seconds = dict[str, NDArray[np.float64]]
"""Raw samples by variant: of calls (blocks, calls), of batches (sizes, rounds)."""


def latencies(runtimes: dict[str, Runtime], inputs: Mapping[str, Inputs], seed: int, share: float = SECONDS) -> Seconds:
    """Times batch-1 calls of each runtime with its `inputs` (1, ...), (blocks, calls).

    The time of one call is from NumPy arrays in to NumPy arrays out; first calls are not counted. `share` is the
    seconds that each runtime may take; one block is taken even so.
    """
    order = np.random.default_rng(seed)
    spent = {name: warm_up(runtime, inputs[name]) for name, runtime in runtimes.items()}
    calls = {name: int(np.clip(BLOCK_SECONDS / first, 1, BLOCK_CALLS)) for name, first in spent.items()}
    blocks: dict[str, list[list[float]]] = {name: [] for name in runtimes}
    while not _all_done(blocks, spent, share):
        for name in order.permutation([name for name in runtimes if not blocks[name] or spent[name] < share]):
            blocks[name].append(block(runtimes[name], inputs[name], calls[name]))
            spent[name] += sum(blocks[name][-1])
    return {name: np.array(of_one) for name, of_one in blocks.items()}


def summary(seconds: NDArray[np.float64]) -> Latency:
    """Returns the percentiles of raw samples (blocks, calls), as a manifest has them."""
    p50, interval = float(np.median(seconds)), median_interval(np.median(seconds, axis=1))
    p95, p99 = (quantile(seconds.ravel() * 1e3, q) for q in (0.95, 0.99))
    return Latency(
        p50_ms=round(p50 * 1e3, 4),
        p95_ms=p95 and round(p95, 4),
        p99_ms=p99 and round(p99, 4),
        batch=1,
        threads=THREADS,
        samples=seconds.size,
        known_within=None if interval is None else round((interval[1] - interval[0]) / 2 / p50, 4),
    )


def batch_seconds(
    runtimes: dict[str, Runtime], inputs: Mapping[str, Inputs], seed: int, share: float = SECONDS
) -> Seconds:
    """Times calls of each runtime by batch size, (sizes, rounds), interleaved; its `inputs` are repeated if too few.

    The sizes are those of `BATCHES` up to the first with which the runtime's `share` of seconds would be spent.
    """
    order = np.random.default_rng(seed)
    sizes = {name: _bearable(runtime, inputs[name], share) for name, runtime in runtimes.items()}
    seconds = {name: np.zeros((count, BATCH_ROUNDS)) for name, count in sizes.items()}
    for turn in track(range(BATCH_ROUNDS), BATCH_ROUNDS, "throughput, rounds over all variants"):
        for name in order.permutation(list(runtimes)):
            for i in range(sizes[name]):
                seconds[name][i, turn] = _call(runtimes[name], _rows(inputs[name], BATCHES[i]))
    return seconds


def best_throughput(seconds: NDArray[np.float64]) -> Throughput:
    """Returns the rows per second at the best batch size, from medians of raw samples (sizes, rounds)."""
    rates = [batch / float(np.median(samples)) for batch, samples in zip(BATCHES, seconds, strict=False)]
    best = int(np.argmax(rates))
    return Throughput(round(rates[best], 2), batch=BATCHES[best], threads=THREADS)


def block(runtime: Runtime, inputs: Inputs, calls: int) -> list[float]:
    """Times so many batch-1 calls in a row, in seconds, after one that does not count."""
    runtime.infer(inputs)  # the caches were another variant's
    return [_call(runtime, inputs) for _ in range(calls)]


def warm_up(runtime: Runtime, inputs: Inputs) -> float:
    """Returns the seconds of the second call: the first one also imports and allocates."""
    runtime.infer(inputs)
    return _call(runtime, inputs)


def _all_done(blocks: dict[str, list[list[float]]], spent: dict[str, float], share: float) -> bool:
    return all(of_one and (spent[name] >= share or _known(np.array(of_one))) for name, of_one in blocks.items())


def _known(seconds: NDArray[np.float64]) -> bool:
    within = summary(seconds).known_within if seconds.size >= samples_needed(0.99) else None
    return within is not None and within <= KNOWN


def _bearable(runtime: Runtime, inputs: Inputs, share: float) -> int:
    """Returns how many of `BATCHES` to measure; each is warmed up."""
    spent = 0.0
    for count, batch in enumerate(BATCHES, 1):
        spent += _call(runtime, _rows(inputs, batch))
        if spent * (BATCH_ROUNDS + 1) > share:
            return max(1, count - 1)
    return len(BATCHES)


def _rows(inputs: Inputs, batch: int) -> Inputs:
    return {name: np.resize(array, (batch, *array.shape[1:])) for name, array in inputs.items()}


def _call(runtime: Runtime, inputs: Inputs) -> float:
    start = time.perf_counter()
    runtime.infer(inputs)
    return time.perf_counter() - start
