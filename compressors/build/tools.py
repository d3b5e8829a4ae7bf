"""The costly parts of a build, each a function that `Build` is given: tests give it quick ones."""

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compressors.build.isolation import in_fresh_process, side_by_side
from compressors.export import exporters
from compressors.export.exporters import Exported, Exporter, Job
from compressors.measure import evaluate
from compressors.measure.footprint import MemoryProbe
from compressors.recipes import recipes
from compressors.recipes.recipes import StepContext
from compressors.recipes.steps import NetworkStep
from server.runtimes import Runtime

Latencies = Callable[[dict[str, Runtime], dict[str, NDArray[np.float32]], int], dict[str, NDArray[np.float64]]]


def isolated_export(exporter: Exporter, job: Job) -> Exported:
    """Exports in a process of its own."""
    return in_fresh_process(exporters.export, exporter, job)


@dataclass(frozen=True)
class Tools:
    """What a build applies steps, exports and measures with."""

    apply: Callable[[NetworkStep, StepContext], nn.Module] = recipes.apply
    export: Callable[[Exporter, Job], Exported] = isolated_export
    pool: Callable[[int], AbstractContextManager[Executor]] = side_by_side
    memory_probe: Callable[[], MemoryProbe] = MemoryProbe
    latencies: Latencies = evaluate.latencies


TOOLS = Tools()
