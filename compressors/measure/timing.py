"""Latency and throughput of all variants of a build in one interleaved run, kept in the cache as raw samples.

They are measured again whenever one of the variants is another, or the machine is.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from compressors.build.cache import Cache, key
from compressors.export.exporters import Inputs
from compressors.measure import latency
from compressors.measure.latency import Seconds
from compressors.networks.layers import INPUT
from compressors.progress import minutes, say
from protos.support.machine import Machine
from protos.support.strict import decode
from server.runtimes import Array, Runtime

Latencies = Callable[[dict[str, Runtime], Mapping[str, Inputs], int, float], Seconds]
"""Runtimes by variant, inputs (1, ...) of each, a seed and each one's share of seconds, to seconds of batch-1 calls."""


@dataclass(frozen=True)
class Timing:
    """Raw seconds, and the machine that they were taken on."""

    singles: Seconds
    """Seconds of batch-1 calls, (blocks, calls)."""
    batches: Seconds
    """Seconds of calls at each size of `latency.BATCHES`, (sizes, rounds)."""
    machine: Machine


def timing(
    cache: Cache,
    keys: list[str],
    here: Machine,
    open_all: Callable[[], dict[str, Runtime]],
    inputs: Mapping[str, Array],
    seed: int,
    share: float,
    latencies: Latencies,
) -> Timing:
    """Returns what the cache holds for these variants, by their `keys`, on this machine, or measures it now.

    `open_all` loads the variants; `inputs` (N, ...) by variant are what they are given. Each has
    `share` seconds for its latency and as many for its throughput.
    """
    step_key = key("timing", keys, here.cpu, here.cores)
    if not (folder := cache.folder(step_key)).is_dir():
        adapters = open_all()
        most = minutes(2 * share * len(adapters))
        say(f"latency and throughput of {len(adapters)} variants, interleaved: {most} at most")
        try:
            singles = latencies(adapters, {name: {INPUT: rows[:1]} for name, rows in inputs.items()}, seed, share)
            batches = latency.batch_seconds(adapters, {n: {INPUT: rows} for n, rows in inputs.items()}, seed, share)
        finally:
            for adapter in adapters.values():
                adapter.close()
        with cache.appearing(step_key) as staging:
            np.savez(staging / "singles.npz", allow_pickle=False, **singles)
            np.savez(staging / "batches.npz", allow_pickle=False, **batches)
            (staging / "machine.json").write_text(json.dumps(asdict(here)))
    machine = decode(Machine, json.loads((folder / "machine.json").read_text()), "machine")
    return Timing(_arrays(folder / "singles.npz"), _arrays(folder / "batches.npz"), machine)


def _arrays(path: Path) -> Seconds:
    with np.load(path) as arrays:
        return dict(arrays)
