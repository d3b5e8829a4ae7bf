"""The bare engine's own loop: the adapter that serves, called again and again, nothing around it."""

import time
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from protos.manifest import from_json
from server import runtimes
from server.runtimes import Array


@dataclass(frozen=True)
class EngineSpeed:
    """How fast the engine is at one batch size, and the CPU time of one row."""

    batch: int
    rows_per_second: float
    cpu_us: float


def measure(folder: Path, threads: int, batches: tuple[int, ...], seconds: float, rows: Array) -> list[EngineSpeed]:
    """Measures the variant in `folder` on `rows` (N, ...), `seconds` at each batch size; keep it in its own process."""
    variant = from_json((folder / "manifest.json").read_text())
    runtime = runtimes.load(folder, variant, threads)
    speeds = []
    for batch in batches:
        inputs = {variant.inputs[0].name: np.resize(rows, (batch, *rows.shape[1:]))}
        runtime.infer(inputs)
        began, cpu, count = perf_counter(), time.process_time(), 0
        while perf_counter() - began < seconds:
            runtime.infer(inputs)
            count += batch
        used = time.process_time() - cpu
        speeds.append(EngineSpeed(batch, count / (perf_counter() - began), used * 1e6 / count))
    return speeds
