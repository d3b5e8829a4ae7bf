"""The variants of a study, each exported, described and evaluated, and kept in the cache with its manifest."""

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from compressors.build.cache import Cache, key
from compressors.build.trained_networks import TRAINED_BY, Networks
from compressors.data.datasets import Dataset
from compressors.export.exporters import BATCH_RANGE, EXPORTERS, Exported, Exporter, Job, Validate, refusal
from compressors.export.lowerings import AccuracyAwareInt8, depends_on_machine, required
from compressors.measure import companions, evaluate
from compressors.measure.footprint import MemoryProbe
from compressors.networks import zoo
from compressors.networks.layers import INPUT
from compressors.networks.onnx_network import OnnxNetwork
from compressors.progress import say
from compressors.recipes.recipes import Recipe
from compressors.study import GIVEN_INT8, Study
from compressors.tasks.table import STUDIED
from protos import manifest, packing, repository
from protos.errors import VariantError
from protos.manifest import (
    Golden,
    Preprocessing,
    Quality,
    RuntimeName,
    Sources,
    TensorSpec,
    Variant,
    from_json,
    to_json,
)
from protos.preprocessing import input_spec
from protos.repository import Entry, GoldenSet
from protos.support import machine
from protos.tasks.table import TASKS
from protos.tasks.task import Arrays, Rows
from server import runtimes
from server.runtimes import Runtime, SmallBatches
from server.runtimes.golden import golden_error

EVALUATION = 5
"""Part of the key of an artifact: raised when something else is measured of it."""

GOLDEN_ROWS, GOLDEN_BYTES = 16, 16 << 20
"""Golden inputs: as many as these bytes hold, from 2 to so many."""
TOLERANCE = 1.5
"""How much larger than measured the golden error may be: another CPU's kernels round differently."""
TOLERANCE_FLOOR = 1e-3


@dataclass(frozen=True)
class Task:
    """One variant to be built."""

    recipe: Recipe
    runtime: RuntimeName
    title: str
    """Its number and name, for the person who watches."""

    @property
    def name(self) -> str:
        """The variant's name."""
        return f"{self.recipe.name}-{self.runtime}"


def plan(study: Study) -> tuple[list[Task], dict[str, str]]:
    """Returns the tasks of a study, and the reasons of the variants that are refused."""
    reasons = {
        (recipe, runtime): refusal(recipe.lowering, runtime)
        or zoo.refusal(recipe.network_name(study.network_name), runtime)
        for recipe in study.recipes
        for runtime in recipe.runtimes
    }
    taken = [pair for pair, reason in reasons.items() if not reason]
    tasks = [Task(r, rt, f"[{i}/{len(taken)}] {r.name}-{rt}") for i, (r, rt) in enumerate(taken, 1)]
    return tasks, {f"{r.name}-{rt}": reason for (r, rt), reason in reasons.items() if reason}


def describe_machine(study: Study) -> machine.Machine:
    """Returns this machine, with the versions of the libraries that shape the study's variants."""
    libraries = {name for runtime in study.runtimes for name in EXPORTERS[runtime].libraries}
    return machine.describe(*sorted(libraries | {*TRAINED_BY, "numpy"}))


@dataclass(frozen=True)
class Built:
    """An evaluated variant without its timing, the folder of its artifact, and the key that stands for both."""

    variant: Variant
    artifact: Path
    key: str
    recipe: Recipe


Export = Callable[[Exporter, Job], Exported]


class Artifacts:
    """Makes the artifact of each task, or finds what an earlier build made of it."""

    def __init__(self, study: Study, dataset: Dataset, networks: Networks, cache: Cache, export: Export) -> None:
        self._study, self._dataset, self._networks = study, dataset, networks
        self._cache, self._export, self._calibrations = cache, export, dict[Preprocessing, torch.Tensor]()
        self._own_goldens: dict[str, GoldenSet] = {}

    @cached_property
    def golden(self) -> GoldenSet:
        """A few test images, drawn with the seed, and the outputs of FP32 for them."""
        return self._golden(self._study.reference, self._study.reference)

    def own_golden(self, recipe: Recipe) -> GoldenSet | None:
        """Returns the same images as a recipe's network takes them, and the outputs of its student in FP32.

        None where the network is the model's and takes what the model does.
        """
        root = recipe.student or self._study.reference
        if root is self._study.reference and self._networks.data(recipe) is self._networks.data(root):
            return None
        network = recipe.network_recipe
        if network.name not in self._own_goldens:
            self._own_goldens[network.name] = self._golden(root, network)
        return self._own_goldens[network.name]

    def _golden(self, root: Recipe, recipe: Recipe) -> GoldenSet:
        asked, given = (self._networks.questions(each).inputs for each in (root, recipe))
        most = asked.within(GOLDEN_BYTES, 2, GOLDEN_ROWS)
        rows = np.random.default_rng(self._study.seed).choice(len(asked), min(most, len(asked)), replace=False)
        outputs = evaluate.eager(self._networks.of(root).network)({INPUT: asked[rows]})
        return GoldenSet({INPUT: given[rows]}, outputs)

    def cached(self, task: Task) -> Built | None:
        """Returns what an earlier build made, if it is there and undamaged."""
        step_key = self._key(task)
        folder = self._cache.folder(step_key)
        try:
            variant = from_json((folder / repository.MANIFEST).read_text())
            repository.verify(Entry(variant.model, task.name, folder / "artifact", variant, None))
        except (OSError, VariantError):
            return None
        return Built(variant, folder / "artifact", step_key, task.recipe)

    def start_export(self, task: Task, pool: Executor) -> Future[Exported]:
        """Exports in `pool`, to the task's work folder."""
        job = self._job(task)

        def run() -> Exported:
            say(f"{task.title}: exporting")
            exported = self._export(EXPORTERS[task.runtime], job)
            if job.compressible:
                packing.pack(job.folder)
            return exported

        return pool.submit(run)

    def finish(self, task: Task, exported: Future[Exported], probe: MemoryProbe, seconds: float) -> Built | None:
        """Waits for the export, evaluates the artifact for about `seconds`, and keeps it with its manifest."""
        start, done, step_key = time.perf_counter(), exported.result(), self._key(task)
        with self._cache.appearing(step_key) as staging:
            artifact, described = staging / "artifact", staging / repository.MANIFEST
            (self._cache.work(step_key) / "artifact").rename(artifact)
            variant = self._evaluate(task, artifact, done, seconds)
            described.write_text(to_json(variant))
            described.write_text(to_json(replace(variant, footprint=probe.measure(described, artifact))))
        assert variant.quality is not None
        title = TASKS[variant.task].title
        say(f"{task.title}: {title} {variant.quality.value:.2%}, {time.perf_counter() - start:.1f} s")
        return self.cached(task)

    def _job(self, task: Task) -> Job:
        lowering = task.recipe.lowering
        return Job(
            self._networks.of(task.recipe.network_recipe).network,
            torch.from_numpy(self._networks.example(task.recipe)),
            lowering,
            self._calibration(task.recipe) if lowering.calibrated else None,
            self._cache.work(self._key(task)) / "artifact",
            self._validate() if isinstance(lowering, AccuracyAwareInt8) else None,
            task.recipe.compressible,
            float_tail=self._dataset.decoding is not None,  # boxes are regressions: what makes them stays exact
        )

    def _calibration(self, recipe: Recipe) -> torch.Tensor:
        """Returns the calibration split as inputs, made once for each form: those of a detector take a gigabyte."""
        data = self._networks.data(recipe)
        if data.preprocessing not in self._calibrations:
            self._calibrations[data.preprocessing] = torch.from_numpy(data.inputs(data.calibration))
        return self._calibrations[data.preprocessing]

    def _validate(self) -> Validate:
        """Returns what scores answers to the calibration images; it goes to the process that exports."""
        data = self._dataset.only(self._dataset.calibration)
        return partial(STUDIED[data.task].validate, data)

    def _key(self, task: Task) -> str:
        trained, reference = self._networks.of(task.recipe.network_recipe), self._networks.reference
        versions, images = machine.versions(*EXPORTERS[task.runtime].libraries), len(self._dataset.calibration)
        here = [machine.describe().processor] if depends_on_machine(task.recipe.lowering) else []
        return key(trained.key, reference.key, task.recipe.chain(), task.runtime, versions, images, EVALUATION, *here)

    def _evaluate(self, task: Task, artifact: Path, exported: Exported, seconds: float) -> Variant:
        """Returns the manifest of an artifact, without timing and footprint; `seconds` are for its accuracy."""
        variant = self._describe(task, artifact, exported)
        with closing(runtimes.load(artifact, variant, machine.available_cores())) as adapter:
            variant = self._in_its_batches(variant, adapter, self.own_golden(task.recipe) or self.golden)
            if variant.max_batch is not None:
                adapter = SmallBatches(adapter, variant.max_batch)
            rows, answers = evaluate.predict(adapter.infer, self._networks.questions(task.recipe), seconds)
            own = self.own_golden(task.recipe)
            error = golden_error(adapter, variant, own or self.golden)
        golden = Golden(error, TOLERANCE * error + TOLERANCE_FLOOR, own is not None)
        return replace(variant, quality=self._quality(task, rows, answers), golden=golden)

    def _in_its_batches(self, variant: Variant, adapter: Runtime, golden: GoldenSet) -> Variant:
        """Returns the variant, with batches of one row where companions move its answers too far."""
        moved = companions.effect(adapter, variant, golden)
        if moved <= companions.BOUND or variant.max_batch is not None:
            return variant
        note = f"rows beside it move an answer by up to {moved:.0%} of what answers differ by: served without batching"
        notes = tuple(note for note in variant.notes if note != BATCH_RANGE)
        return replace(variant, max_batch=1, notes=(*notes, note))

    def _describe(self, task: Task, artifact: Path, exported: Exported) -> Variant:
        """Returns what is known of an artifact before it is loaded."""
        trained = self._networks.of(task.recipe.network_recipe)
        preprocessing = self._networks.data(task.recipe).preprocessing
        lowering, golden = task.recipe.lowering, self.golden.outputs
        given = trained.network if isinstance(trained.network, OnnxNetwork) else None
        return Variant(
            model=self._study.model,
            variant=task.name,
            recipe=manifest.Recipe(task.recipe.name, task.recipe.chain()),
            runtime=task.runtime,
            precision="int8" if given and given.is_int8 else lowering.precision,
            entry=exported.entry,
            inputs=(input_spec(INPUT, preprocessing),),
            outputs=tuple(TensorSpec(name, "FP32", (-1, *golden[name].shape[1:])) for name in golden),
            preprocessing=preprocessing,
            labels=self._dataset.labels,
            files=repository.describe_files(artifact),
            machine=describe_machine(self._study),
            sources=Sources(
                study=self._study.sha256,
                parent_weights=trained.weights_sha256,
                seed=self._study.seed,
                calibration=self._dataset.fingerprint if lowering.calibrated else None,
            ),
            network=trained.size,
            notes=(*_given_notes(given), *exported.notes),
            requires=required(lowering),
            max_batch=given.max_batch if given else None,
            task=self._dataset.task,
            decoding=self._dataset.decoding,
        )

    def _quality(self, task: Task, rows: Rows, answers: Arrays) -> Quality:
        judge, truth = TASKS[self._dataset.task], self._dataset.test.take(rows).truth
        # The network that the variant lowered, or the one that its last step began with.
        parent, fp32 = self._networks.of(task.recipe.parent or task.recipe), self._networks.reference
        before, reference = (judge.take(network.answers, rows) for network in (parent, fp32))
        was, full = (judge.scores(each, truth)[judge.metric] for each in (before, reference))
        known = None if self._study.reference.name == GIVEN_INT8 else full
        named = f"{self._dataset.name} test"
        return evaluate.quality(self._dataset.task, answers, truth, reference, named, was, known)


def _given_notes(graph: OnnxNetwork | None) -> tuple[str, ...]:
    """Says what a reader must know of a graph that came as it is."""
    if graph is None:
        return ()
    int8 = ("int8 as it was given: its own answers in ONNX Runtime are the reference, no FP32 is known",)
    fixed = ("its graph takes one row at a time: served without batching",)
    return (int8 if graph.is_int8 else ()) + (fixed if graph.max_batch else ())
