"""The networks of a study: trained, pruned, ... once each, kept in the cache, brought back from it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compressors.build import teachers
from compressors.build.cache import Cache, key
from compressors.data.datasets import Dataset
from compressors.measure import evaluate
from compressors.measure.evaluate import Questions
from compressors.networks import zoo
from compressors.networks.layers import with_plain_weights
from compressors.networks.pixels import fold_input
from compressors.progress import say
from compressors.recipes.recipes import Recipe, StepContext, check_contract
from compressors.recipes.steps import FoldInput, LoadFile, NetworkStep, Student, Train
from compressors.recipes.train import Teacher
from compressors.study import Study
from protos import repository
from protos.errors import UsageError
from protos.manifest import Network, Preprocessing
from protos.support import machine
from protos.tasks.table import TASKS
from protos.tasks.task import Array, Arrays

TRAINED_BY = ("torch", "torch-pruning", "scikit-learn")
"""The distributions that shape a network."""
ANSWERS = 2
"""Part of the key of a network: raised when its answers are kept in another form."""


@dataclass(frozen=True)
class Trained:
    """A network step's result: the network, its size, what it answers on the test split in FP32."""

    network: nn.Module
    size: Network
    answers: Arrays
    weights_sha256: str
    key: str


Apply = Callable[[NetworkStep, StepContext], nn.Module]


class Networks:
    """Makes each network of `study` when it is first asked for; the same one is returned after that."""

    def __init__(self, study: Study, dataset: Dataset, cache: Cache, root: Path, apply: Apply) -> None:
        self._study, self._dataset, self._cache, self._root = study, dataset, cache, root
        self._apply, self._made = apply, dict[str, Trained]()
        self._forms, self._questions = {dataset.preprocessing: dataset}, dict[Preprocessing, Questions]()

    def data(self, recipe: Recipe | None) -> Dataset:
        """Returns the data, whose images become inputs as the network of a recipe takes them, or as the model does."""
        own = self._dataset.preprocessing
        preprocessing = recipe.preprocessing(own) if recipe else own
        return self._forms.setdefault(preprocessing, replace(self._dataset, preprocessing=preprocessing))

    def questions(self, recipe: Recipe) -> Questions:
        """Returns the test split, as the network of a recipe and its variants are asked it."""
        data = self.data(recipe)
        return self._questions.setdefault(data.preprocessing, evaluate.questions(data))

    def example(self, recipe: Recipe) -> Array:
        """Returns two test inputs, one twice where there is one alone: a batch of 1 would be fixed in an export."""
        inputs = self.questions(recipe).inputs
        return inputs[np.arange(2) % len(inputs)]

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
        self._made[recipe.name] = self._restore(recipe, folder, step_key)
        say(f"network {recipe.name}: {TASKS[self._dataset.task].title} {self.metric(self._made[recipe.name]):.2%}")
        return self._made[recipe.name]

    def check(self) -> None:
        """Raises `UsageError` where a file does not fit, or the network does not keep its contract, before training."""
        seed, classes = self._study.seed, len(self._dataset.labels)
        for recipe in self._study.recipes:
            if isinstance(recipe.step, LoadFile):
                self._apply(recipe.step, self._context(recipe, None, Path(), None))
            elif isinstance(recipe.step, Train | Student):
                name = recipe.network_name(self._study.network_name)
                check_contract(zoo.create(name, classes, seed).eval(), self._dataset)
            elif isinstance(recipe.step, FoldInput):
                self._check_folding(recipe)

    def _check_folding(self, recipe: Recipe) -> None:
        name, classes = recipe.network_name(self._study.network_name), len(self._dataset.labels)
        untrained = zoo.create(name, classes, self._study.seed).eval()
        try:
            fold_input(untrained, self.data(recipe.parent).preprocessing)
        except ValueError as error:
            raise UsageError(f"recipe '{recipe.name}' of '{self._study.model}': {error}") from None

    def metric(self, trained: Trained) -> float:
        """Returns the task's metric of a network on the test split."""
        task = TASKS[self._dataset.task]
        return task.scores(trained.answers, self._dataset.test.truth)[task.metric]

    def _key(self, recipe: Recipe, parent: Trained | None) -> str:
        versions, name = machine.versions(*TRAINED_BY), teachers.named(recipe)
        taught_by = teachers.fingerprint(name, self._root) if name else None
        network = zoo.identity(recipe.network_name(self._study.network_name))
        origin = (network, self._study.seed, self._dataset.fingerprint, parent.key if parent else None)
        return key(*origin, recipe.chain(), versions, taught_by, ANSWERS)

    def _make(self, recipe: Recipe, parent: Trained | None, step_key: str) -> None:
        classes, name, teacher = len(self._dataset.labels), teachers.named(recipe), None
        if name:
            example = torch.from_numpy(self.example(recipe))
            student = zoo.create(recipe.network_name(self._study.network_name), classes, self._study.seed).eval()
            teacher = teachers.load(name, self._root, example, classes, teachers.shapes_of(student, example))
        checkpoint = self._cache.work(step_key) / "checkpoint.pt"
        at = self._context(recipe, parent.network if parent else None, checkpoint, teacher)
        assert isinstance(recipe.step, NetworkStep)
        network = with_plain_weights(self._apply(recipe.step, at))
        kept = at.base() if isinstance(recipe.step, FoldInput) else network  # which is folded anew when it is restored
        with self._cache.appearing(step_key) as staging:
            torch.save(kept.state_dict(), staging / "weights.pt")
            _, answers = evaluate.predict(evaluate.eager(network), self.questions(recipe))
            np.savez(staging / "answers.npz", allow_pickle=False, **answers)

    def _context(
        self, recipe: Recipe, parent: nn.Module | None, checkpoint: Path, teacher: Teacher | None
    ) -> StepContext:
        name, form = recipe.network_name(self._study.network_name), self.data(recipe.parent).preprocessing
        return StepContext(name, self.data(recipe.base), self._study.seed, parent, checkpoint, teacher, form)

    def _restore(self, recipe: Recipe, folder: Path, step_key: str) -> Trained:
        weights = torch.load(folder / "weights.pt", weights_only=True)
        network = zoo.restore(recipe.network_name(self._study.network_name), len(self._dataset.labels), weights)
        if isinstance(recipe.step, FoldInput):
            network = fold_input(network, self.data(recipe.parent).preprocessing)
        size = zoo.measure(network, torch.from_numpy(self.example(recipe)[:1]))
        weights_sha256 = repository.sha256(folder / "weights.pt")
        with np.load(folder / "answers.npz") as answers:
            return Trained(network, size, dict(answers), weights_sha256, step_key)
