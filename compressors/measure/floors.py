"""What a call of each runtime costs, whatever the network: `python -m compressors.measure.floors`, a minute.

A single PReLU on an image of 32x32, through the adapter that serves, batch 1, one thread, all runtimes in turns. A
network that computes for 50 us is no faster than this and its 50 us.
"""

import sys
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from compressors.export import exporters
from compressors.export.exporters import EXPORTERS, Job
from compressors.export.lowerings import FLOAT32, DynamicInt8, Lowering
from compressors.export.unpublished import unpublished
from compressors.measure import latency
from compressors.networks.layers import INPUT
from protos.manifest import RuntimeName
from protos.support import machine, markdown
from server import runtimes

SHAPE = (3, 32, 32)
CALLS: dict[str, tuple[RuntimeName, Lowering]] = {
    **{runtime: (runtime, FLOAT32) for runtime in EXPORTERS},
    "pytorch, compiled": ("pytorch", DynamicInt8()),  # of a network without linear layers nothing becomes int8
}
"""What is called, by what it is called in the table."""


def floors(seconds: float = latency.SECONDS) -> dict[str, float]:
    """Returns the p50 of a call in microseconds, by the names of `CALLS`; each has so many seconds."""
    inputs = {INPUT: np.random.default_rng(0).random((1, *SHAPE), np.float32)}
    with ExitStack() as stack:
        adapters = {}
        for name, (runtime, lowering) in CALLS.items():
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="pareto-")))
            job = Job(nn.PReLU().eval(), torch.zeros(2, *SHAPE), lowering, None, folder / "artifact")
            entry = exporters.export(EXPORTERS[runtime], job).entry
            adapters[name] = runtimes.load(job.folder, unpublished(job, runtime, entry), latency.THREADS)
            stack.enter_context(closing(adapters[name]))
        samples = latency.latencies(adapters, dict.fromkeys(adapters, inputs), 0, seconds)
    return {name: 1e6 * float(np.median(calls)) for name, calls in samples.items()}


def main() -> int:
    """Prints the table, and the machine."""
    rows = [(name, f"{p50:.1f}") for name, p50 in sorted(floors().items(), key=lambda row: row[1])]
    print(markdown.table(("runtime", "a call, us"), rows, right=1))
    here = machine.describe()
    print(f"\nMachine: {here.cpu}, {here.cores} cores, {' '.join(here.instruction_sets)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
