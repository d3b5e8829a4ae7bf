"""Recipes: what can be done to the weights, each a frozen dataclass, chained by naming a parent.

Two families. A *network step* (see `steps`) changes the network itself (training, pruning); it is carried out
once, by `apply`, and every runtime is given the result. A *lowering step* (see `lowerings`) is carried out by each
runtime's own tools while the network is exported (int8); it ends a chain. To add a network step: a dataclass
there, a row in `STEPS`, and a function registered with `apply`.
"""

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import singledispatch
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compressors.data.datasets import Dataset
from compressors.export import lowerings
from compressors.export.lowerings import FLOAT32, Lowering
from compressors.networks import contract, pixels, plain, scrfd_weights, user_network, zoo
from compressors.networks.layers import weights
from compressors.networks.scrfd import Scrfd
from compressors.recipes import channel_pruning, clustering, element_pruning, qat, steps, train
from compressors.recipes.feature_distillation import distilling
from compressors.recipes.steps import Fit, NetworkStep, Review
from compressors.recipes.train import Teacher
from compressors.tasks.table import STUDIED
from protos import manifest
from protos.manifest import RuntimeName
from protos.support import atomic

Step = NetworkStep | Lowering

STEPS: dict[str, type[Step]] = {
    "train": steps.Train,
    "load": steps.LoadFile,
    "student": steps.Student,
    "fold-input": steps.FoldInput,
    "fine-tune": steps.FineTune,
    "qat": steps.QuantizationAwareTraining,
    "channel-pruning": steps.ChannelPruning,
    "element-pruning": steps.ElementPruning,
    "clustering": steps.Clustering,
    "weight-rounding": steps.WeightRounding,
    "static-int8": lowerings.StaticInt8,
    "dynamic-int8": lowerings.DynamicInt8,
    "accuracy-aware-int8": lowerings.AccuracyAwareInt8,
    "weight-int8": lowerings.WeightInt8,
    "float16": lowerings.Float16,
    "bfloat16": lowerings.BFloat16,
    "graph-optimization": lowerings.GraphOptimization,
}
"""Name in a study to step."""


STATISTICS = 32
"""Images from which batch norms that came folded get the statistics that training needs."""


@dataclass(frozen=True)
class Recipe:
    """A step, and the recipe whose network it starts from, or that teaches its student; no parent where it begins."""

    name: str
    step: Step
    parent: "Recipe | None"
    runtimes: tuple[RuntimeName, ...] = ()
    """The runtimes to build it for."""

    @property
    def lowering(self) -> Lowering:
        """What the runtimes are to do with the network."""
        return self.step if isinstance(self.step, Lowering) else FLOAT32

    @property
    def network_recipe(self) -> "Recipe":
        """The recipe that made the network which the runtimes are given: this one, or its parent."""
        return self.parent if isinstance(self.step, Lowering) and self.parent else self

    @property
    def compressible(self) -> bool:
        """Whether some step of the chain left weights that take little storage when they are compressed."""
        own = isinstance(self.step, NetworkStep) and self.step.compressible
        return own or (self.base is not None and self.base.compressible)

    @property
    def base(self) -> "Recipe | None":
        """The recipe whose network this one changes; none of a network that begins here."""
        return None if isinstance(self.step, steps.Student) else self.parent

    def network_name(self, of_model: str) -> str:
        """Returns the name of the network that the chain is about: the student's, or that of the model."""
        if isinstance(self.step, steps.Student):
            return self.step.network
        return self.base.network_name(of_model) if self.base else of_model

    def preprocessing(self, of_data: manifest.Preprocessing) -> manifest.Preprocessing:
        """Returns how images become the network's inputs, where those of the data become them by `of_data`."""
        if isinstance(self.step, steps.Student):
            return self.step.input.applied(of_data)
        given = self.base.preprocessing(of_data) if self.base else of_data
        return replace(given, layout="NHWC") if isinstance(self.step, steps.FoldInput) else given

    @property
    def student(self) -> "Recipe | None":
        """The recipe that trained the student, where the chain is about one."""
        return self if isinstance(self.step, steps.Student) else self.base and self.base.student

    def chain(self) -> tuple[manifest.Step, ...]:
        """Lists the steps from training to this one, with their full parameters, as a manifest has them."""
        name = next(name for name, kind in STEPS.items() if type(self.step) is kind)
        return (*(self.parent.chain() if self.parent else ()), manifest.Step(name, asdict(self.step)))


@dataclass(frozen=True)
class StepContext:
    """What a network step works with."""

    network_name: str
    data: Dataset
    seed: int
    parent: nn.Module | None
    checkpoint: Path
    """The file of the training; what else a step keeps until it is finished lies beside it."""
    teacher: Teacher | None = None
    """The one that the step names."""
    parent_form: manifest.Preprocessing | None = None
    """How images become the parent's inputs, where that is not the way of `data`."""

    def base(self) -> nn.Module:
        """Returns the parent's network; every step but training has one."""
        assert self.parent is not None
        return self.parent

    def fit(self, network: nn.Module, how: Fit | None, review: Review | None = None) -> nn.Module:
        """Returns `network` trained as `how` says, if it says so, by the named teacher or else by the parent."""
        teacher = self.teacher or self.parent
        with contextlib.ExitStack() as stack:
            guide = None
            if review is not None:
                assert isinstance(teacher, nn.Module)
                torch.manual_seed(self.seed)
                example = torch.from_numpy(self.data.inputs(self.data.calibration.take(np.arange(1))))
                guide = stack.enter_context(distilling(network, teacher, review, example))
            if how is not None:
                train.fit(network, self.data, how, self.seed, self.checkpoint, teacher, guide)
        return network

    def prune_in_rounds(self, levels: Sequence[float], one_round: Callable[[nn.Module, float], nn.Module]) -> nn.Module:
        """Returns the parent's network after a round up to each of `levels`.

        Each finished round is kept beside the checkpoint, so that an interrupted step goes on from it.
        """
        network = self.base()
        for number, level in enumerate(levels, 1):
            path = self.checkpoint.with_name(f"round{number}.pt")
            if path.is_file():
                network = self.restore(torch.load(path, weights_only=True))
                continue
            network = one_round(network, level)
            with atomic.new_file(path) as temporary:
                torch.save(network.state_dict(), temporary)
        return network

    def restore(self, weights: dict[str, torch.Tensor]) -> nn.Module:
        """Returns the network with the widths and values of `weights`."""
        return zoo.restore(self.network_name, len(self.data.labels), weights)


def equal_levels(final: float, rounds: int) -> list[float]:
    """Returns levels up to `final` in equal steps."""
    return [final * number / rounds for number in range(1, rounds)] + [final]


def cubic_levels(final: float, rounds: int) -> list[float]:
    """Returns levels up to `final`, much at first and little at last (https://arxiv.org/abs/1710.01878)."""
    return [final * (1 - (1 - number / rounds) ** 3) for number in range(1, rounds)] + [final]


def check_contract(network: nn.Module, data: Dataset) -> None:
    """Raises `UsageError` where a network is not what every network of the data's task has to be."""
    task = STUDIED[data.task]
    contract.check(network, (3, *data.preprocessing.resize), lambda outputs: task.fault(outputs, data))


@singledispatch
def apply(step: NetworkStep, at: StepContext) -> nn.Module:
    """Returns the network that the step makes, in evaluation mode; the parent is left as it was."""
    raise TypeError(f"{type(step).__name__} is not a network step")


@apply.register
def _train(step: steps.Train, at: StepContext) -> nn.Module:
    return at.fit(zoo.create(at.network_name, len(at.data.labels), at.seed), step.fit, step.review)


@apply.register
def _student(step: steps.Student, at: StepContext) -> nn.Module:
    seed = at.seed if step.seed is None else step.seed
    known, own = at.parent_form or at.data.preprocessing, step.input.applied(at.data.preprocessing)
    teacher = at.parent if at.parent is None or own == known else _Renormalised(at.parent, own, known)
    at = replace(at, data=replace(at.data, preprocessing=own), seed=seed, parent=None, teacher=teacher)
    network = zoo.create(step.network, len(at.data.labels), seed)
    if not step.branches:
        return at.fit(network, step.fit)
    return plain.fold_branches(at.fit(plain.with_branches(network), step.fit), network)


class _Renormalised(nn.Module):
    """A teacher that is given inputs which were normalized for its student."""

    def __init__(self, teacher: nn.Module, given: manifest.Preprocessing, known: manifest.Preprocessing) -> None:
        super().__init__()
        self._teacher = teacher
        mean, std, own_mean, own_std = (
            torch.tensor(each).reshape(1, 3, 1, 1) for each in (given.mean, given.std, known.mean, known.std)
        )
        self._scale, self._offset = std / own_std, (mean - own_mean) / own_std

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs (N, 3, H, W) to the teacher's logits."""
        logits: torch.Tensor = self._teacher(x * self._scale + self._offset)
        return logits


@apply.register
def _fold_input(step: steps.FoldInput, at: StepContext) -> nn.Module:
    return pixels.fold_input(at.base(), at.data.preprocessing)


@apply.register
def _fine_tune(step: steps.FineTune, at: StepContext) -> nn.Module:
    return at.fit(copy.deepcopy(at.base()), step.fit, step.review)


@apply.register
def _quantization_aware_training(step: steps.QuantizationAwareTraining, at: StepContext) -> nn.Module:
    network = copy.deepcopy(at.base())
    with qat.rounding_in_forward(network):
        at.fit(network, step.fit)
    return network


@apply.register
def _load(step: steps.LoadFile, at: StepContext) -> nn.Module:
    network = zoo.create(at.network_name, len(at.data.labels), at.seed)
    user_network.load(network, step.path, at.data.preprocessing.resize)
    if isinstance(network, Scrfd) and step.path.suffix == ".onnx":
        held = at.data.calibration.take(np.arange(min(STATISTICS, len(at.data.calibration))))
        scrfd_weights.give_statistics(network, torch.from_numpy(at.data.inputs(held)))
    check_contract(network, at.data)
    return network


@apply.register
def _channel_pruning(step: steps.ChannelPruning, at: StepContext) -> nn.Module:
    def one_round(network: nn.Module, ratio: float) -> nn.Module:
        return at.fit(channel_pruning.remove_channels(network, ratio, at.data, at.base()), step.fit, step.review)

    return at.prune_in_rounds(equal_levels(step.ratio, step.rounds), one_round)


@apply.register
def _element_pruning(step: steps.ElementPruning, at: StepContext) -> nn.Module:
    def one_round(network: nn.Module, share: float) -> nn.Module:
        return at.fit(element_pruning.sparsify(network, share, step.scope), step.fit)

    return at.prune_in_rounds(cubic_levels(step.sparsity, step.rounds), one_round)


@apply.register
def _clustering(step: steps.Clustering, at: StepContext) -> nn.Module:
    network = clustering.share_values(at.base(), step.clusters)
    for weight in weights(network).values():
        weight.requires_grad_(False)
    return at.fit(network, step.fit).requires_grad_(True)


@apply.register
def _weight_rounding(step: steps.WeightRounding, at: StepContext) -> nn.Module:
    return qat.round_weights(at.base())
