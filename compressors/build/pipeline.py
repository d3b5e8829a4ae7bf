"""From a study to a repository: train and prune, export, evaluate, time, publish.

Each step's result is kept in the `cache`, so an interrupted build goes on where it stopped, and a changed
study redoes only what the change touches. A variant that fails is left out and reported with its cause; all
others are built. Latency and throughput are measured last (see `timing`).
"""

import logging
import time
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from compressors.build.cache import Cache, key
from compressors.build.isolation import in_fresh_process, side_by_side
from compressors.build.trained_networks import TRAINED_BY, Networks, Trained
from compressors.data import datasets
from compressors.export.exporters import EXPORTERS, INPUT, OUTPUT, Exported, Job, export
from compressors.export.lowerings import refusal
from compressors.measure import evaluate, footprint
from compressors.measure.timing import Timing, timing
from compressors.networks import zoo
from compressors.progress import say
from compressors.recipes.recipes import Recipe
from compressors.report import unbuilt
from compressors.study import REFERENCE, Study
from protos import manifest, packing, repository
from protos.errors import VariantError
from protos.manifest import Golden, Quality, RuntimeName, Sources, TensorSpec, Variant, from_json, to_json
from protos.repository import Entry, EvaluationSet, GoldenSet
from protos.support import machine
from protos.support.significance import share_equal
from server import runtimes
from server.runtimes.golden import golden_error

GOLDEN_ROWS = 16
TOLERANCE = 1.5
"""How much larger than measured the golden error may be: another CPU's kernels round differently."""
TOLERANCE_FLOOR = 1e-3
TEST_SPLIT_BYTES = 256 * 2**20
"""What the pixels of a test split may take that is kept in the repository."""
EVALUATION = 2
"""Part of the key of an artifact: raised when something else is measured of it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One variant to be built; `title` is its name for the person who watches."""

    recipe: Recipe
    runtime: RuntimeName
    title: str

    @property
    def name(self) -> str:
        return f"{self.recipe.name}-{self.runtime}"


@dataclass(frozen=True)
class Built:
    """An evaluated variant without its timing, the folder of its artifact, and the key that stands for both."""

    variant: Variant
    artifact: Path
    key: str


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

    def __init__(self, study: Study, root: Path, dataset: datasets.Dataset) -> None:
        self.study, self.root, self.dataset = study, root, dataset
        self.failures: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self._cache = Cache(root, study.model)

    def check(self) -> None:
        """`UsageError` where what the study loads does not fit; before any work starts."""
        self.networks.check()

    def run(self) -> None:
        """Builds what is missing and publishes it; `UsageError` where another build is at work."""
        with self._cache.locked():
            tasks = self._trainable(self._tasks())
            with side_by_side(machine.available_cores()) as pool, footprint.Scales() as scales:
                begun = {task: self._cached(task) or self._start_export(task, pool) for task in tasks}
                built = {task.name: self._attempt(task, begun[task], scales) for task in tasks}
            self._publish({name: done for name, done in built.items() if done})
            unbuilt.save(self.root / self.study.model, self.refused, self.failures)

    @cached_property
    def networks(self) -> Networks:
        """The study's networks."""
        return Networks(self.study, self.dataset, self._cache, self.root)

    @cached_property
    def golden(self) -> GoldenSet:
        """A few test images, drawn with the seed, and what FP32 answers on them."""
        rows = np.random.default_rng(self.study.seed).choice(len(self.networks.test_inputs), GOLDEN_ROWS, replace=False)
        return GoldenSet(
            self.networks.test_inputs[rows], self.dataset.test.labels[rows], self.networks.reference.outputs[rows]
        )

    def _tasks(self) -> list[Task]:
        """The variants that can be built; those that a runtime cannot take are noted as refused."""
        pairs = []
        for recipe in self.study.recipes:
            for runtime in recipe.runtimes:
                if reason := refusal(recipe.lowering, runtime) or zoo.refusal(self.study.network, runtime):
                    self.refused[f"{recipe.name}-{runtime}"] = reason
                else:
                    pairs.append((recipe, runtime))
        return [Task(r, rt, f"[{i}/{len(pairs)}] {r.name}-{rt}") for i, (r, rt) in enumerate(pairs, 1)]

    def _trainable(self, tasks: list[Task]) -> list[Task]:
        """Makes all networks; leaves out the tasks whose network failed."""
        done = []
        for task in tasks:
            try:
                self.networks.of(task.recipe.network)
                done.append(task)
            except Exception as error:
                self._fail(task.name, error)
        return done

    def _key(self, task: Task) -> str:
        trained, versions = self.networks.of(task.recipe.network), machine.versions(*EXPORTERS[task.runtime].libraries)
        chain, calibration = task.recipe.chain(), self.study.calibration
        return key(trained.key, self.networks.reference.key, chain, task.runtime, versions, calibration, EVALUATION)

    def _start_export(self, task: Task, pool: Executor) -> Future[Exported]:
        """The artifact, once it is exported to the task's work folder."""
        folder = self._cache.work(self._key(task)) / "artifact"
        trained, calibration = self.networks.of(task.recipe.network), self.dataset.calibration
        lowering = task.recipe.lowering
        inputs = torch.from_numpy(self.dataset.inputs(calibration)) if lowering.calibrated else None
        labels = torch.from_numpy(calibration.labels) if lowering.calibrated else None
        example = torch.from_numpy(self.networks.test_inputs[:2])
        job = Job(trained.network, example, lowering, inputs, folder, labels, task.recipe.compressible)

        def run() -> Exported:
            say(f"{task.title}: exporting")
            exported = in_fresh_process(export, EXPORTERS[task.runtime], job)
            if job.compressible:
                packing.pack(folder)
            return exported

        return pool.submit(run)

    def _cached(self, task: Task) -> Built | None:
        """What an earlier build made, if it is there and undamaged."""
        step_key = self._key(task)
        folder = self._cache.folder(step_key)
        try:
            variant = from_json((folder / repository.MANIFEST).read_text())
            repository.verify(Entry(self.study.model, task.name, folder / "artifact", variant, None))
        except (OSError, VariantError):
            return None
        return Built(variant, folder / "artifact", step_key)

    def _attempt(self, task: Task, begun: Built | Future[Exported], scales: footprint.Scales) -> Built | None:
        """What an earlier build made, or this one makes of the export; None where that failed."""
        if isinstance(begun, Built):
            return begun
        try:
            self._finish(task, begun, scales)
            return self._cached(task)
        except Exception as error:
            self._fail(task.name, error)
            return None

    def _finish(self, task: Task, exported: Future[Exported], scales: footprint.Scales) -> None:
        """Waits for the artifact, evaluates and weighs it, and keeps both."""
        start, done, step_key = time.perf_counter(), exported.result(), self._key(task)
        with self._cache.appearing(step_key) as staging:
            artifact, described = staging / "artifact", staging / repository.MANIFEST
            (self._cache.work(step_key) / "artifact").rename(artifact)
            variant = self._evaluate(self._describe(task, artifact, done), artifact)
            described.write_text(to_json(variant))
            described.write_text(to_json(replace(variant, footprint=scales.weigh(described, artifact))))
        assert variant.quality is not None
        say(f"{task.title}: top-1 {variant.quality.value:.2%}, {time.perf_counter() - start:.1f} s")

    def _describe(self, task: Task, artifact: Path, exported: Exported) -> Variant:
        """The manifest of an artifact, before anything of it was measured."""
        trained, shape = self.networks.of(task.recipe.network), tuple(self.networks.test_inputs.shape[1:])
        return Variant(
            model=self.study.model,
            variant=task.name,
            recipe=manifest.Recipe(task.recipe.name, task.recipe.chain()),
            runtime=task.runtime,
            precision=task.recipe.lowering.precision,
            entry=exported.entry,
            inputs=(TensorSpec(INPUT, "FP32", (-1, *shape)),),
            outputs=(TensorSpec(OUTPUT, "FP32", (-1, len(self.dataset.labels))),),
            preprocessing=self.dataset.preprocessing,
            labels=self.dataset.labels,
            files=repository.describe_files(artifact),
            golden=Golden(0.0, 0.0),
            machine=self._machine(),
            sources=Sources(
                study=self.study.sha256,
                parent_weights=trained.weights_sha256,
                seed=self.study.seed,
                calibration=self.networks.data_sha256 if task.recipe.lowering.calibrated else None,
            ),
            network=trained.size,
            notes=exported.notes,
        )

    def _evaluate(self, variant: Variant, artifact: Path) -> Variant:
        adapter = runtimes.load(artifact, variant, evaluate.THREADS)
        try:
            outputs = evaluate.predict(adapter, self.networks.test_inputs, INPUT, OUTPUT)
            error = golden_error(adapter, variant, self.golden)
        finally:
            adapter.close()
        predictions, labels = outputs.argmax(1), self.dataset.test.labels
        reference = self.networks.reference.outputs.argmax(1)
        lost, gained = evaluate.flips(predictions, reference, labels)
        quality = Quality(
            metric="top1",
            value=share_equal(predictions, labels),
            dataset=f"{self.dataset.name} test",
            samples=len(predictions),
            parent=self.networks.top1(self._parent(variant)),
            fp32=self.networks.top1(self.networks.reference),
            agreement=share_equal(predictions, reference),
            top5=evaluate.top5(outputs, labels),
            lost=lost,
            gained=gained,
        )
        return replace(variant, quality=quality, golden=Golden(error, TOLERANCE * error + TOLERANCE_FLOOR))

    def _parent(self, variant: Variant) -> Trained:
        """The network before the variant's last step: the one it lowered, or the one that the step began with."""
        recipe = next(recipe for recipe in self.study.recipes if recipe.name == variant.recipe.name)
        return self.networks.of(recipe.parent or recipe)

    def _publish(self, built: dict[str, Built]) -> None:
        """Times all variants together, and publishes those that the repository does not hold already."""
        if not built:
            return
        timed = self._timing(built)
        published = {e.name: e for e in repository.scan(self.root) if e.model == self.study.model}
        repository.save_golden(self.root, self.study.model, self.golden)
        self._save_test_split()
        for name, done in built.items():
            variant = replace(
                done.variant,
                latency=evaluate.summary(timed.singles[name]),
                throughput=evaluate.best_throughput(timed.batches[name]),
                machine=timed.machine,
                published=self.study.published.get(name),
                sources=replace(done.variant.sources, study=self.study.sha256),
            )
            if not _holds(published.get(name), variant):
                repository.publish(self.root, variant, done.artifact)
                say(f"{name}: published")
        self._choose_default(built)

    def _save_test_split(self) -> None:
        """Puts the test split beside the variants, for whoever counts a server's answers to it."""
        test = self.dataset.test
        if test.images.nbytes > TEST_SPLIT_BYTES:
            (self.root / self.study.model / repository.TEST).unlink(missing_ok=True)
            size, most = (f"{count / 2**20:.0f} MB" for count in (test.images.nbytes, TEST_SPLIT_BYTES))
            say(f"{repository.TEST}: left out, its images take {size}, {most} at most are kept beside the variants")
            return
        predictions = self.networks.reference.outputs.argmax(1)
        repository.save_evaluation_set(
            self.root, self.study.model, EvaluationSet(test.pixels, test.labels, predictions)
        )

    def _choose_default(self, built: dict[str, Built]) -> None:
        """Where there is no FP32 PyTorch variant, an empty version means another FP32 one, unless it was set."""
        known = {e.name for e in repository.scan(self.root) if e.model == self.study.model}
        first = next((name for name, done in built.items() if done.variant.recipe.name == REFERENCE), None)
        if repository.default_variant(self.root, self.study.model) not in known and first:
            repository.promote(self.root, self.study.model, first)

    def _timing(self, built: dict[str, Built]) -> Timing:
        def open_all() -> dict[str, runtimes.Runtime]:
            return {name: runtimes.load(done.artifact, done.variant, evaluate.THREADS) for name, done in built.items()}

        keys, inputs = [done.key for done in built.values()], self.networks.test_inputs[: evaluate.BATCHES[-1]]
        return timing(self._cache, keys, self._machine(), open_all, inputs, self.study.seed)

    def _machine(self) -> machine.Machine:
        libraries = {name for runtime in self.study.runtimes for name in EXPORTERS[runtime].libraries}
        return machine.describe(*sorted(libraries | {*TRAINED_BY, "numpy"}))

    def _fail(self, name: str, error: Exception) -> None:
        log.debug("variant %s", name, exc_info=error)
        first_line = str(error).strip().partition("\n")[0]
        self.failures[name] = f"{type(error).__name__}: {first_line}"
        say(f"{name}: FAILED, {self.failures[name]}")


def _holds(entry: Entry | None, variant: Variant) -> bool:
    """Whether a folder of the repository is this variant, undamaged."""
    try:
        return entry is not None and repository.verify(entry) == variant
    except VariantError:
        return False
