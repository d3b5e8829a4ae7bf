"""The manifest of an artifact: what it was made from, and how well it answers the test split."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from compressors.build.tasks import Task
from compressors.build.trained_networks import TRAINED_BY, Networks
from compressors.data.datasets import Dataset
from compressors.export.exporters import EXPORTERS, INPUT, OUTPUT, Exported
from compressors.export.lowerings import required
from compressors.measure import evaluate
from compressors.measure.evaluate import Outputs
from compressors.study import Study
from protos import manifest, repository
from protos.manifest import Golden, Quality, Sources, TensorSpec, Variant
from protos.repository import GoldenSet
from protos.support import machine
from protos.support.significance import share_equal
from server import runtimes
from server.runtimes.golden import golden_error

GOLDEN_ROWS = 16
TOLERANCE = 1.5
"""How much larger than measured the golden error may be: another CPU's kernels round differently."""
TOLERANCE_FLOOR = 1e-3


def describe_machine(study: Study) -> machine.Machine:
    """Returns this machine, with the versions of the libraries that shape the study's variants."""
    libraries = {name for runtime in study.runtimes for name in EXPORTERS[runtime].libraries}
    return machine.describe(*sorted(libraries | {*TRAINED_BY, "numpy"}))


class Evaluation:
    """Describes and evaluates the artifacts of one study."""

    def __init__(self, study: Study, dataset: Dataset, networks: Networks) -> None:
        self._study, self._dataset, self._networks = study, dataset, networks

    @cached_property
    def golden(self) -> GoldenSet:
        """A few test images, drawn with the seed, and what FP32 answers on them."""
        inputs = self._networks.test_inputs
        rows = np.random.default_rng(self._study.seed).choice(len(inputs), GOLDEN_ROWS, replace=False)
        return GoldenSet(inputs[rows], self._dataset.test.labels[rows], self._networks.reference.outputs[rows])

    def evaluate(self, task: Task, artifact: Path, exported: Exported) -> Variant:
        """Returns the manifest of the artifact in the folder `artifact`, without timing and footprint."""
        variant = self._describe(task, artifact, exported)
        adapter = runtimes.load(artifact, variant, evaluate.THREADS)
        try:
            outputs = evaluate.predict(adapter, self._networks.test_inputs, INPUT, OUTPUT)
            error = golden_error(adapter, variant, self.golden)
        finally:
            adapter.close()
        golden = Golden(error, TOLERANCE * error + TOLERANCE_FLOOR)
        return replace(variant, quality=self._quality(task, outputs), golden=golden)

    def _describe(self, task: Task, artifact: Path, exported: Exported) -> Variant:
        """What is known of an artifact before it is loaded."""
        trained, shape = self._networks.of(task.recipe.network_recipe), self._networks.test_inputs.shape[1:]
        lowering = task.recipe.lowering
        return Variant(
            model=self._study.model,
            variant=task.name,
            recipe=manifest.Recipe(task.recipe.name, task.recipe.chain()),
            runtime=task.runtime,
            precision=lowering.precision,
            entry=exported.entry,
            inputs=(TensorSpec(INPUT, "FP32", (-1, *shape)),),
            outputs=(TensorSpec(OUTPUT, "FP32", (-1, len(self._dataset.labels))),),
            preprocessing=self._dataset.preprocessing,
            labels=self._dataset.labels,
            files=repository.describe_files(artifact),
            machine=describe_machine(self._study),
            sources=Sources(
                study=self._study.sha256,
                parent_weights=trained.weights_sha256,
                seed=self._study.seed,
                calibration=self._networks.data_sha256 if lowering.calibrated else None,
            ),
            network=trained.size,
            notes=exported.notes,
            requires=required(lowering),
        )

    def _quality(self, task: Task, outputs: Outputs) -> Quality:
        networks, labels = self._networks, self._dataset.test.labels
        predictions, reference = outputs.argmax(1), networks.reference.outputs.argmax(1)
        lost, gained = evaluate.flips(predictions, reference, labels)
        return Quality(
            metric="top1",
            value=share_equal(predictions, labels),
            dataset=f"{self._dataset.name} test",
            samples=len(predictions),
            # The network that the variant lowered, or the one that its last step began with.
            parent=networks.top1(networks.of(task.recipe.parent or task.recipe)),
            fp32=networks.top1(networks.reference),
            agreement=share_equal(predictions, reference),
            top5=evaluate.top5(outputs, labels),
            lost=lost,
            gained=gained,
        )
