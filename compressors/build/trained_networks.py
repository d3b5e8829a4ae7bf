"""The networks of a study: trained, pruned, ... once each, kept in the cache, brought back from it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressors.build import teachers
from compressors.build.cache import Cache, key
from compressors.data.datasets import Dataset
from compressors.measure import evaluate
from compressors.networks import contract, zoo
from compressors.networks.layers import with_plain_weights
from compressors.progress import say
from compressors.recipes.recipes import Recipe, StepContext
from compressors.recipes.steps import LoadFile, NetworkStep, Train
from compressors.recipes.train import Teacher
from compressors.study import Study
from protos import repository
from protos.manifest import Network
from protos.support import machine
from protos.support.significance import share_equal

TRAINED_BY = ("torch", "torch-pruning", "scikit-learn")
"""The distributions that shape a network."""


@dataclass(frozen=True)
class Trained:
    """A network step's result: the network, its size, its FP32 outputs on the test split."""

    network: nn.Module
    size: Network
    outputs: NDArray[np.float32]
    weights_sha256: str
    key: str


Apply = Callable[[NetworkStep, StepContext], nn.Module]


class Networks:
    """Makes each network of `study` when it is first asked for; the same one is returned after that."""

    def __init__(self, study: Study, dataset: Dataset, cache: Cache, root: Path, apply: Apply) -> None:
        self._study, self._dataset, self._cache, self._root = study, dataset, cache, root
        self._apply, self._made = apply, dict[str, Trained]()

    @cached_property
    def test_inputs(self) -> NDArray[np.float32]:
        """The test split as inputs, made once."""
        return self._dataset.inputs(self._dataset.test)

    @property
    def example(self) -> NDArray[np.float32]:
        """Two test inputs, one of them twice where there is one alone: a batch of 1 would be fixed in an export."""
        return self.test_inputs.take((0, 1), axis=0, mode="wrap")

    @property
    def reference(self) -> Trained:
        """The network that everything is compared with: FP32, or an ONNX graph that is int8 already."""
        return self.of(self._study.reference)

    def of(self, recipe: Recipe) -> Trained:
        """Returns the network that the step of `recipe` makes; raises what making it or its parents raises."""
        if recipe.name in self._made:
            return self._made[recipe.name]
        parent = self.of(recipe.parent) if recipe.parent else None
        step_key = self._key(recipe, parent)
        if not (folder := self._cache.folder(step_key)).is_dir():
            say(f"network {recipe.name}: {recipe.chain()[-1].name}")
            self._make(recipe, parent, step_key)
        self._made[recipe.name] = self._restore(folder, step_key)
        say(f"network {recipe.name}: top-1 {self.top1(self._made[recipe.name]):.2%}")
        return self._made[recipe.name]

    def check(self) -> None:
        """Raises `UsageError` where a file does not fit, or the network does not keep its contract, before training."""
        name, seed, classes = self._study.network_name, self._study.seed, len(self._dataset.labels)
        for recipe in self._study.recipes:
            if isinstance(recipe.step, LoadFile):
                self._apply(recipe.step, self._context(None, Path(), None))
            elif isinstance(recipe.step, Train):
                contract.check(zoo.create(name, classes, seed).eval(), self._dataset.test.images.shape[1:], classes)

    def top1(self, trained: Trained) -> float:
        """Returns the share of the test split that a network gets right."""
        return share_equal(trained.outputs.argmax(1), self._dataset.test.labels)

    def _key(self, recipe: Recipe, parent: Trained | None) -> str:
        versions, name = machine.versions(*TRAINED_BY), teachers.named(recipe)
        taught_by = teachers.fingerprint(name, self._root) if name else None
        network = zoo.identity(self._study.network_name)
        origin = (network, self._study.seed, self._dataset.fingerprint, parent.key if parent else None)
        return key(*origin, recipe.chain(), versions, taught_by)

    def _make(self, recipe: Recipe, parent: Trained | None, step_key: str) -> None:
        example, classes, name = (
            torch.from_numpy(self.example),
            len(self._dataset.labels),
            teachers.named(recipe),
        )
        teacher = teachers.load(name, self._root, example, classes) if name else None
        checkpoint = self._cache.work(step_key) / "checkpoint.pt"
        at = self._context(parent.network if parent else None, checkpoint, teacher)
        assert isinstance(recipe.step, NetworkStep)
        network = with_plain_weights(self._apply(recipe.step, at))
        with self._cache.appearing(step_key) as staging:
            torch.save(network.state_dict(), staging / "weights.pt")
            np.save(staging / "outputs.npy", evaluate.predict_network(network, self.test_inputs))

    def _context(self, parent: nn.Module | None, checkpoint: Path, teacher: Teacher | None) -> StepContext:
        return StepContext(self._study.network_name, self._dataset, self._study.seed, parent, checkpoint, teacher)

    def _restore(self, folder: Path, step_key: str) -> Trained:
        weights = torch.load(folder / "weights.pt", weights_only=True)
        network = zoo.restore(self._study.network_name, len(self._dataset.labels), weights)
        size = zoo.measure(network, torch.from_numpy(self.test_inputs[:1].copy()))
        weights_sha256 = repository.sha256(folder / "weights.pt")
        return Trained(network, size, np.load(folder / "outputs.npy"), weights_sha256, step_key)
