"""From a study to a repository: train and prune, export, evaluate, time, publish.

The cache keeps the result of each step: an interrupted build goes on where it stopped, and a changed study
redoes only what the change touches. A variant that fails is left out and reported with the line that tells why,
all of it in a log in `.build`; all others are built. Latency and throughput are measured last (see `timing`).
"""

import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from compressors.build import publishing
from compressors.build.artifacts import Artifacts, Built, Export, Task, describe_machine, plan
from compressors.build.budget import Budget
from compressors.build.cache import Cache
from compressors.build.isolation import in_fresh_process, side_by_side
from compressors.build.trained_networks import Apply, Networks
from compressors.data import datasets
from compressors.export import exporters
from compressors.measure import latency
from compressors.measure.footprint import MemoryProbe
from compressors.measure.timing import Latencies, Timing, timing
from compressors.progress import first_line, say
from compressors.recipes import recipes
from compressors.report import unbuilt
from compressors.study import Study
from protos import repository
from protos.manifest import Variant
from protos.support import atomic, machine
from server import runtimes

P = ParamSpec("P")
T = TypeVar("T")


def isolated_export(exporter: exporters.Exporter, job: exporters.Job) -> exporters.Exported:
    """Exports in a process of its own."""
    return in_fresh_process(exporters.export, exporter, job)


@dataclass(frozen=True)
class Tools:
    """The costly parts of a build; tests give it quick ones."""

    apply: Apply = recipes.apply
    export: Export = isolated_export
    pool: Callable[[int], AbstractContextManager[Executor]] = side_by_side
    memory_probe: Callable[[], MemoryProbe] = MemoryProbe
    latencies: Latencies = latency.latencies


TOOLS = Tools()


def read_data(study: Study, path: Path | None) -> datasets.Dataset:
    """Reads the study's data; raises `UsageError` where it is not there or not what the study needs."""
    say(f"data set {study.data}: reading")
    loaded = datasets.load(study.data, path, study.calibration, study.seed, study.form)
    say(f"  train {len(loaded.train)}, calibration {len(loaded.calibration)}, test {len(loaded.test)} images")
    return loaded


class Build:
    """One build of one study into one repository.

    `failures` are names of variants with what went wrong, `refused` with why their runtime cannot take them.
    `budget` is the seconds that it may take, as far as measuring can keep to them.
    """

    def __init__(
        self,
        study: Study,
        root: Path,
        dataset: datasets.Dataset,
        given: Tools | None = None,
        budget: float | None = None,
    ) -> None:
        self.study, self.root = study, root
        if dataset.decoding != study.decoding:  # the models of a study share what was hashed of its data
            dataset = replace(dataset, decoding=study.decoding)
        self.dataset = dataset
        self.failures: dict[str, str] = {}
        self._tasks, self.refused = plan(study)
        self._tools, self._cache, self._seconds = given or TOOLS, Cache(root, study.model), budget
        self.networks = Networks(study, dataset, self._cache, root, self._tools.apply)
        self._artifacts = Artifacts(study, dataset, self.networks, self._cache, self._tools.export)

    def check(self) -> None:
        """Raises `UsageError` where what the study loads does not fit; before any work starts."""
        self.networks.check()

    def log(self, name: str) -> Path:
        """Returns the file with the whole text of why the variant `name` failed, with its traceback."""
        return self._cache.log(name)

    def run(self) -> None:
        """Builds what is missing and publishes it; raises `UsageError` where another build is at work."""
        self._budget = Budget(self._seconds)
        with self._cache.locked():
            for task in self._tasks:
                self.log(task.name).unlink(missing_ok=True)
            tasks = [task for task in self._tasks if self._tried(task, self.networks.of, task.recipe.network_recipe)]
            if built := self._build(tasks):
                self._publish(built, self._time(built))
            unbuilt.save(self.root / self.study.model, self.refused, self.failures)

    def _build(self, tasks: list[Task]) -> dict[str, Built]:
        """Exports side by side and evaluates one after the other; returns what was built, by name."""
        made, built = self._artifacts, dict[str, Built]()
        with self._tools.pool(machine.available_cores()) as pool, self._tools.memory_probe() as probe:
            begun = [(task, made.cached(task) or made.start_export(task, pool)) for task in tasks]
            for done, (task, found) in enumerate(begun):
                share = self._budget.evaluation(len(tasks) - done)
                one = found if isinstance(found, Built) else self._tried(task, made.finish, task, found, probe, share)
                if one:
                    built[task.name] = one
                say(f"{task.title}: {self._budget.remaining(done + 1, len(tasks))}")
        return built

    def _time(self, built: dict[str, Built]) -> Timing:
        """Times all variants together."""

        def open_all() -> dict[str, runtimes.Runtime]:
            return {name: runtimes.load(done.artifact, done.variant, latency.THREADS) for name, done in built.items()}

        asked = {name: self.networks.questions(done.recipe).inputs for name, done in built.items()}
        keys, inputs = [d.key for d in built.values()], {n: each[: latency.BATCHES[-1]] for n, each in asked.items()}
        here = describe_machine(self.study)
        share = self._budget.timing(len(built))
        return timing(self._cache, keys, here, open_all, inputs, self.study.seed, share, self._tools.latencies)

    def _publish(self, built: dict[str, Built], timed: Timing) -> None:
        """Puts the variants into the repository, with what is needed to check them."""
        model = self.study.model
        repository.save_golden(self.root, model, self._artifacts.golden)
        publishing.save_test_split(self.root, model, self.dataset, self.networks.reference.answers)
        publishing.publish(
            self.root,
            model,
            [
                (self._timed(done.variant, timed), done.artifact, self._artifacts.own_golden(done.recipe))
                for done in built.values()
            ],
        )

    def _timed(self, variant: Variant, timed: Timing) -> Variant:
        return replace(
            variant,
            latency=latency.summary(timed.singles[variant.variant]),
            throughput=latency.best_throughput(timed.batches[variant.variant]),
            machine=timed.machine,
            published=self.study.published.get(variant.variant),
            sources=replace(variant.sources, study=self.study.sha256),
        )

    def _tried(self, task: Task, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T | None:
        """Returns what the function does for the task; None where it fails, with the cause among the failures."""
        try:
            return function(*arguments, **keywords)
        except Exception as error:
            self.failures[task.name] = f"{type(error).__name__}: {first_line(error)}"
            atomic.write_text(self.log(task.name), "".join(traceback.format_exception(error)))
            say(f"{task.name}: FAILED, {self.failures[task.name]} (all of it: {self.log(task.name)})")
            return None
