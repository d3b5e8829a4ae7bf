"""The artifacts of a study: exported side by side, evaluated, and kept in the cache with their manifests."""

import time
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from compressors.build.cache import Cache, key
from compressors.build.evaluation import Evaluation
from compressors.build.tasks import Task
from compressors.build.tools import Tools
from compressors.build.trained_networks import Networks
from compressors.data.datasets import Dataset
from compressors.export.exporters import EXPORTERS, Exported, Job
from compressors.measure.footprint import MemoryProbe
from compressors.progress import say
from protos import packing, repository
from protos.errors import VariantError
from protos.manifest import Variant, from_json, to_json
from protos.repository import Entry
from protos.support import machine

EVALUATION = 2
"""Part of the key of an artifact: raised when something else is measured of it."""


@dataclass(frozen=True)
class Built:
    """An evaluated variant without its timing, the folder of its artifact, and the key that stands for both."""

    variant: Variant
    artifact: Path
    key: str


class Artifacts:
    """Makes the artifact of each task, or finds what an earlier build made of it."""

    def __init__(self, dataset: Dataset, networks: Networks, evaluation: Evaluation, cache: Cache, tools: Tools):
        self._dataset, self._networks, self._evaluation = dataset, networks, evaluation
        self._cache, self._tools = cache, tools

    def cached(self, task: Task) -> Built | None:
        """Returns what an earlier build made, if it is there and undamaged."""
        step_key = self._key(task)
        folder = self._cache.folder(step_key)
        try:
            variant = from_json((folder / repository.MANIFEST).read_text())
            repository.verify(Entry(variant.model, task.name, folder / "artifact", variant, None))
        except (OSError, VariantError):
            return None
        return Built(variant, folder / "artifact", step_key)

    def start_export(self, task: Task, pool: Executor) -> Future[Exported]:
        """Exports in `pool`, to the task's work folder."""
        job = self._job(task)

        def run() -> Exported:
            say(f"{task.title}: exporting")
            exported = self._tools.export(EXPORTERS[task.runtime], job)
            if job.compressible:
                packing.pack(job.folder)
            return exported

        return pool.submit(run)

    def finish(self, task: Task, exported: Future[Exported], probe: MemoryProbe) -> Built | None:
        """Waits for the export, evaluates the artifact, and keeps it with its manifest."""
        start, done, step_key = time.perf_counter(), exported.result(), self._key(task)
        with self._cache.appearing(step_key) as staging:
            artifact, described = staging / "artifact", staging / repository.MANIFEST
            (self._cache.work(step_key) / "artifact").rename(artifact)
            variant = self._evaluation.evaluate(task, artifact, done)
            described.write_text(to_json(variant))
            described.write_text(to_json(replace(variant, footprint=probe.measure(described, artifact))))
        assert variant.quality is not None
        say(f"{task.title}: top-1 {variant.quality.value:.2%}, {time.perf_counter() - start:.1f} s")
        return self.cached(task)

    def _job(self, task: Task) -> Job:
        calibration, lowering = self._dataset.calibration, task.recipe.lowering
        return Job(
            self._networks.of(task.recipe.network_recipe).network,
            torch.from_numpy(self._networks.test_inputs[:2]),
            lowering,
            torch.from_numpy(self._dataset.inputs(calibration)) if lowering.calibrated else None,
            self._cache.work(self._key(task)) / "artifact",
            torch.from_numpy(calibration.labels) if lowering.calibrated else None,
            task.recipe.compressible,
        )

    def _key(self, task: Task) -> str:
        trained, reference = self._networks.of(task.recipe.network_recipe), self._networks.reference
        versions, images = machine.versions(*EXPORTERS[task.runtime].libraries), len(self._dataset.calibration)
        return key(trained.key, reference.key, task.recipe.chain(), task.runtime, versions, images, EVALUATION)
