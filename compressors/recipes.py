"""Recipes: what can be done to the weights, each a frozen dataclass, chained by naming a parent.

Two families. A *network step* changes the network itself (training, pruning); it is carried out once, by
`apply`, and every runtime is given the result. A *lowering step* (see `lowerings`) is carried out by each
runtime's own tools while the network is exported (int8); it ends a chain. To add a network step: a dataclass
here, a row in `STEPS`, and a function registered with `apply`.
"""

from dataclasses import asdict, dataclass
from functools import singledispatch
from pathlib import Path

from torch import nn

from compressors import models, prune, train
from compressors.data import Dataset
from compressors.lowerings import (
    FLOAT32,
    AccuracyAwareInt8,
    BFloat16,
    DynamicInt8,
    Float16,
    Lowering,
    StaticInt8,
    WeightInt8,
)
from compressors.train import Fit
from protos import manifest
from protos.manifest import RuntimeName


@dataclass(frozen=True)
class Train:
    """Trains the study's network from its first weights."""

    fit: Fit


@dataclass(frozen=True)
class ChannelPruning:
    """Removes the share `ratio` of the channels of every layer, then fine-tunes what is left."""

    ratio: float
    fit: Fit


NetworkStep = Train | ChannelPruning
Step = NetworkStep | Lowering

STEPS: dict[str, type[Step]] = {
    "train": Train,
    "channel-pruning": ChannelPruning,
    "static-int8": StaticInt8,
    "dynamic-int8": DynamicInt8,
    "accuracy-aware-int8": AccuracyAwareInt8,
    "weight-int8": WeightInt8,
    "float16": Float16,
    "bfloat16": BFloat16,
}
"""Name in a study to step."""


@dataclass(frozen=True)
class Recipe:
    """A step, and the recipe whose network it starts from; only training has no parent."""

    name: str
    step: Step
    parent: "Recipe | None"
    runtimes: tuple[RuntimeName, ...] = ()
    """That it is wanted in."""

    @property
    def lowering(self) -> Lowering:
        """What the runtimes are to do with the network."""
        return self.step if isinstance(self.step, Lowering) else FLOAT32

    @property
    def network(self) -> "Recipe":
        """The recipe that made the network which the runtimes are given: this one, or its parent."""
        return self.parent if isinstance(self.step, Lowering) and self.parent else self

    def network_step(self) -> NetworkStep:
        """The step of a recipe that makes a network."""
        assert isinstance(self.step, NetworkStep)
        return self.step

    def chain(self) -> tuple[manifest.Step, ...]:
        """The steps from training to this one, with their full parameters, as a manifest has them."""
        names = {kind: name for name, kind in STEPS.items()}
        own = manifest.Step(names[type(self.step)], asdict(self.step))
        return (*(self.parent.chain() if self.parent else ()), own)


@dataclass(frozen=True)
class Workplace:
    """What a network step works with."""

    network: str
    data: Dataset
    seed: int
    parent: nn.Module | None
    checkpoint: Path


@singledispatch
def apply(step: NetworkStep, at: Workplace) -> nn.Module:
    """The network that the step makes, in evaluation mode; the parent is left as it was."""
    raise TypeError(f"{type(step).__name__} is not a network step")


@apply.register
def _train(step: Train, at: Workplace) -> nn.Module:
    network = models.create(at.network, len(at.data.labels), at.seed)
    train.fit(network, at.data, step.fit, at.seed, at.checkpoint, teacher=None)
    return network


@apply.register
def _channel_pruning(step: ChannelPruning, at: Workplace) -> nn.Module:
    assert at.parent is not None
    network = prune.remove_channels(at.parent, step.ratio, at.data)
    train.fit(network, at.data, step.fit, at.seed, at.checkpoint, teacher=at.parent)
    return network
