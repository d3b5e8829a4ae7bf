"""From a study to a repository: train and prune, export, evaluate, time, publish.

Each step's result lies under `<repository>/.build/<model>/<key>/`, where the key is a hash of everything
that the result depends on. A step whose result is there is not done again, so an interrupted build goes on
where it stopped, and a changed study redoes only what the change touches. A step's folder appears whole.

A variant that fails is left out and reported with its cause; all others are built. Latency is measured
last, over all variants in one interleaved run, and again whenever one of them is new.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressors import data, evaluate, models, recipes
from compressors.export import INPUT, OUTPUT, Job, export
from compressors.progress import say
from compressors.recipes import Recipe, Workplace
from compressors.study import REFERENCE, Study, key
from protos import machine, manifest, repository
from protos.errors import VariantError
from protos.manifest import Golden, Network, Quality, RuntimeName, Sources, TensorSpec, Variant, from_json, to_json
from protos.repository import GoldenSet
from server import runtimes

FORMAT = 1
"""Part of every key: raised when a step's code changes what its result means."""

GOLDEN_ROWS = 16
TOLERANCE = 1.5
"""How much larger than measured the golden error may be: another CPU's kernels round differently."""
TOLERANCE_FLOOR = 1e-3

LIBRARIES: dict[RuntimeName, tuple[str, ...]] = {
    "pytorch": ("torch", "torchao"),
    "torchscript": ("torch",),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript", "torch"),
    "openvino": ("openvino", "nncf", "onnx", "onnxscript", "torch"),
}
"""The distributions that an artifact is made by; a new version makes a new artifact."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A network step's result: the network, its size, its FP32 outputs on the test split."""

    network: nn.Module
    size: Network
    outputs: NDArray[np.float32]
    weights_sha256: str
    key: str


@dataclass
class Build:
    """One build of one study into one repository."""

    study: Study
    root: Path
    data_path: Path | None
    failures: dict[str, str] = field(default_factory=dict)
    """Variant name to cause."""
    _trained: dict[str, Trained] = field(default_factory=dict)

    def run(self) -> list[Variant]:
        """Builds what is missing and publishes it; returns the variants that the repository now holds."""
        built: dict[str, tuple[Variant, Path]] = {}
        names = [(recipe, runtime) for recipe in self.study.recipes for runtime in self.study.runtimes]
        for number, (recipe, runtime) in enumerate(names, 1):
            name = f"{recipe.name}-{runtime}"
            try:
                built[name] = self._variant(recipe, runtime, f"[{number}/{len(names)}] {name}")
            except Exception as error:
                log.debug("variant %s", name, exc_info=True)
                self.failures[name] = (
                    f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
                )
                say(f"[{number}/{len(names)}] {name}: FAILED, {self.failures[name]}")
        return self._publish(built)

    @cached_property
    def dataset(self) -> data.Dataset:
        """The study's data, read once."""
        say(f"data set {self.study.data}: reading")
        loaded = data.load(self.study.data, self.data_path, self.study.calibration, self.study.seed)
        say(f"  train {len(loaded.train)}, calibration {len(loaded.calibration)}, test {len(loaded.test)} images")
        return loaded

    @cached_property
    def data_sha256(self) -> str:
        """The fingerprint of the data, computed once."""
        return self.dataset.fingerprint()

    @cached_property
    def test_inputs(self) -> NDArray[np.float32]:
        """The test split as inputs, made once."""
        return self.dataset.inputs(self.dataset.test)

    def _network(self, recipe: Recipe) -> Trained:
        """The network that a network step makes, from the cache where it is there."""
        if recipe.name in self._trained:
            return self._trained[recipe.name]
        parent = self._network(recipe.parent) if recipe.parent else None
        step_key = key(FORMAT, self.study.network, self.study.seed, self.data_sha256, recipe.chain())
        folder = self._folder(step_key)
        if not folder.is_dir():
            say(f"network {recipe.name}: {recipe.chain()[-1].name}")
            work = self._folder(f"{step_key}.work")
            work.mkdir(parents=True, exist_ok=True)
            at = Workplace(
                self.study.network, self.dataset, self.study.seed, parent.network if parent else None,
                work / "checkpoint.pt",
            )  # fmt: skip
            network = recipes.apply(recipe.network_step(), at)
            with _appearing(folder) as staging:
                torch.save(network.state_dict(), staging / "weights.pt")
                np.save(staging / "outputs.npy", evaluate.predict_network(network, self.test_inputs))
            shutil.rmtree(work)
        weights = torch.load(folder / "weights.pt", weights_only=True)
        network = models.restore(self.study.network, len(self.dataset.labels), weights)
        example = torch.from_numpy(self.test_inputs[:1])
        outputs = np.load(folder / "outputs.npy")
        digest = repository.sha256(folder / "weights.pt")
        self._trained[recipe.name] = Trained(network, models.measure(network, example), outputs, digest, step_key)
        say(f"network {recipe.name}: top-1 {self._top1(outputs):.2%}")
        return self._trained[recipe.name]

    def _top1(self, outputs: NDArray[np.float32]) -> float:
        return evaluate.share_equal(outputs.argmax(1), self.dataset.test.labels)

    def _variant(self, recipe: Recipe, runtime: RuntimeName, title: str) -> tuple[Variant, Path]:
        """The exported and evaluated variant without its latency, and the folder of its artifact."""
        trained = self._network(recipe.network)
        libraries = machine.versions(*LIBRARIES[runtime])
        folder = self._folder(key(FORMAT, trained.key, recipe.chain(), runtime, libraries, self.study.calibration))
        if not folder.is_dir():
            start = time.perf_counter()
            with _appearing(folder) as staging:
                artifact = staging / "artifact"
                artifact.mkdir()
                say(f"{title}: exporting")
                entry = self._export(recipe, runtime, trained, artifact)
                say(f"{title}: evaluating on {len(self.dataset.test)} images")
                variant = self._evaluate(recipe, runtime, trained, artifact, entry)
                (staging / repository.MANIFEST).write_text(to_json(variant))
            assert variant.quality is not None
            say(f"{title}: top-1 {variant.quality.value:.2%}, {time.perf_counter() - start:.1f} s")
        return from_json((folder / repository.MANIFEST).read_text()), folder / "artifact"

    def _export(self, recipe: Recipe, runtime: RuntimeName, trained: Trained, folder: Path) -> str:
        calibration = torch.from_numpy(self.dataset.inputs(self.dataset.calibration)) if recipe.quantized else None
        return export(runtime, Job(trained.network, torch.from_numpy(self.test_inputs[:2]), calibration, folder))

    def _evaluate(self, recipe: Recipe, runtime: RuntimeName, trained: Trained, folder: Path, entry: str) -> Variant:
        reference = self._network(next(r for r in self.study.recipes if r.name == REFERENCE))
        parent = trained if recipe.quantized else self._network(recipe.parent) if recipe.parent else trained
        shape = tuple(self.test_inputs.shape[1:])
        variant = Variant(
            model=self.study.model,
            variant=f"{recipe.name}-{runtime}",
            recipe=manifest.Recipe(recipe.name, recipe.chain()),
            runtime=runtime,
            precision="int8" if recipe.quantized else "fp32",
            entry=entry,
            inputs=(TensorSpec(INPUT, "FP32", (-1, *shape)),),
            outputs=(TensorSpec(OUTPUT, "FP32", (-1, len(self.dataset.labels))),),
            preprocessing=self.dataset.preprocessing,
            labels=self.dataset.labels,
            files=repository.describe_files(folder),
            golden=Golden(0.0, 0.0),
            machine=machine.describe(*LIBRARIES[runtime], "torch-pruning", "numpy"),
            sources=Sources(
                study=self.study.sha256,
                parent_weights=trained.weights_sha256,
                seed=self.study.seed,
                calibration=self.data_sha256 if recipe.quantized else None,
            ),
            network=trained.size,
        )
        adapter = runtimes.load(folder, variant, evaluate.THREADS)
        try:
            predictions = evaluate.predict(adapter, self.test_inputs, INPUT, OUTPUT)
            error = runtimes.golden_error(adapter, variant, self._golden(reference))
        finally:
            adapter.close()
        quality = Quality(
            metric="top1",
            value=evaluate.share_equal(predictions, self.dataset.test.labels),
            dataset=f"{self.study.data} test",
            samples=len(predictions),
            parent=self._top1(parent.outputs),
            fp32=self._top1(reference.outputs),
            agreement=evaluate.share_equal(predictions, reference.outputs.argmax(1)),
        )
        return replace(variant, quality=quality, golden=Golden(error, TOLERANCE * error + TOLERANCE_FLOOR))

    def _golden(self, reference: Trained) -> GoldenSet:
        """A few test images, drawn with the seed, and what FP32 answers on them."""
        rows = np.random.default_rng(self.study.seed).choice(len(self.test_inputs), GOLDEN_ROWS, replace=False)
        return GoldenSet(self.test_inputs[rows], self.dataset.test.labels[rows], reference.outputs[rows])

    def _publish(self, built: dict[str, tuple[Variant, Path]]) -> list[Variant]:
        """Times all variants together and publishes those that the repository does not hold already."""
        if not built:
            return []
        latencies = self._latencies(built)
        published = {e.name: e for e in repository.scan(self.root) if e.model == self.study.model}
        reference = self._network(next(r for r in self.study.recipes if r.name == REFERENCE))
        repository.save_golden(self.root, self.study.model, self._golden(reference))
        done = []
        for name, (variant, artifact) in built.items():
            variant = replace(variant, latency=evaluate.summary(latencies[name]))
            if not _holds(published.get(name), variant):
                repository.publish(self.root, variant, artifact)
                say(f"{name}: published")
            done.append(variant)
        return done

    def _latencies(self, built: dict[str, tuple[Variant, Path]]) -> dict[str, NDArray[np.float64]]:
        """Raw batch-1 seconds of each variant, from the cache where exactly these artifacts were timed before."""
        folder = self._folder(key(FORMAT, "latency", [str(artifact) for _, artifact in built.values()]))
        if not folder.is_dir():
            say(f"latency of {len(built)} variants, interleaved, {evaluate.ROUNDS * evaluate.CALLS} calls each")
            adapters = {
                name: runtimes.load(artifact, variant, evaluate.THREADS) for name, (variant, artifact) in built.items()
            }
            inputs = {INPUT: self.test_inputs[:1]}
            with _appearing(folder) as staging:
                samples = evaluate.latencies(adapters, inputs, self.study.seed)
                np.savez(staging / "seconds.npz", allow_pickle=False, **samples)
            for adapter in adapters.values():
                adapter.close()
        with np.load(folder / "seconds.npz") as arrays:
            return dict(arrays)

    def _folder(self, step_key: str) -> Path:
        return self.root / ".build" / self.study.model / step_key


def _holds(entry: repository.Entry | None, variant: Variant) -> bool:
    """Whether a folder of the repository is this variant, undamaged."""
    try:
        return entry is not None and repository.verify(entry) == variant
    except VariantError:
        return False


@contextlib.contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A staging folder that becomes `folder` when the block ends well, and goes away when it does not."""
    staging = folder.with_name(f"{folder.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
