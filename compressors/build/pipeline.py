"""From a study to a repository: train and prune, export, evaluate, time, publish.

The cache keeps the result of each step: an interrupted build goes on where it stopped, and a changed study
redoes only what the change touches. A variant that fails is left out and reported with its cause; all others
are built. Latency and throughput are measured last (see `timing`).
"""

import logging
from concurrent.futures import Future
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from compressors.build import publishing, tools
from compressors.build.artifacts import Artifacts, Built
from compressors.build.cache import Cache
from compressors.build.evaluation import Evaluation, describe_machine
from compressors.build.tasks import Task, plan
from compressors.build.tools import Tools
from compressors.build.trained_networks import Networks
from compressors.data import datasets
from compressors.export.exporters import Exported
from compressors.measure import evaluate
from compressors.measure.footprint import MemoryProbe
from compressors.measure.timing import Timing, timing
from compressors.progress import first_line, say
from compressors.report import unbuilt
from compressors.study import Study
from protos import repository
from protos.manifest import Variant
from protos.support import machine
from server import runtimes

log = logging.getLogger(__name__)


def read_data(study: Study, path: Path | None) -> datasets.Dataset:
    """The study's data; `UsageError` where it is not there or not what the study needs."""
    say(f"data set {study.data}: reading")
    loaded = datasets.load(study.data, path, study.calibration, study.seed, study.form)
    say(f"  train {len(loaded.train)}, calibration {len(loaded.calibration)}, test {len(loaded.test)} images")
    return loaded


class Build:
    """One build of one study into one repository.

    `failures` are names of variants with what went wrong, `refused` with why their runtime cannot take them.
    """

    def __init__(self, study: Study, root: Path, dataset: datasets.Dataset, given: Tools | None = None) -> None:
        self.study, self.root, self.dataset = study, root, dataset
        self.failures: dict[str, str] = {}
        self._tasks, self.refused = plan(study)
        self._tools, self._cache = given or tools.TOOLS, Cache(root, study.model)

    @cached_property
    def networks(self) -> Networks:
        """The study's networks."""
        return Networks(self.study, self.dataset, self._cache, self.root, self._tools)

    @cached_property
    def _evaluation(self) -> Evaluation:
        return Evaluation(self.study, self.dataset, self.networks)

    @cached_property
    def _artifacts(self) -> Artifacts:
        return Artifacts(self.dataset, self.networks, self._evaluation, self._cache, self._tools)

    def check(self) -> None:
        """`UsageError` where what the study loads does not fit; before any work starts."""
        self.networks.check()

    def run(self) -> None:
        """Builds what is missing and publishes it; `UsageError` where another build is at work."""
        with self._cache.locked():
            tasks = [task for task in self._tasks if self._has_network(task)]
            if built := self._build(tasks):
                self._publish(built, self._time(built))
            unbuilt.save(self.root / self.study.model, self.refused, self.failures)

    def _has_network(self, task: Task) -> bool:
        """Makes the task's network, if it is not made yet; False where that failed."""
        try:
            self.networks.of(task.recipe.network_recipe)
        except Exception as error:
            self._fail(task.name, error)
            return False
        return True

    def _build(self, tasks: list[Task]) -> dict[str, Built]:
        """Exports side by side and evaluates one after the other; returns what was built, by name."""
        made = self._artifacts
        with self._tools.pool(machine.available_cores()) as pool, self._tools.memory_probe() as probe:
            begun = {task: made.cached(task) or made.start_export(task, pool) for task in tasks}
            built = {task.name: self._finish(task, begun[task], probe) for task in tasks}
        return {name: done for name, done in built.items() if done}

    def _finish(self, task: Task, begun: Built | Future[Exported], probe: MemoryProbe) -> Built | None:
        if isinstance(begun, Built):
            return begun
        try:
            return self._artifacts.finish(task, begun, probe)
        except Exception as error:
            self._fail(task.name, error)
            return None

    def _time(self, built: dict[str, Built]) -> Timing:
        """Times all variants together."""

        def open_all() -> dict[str, runtimes.Runtime]:
            return {name: runtimes.load(done.artifact, done.variant, evaluate.THREADS) for name, done in built.items()}

        keys, inputs = [done.key for done in built.values()], self.networks.test_inputs[: evaluate.BATCHES[-1]]
        here = describe_machine(self.study)
        return timing(self._cache, keys, here, open_all, inputs, self.study.seed, self._tools.latencies)

    def _publish(self, built: dict[str, Built], timed: Timing) -> None:
        """Puts the variants into the repository, with what is needed to check them."""
        model, fp32 = self.study.model, self.networks.reference.outputs.argmax(1)
        repository.save_golden(self.root, model, self._evaluation.golden)
        publishing.save_test_split(self.root, model, self.dataset.test, fp32)
        variants = [(self._timed(done.variant, timed), done.artifact) for done in built.values()]
        publishing.publish(self.root, variants)
        publishing.choose_default(self.root, model, [variant for variant, _ in variants])

    def _timed(self, variant: Variant, timed: Timing) -> Variant:
        return replace(
            variant,
            latency=evaluate.summary(timed.singles[variant.variant]),
            throughput=evaluate.best_throughput(timed.batches[variant.variant]),
            machine=timed.machine,
            published=self.study.published.get(variant.variant),
            sources=replace(variant.sources, study=self.study.sha256),
        )

    def _fail(self, name: str, error: Exception) -> None:
        log.debug("variant %s", name, exc_info=error)
        self.failures[name] = f"{type(error).__name__}: {first_line(error)}"
        say(f"{name}: FAILED, {self.failures[name]}")
