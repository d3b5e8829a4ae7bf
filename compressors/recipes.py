"""Recipes: what can be done to the weights, each a frozen dataclass, chained by naming a parent.

Two families. A *network step* changes the network itself (training, pruning); it is carried out once, by
`apply`, and every runtime is given the result. A *lowering step* is carried out by each runtime's own tools
while the network is exported (int8); it ends a chain. To add a step: a dataclass here, a row in `STEPS`, and
for a network step a function registered with `apply`, for a lowering step its handling in the exporters.
"""

from dataclasses import asdict, dataclass
from functools import singledispatch
from pathlib import Path
from typing import Literal

from torch import nn

from compressors import models, prune, train
from compressors.data import Dataset
from compressors.train import Fit
from protos import manifest


@dataclass(frozen=True)
class Train:
    """Trains the study's network from its first weights."""

    fit: Fit


@dataclass(frozen=True)
class ChannelPruning:
    """Removes the share `ratio` of the channels of every layer, then fine-tunes what is left."""

    ratio: float
    fit: Fit


@dataclass(frozen=True)
class StaticInt8:
    """Post-training int8: ranges from the calibration split, weights quantized per channel."""

    granularity: Literal["per-channel"] = "per-channel"


NetworkStep = Train | ChannelPruning
Step = NetworkStep | StaticInt8

STEPS: dict[str, type[Step]] = {
    "train": Train,
    "channel-pruning": ChannelPruning,
    "static-int8": StaticInt8,
}
"""Name in a study to step."""


@dataclass(frozen=True)
class Recipe:
    """A step, and the recipe whose network it starts from; only training has no parent."""

    name: str
    step: Step
    parent: "Recipe | None"

    @property
    def quantized(self) -> bool:
        """Whether the runtimes are to lower the network to int8."""
        return isinstance(self.step, StaticInt8)

    @property
    def network(self) -> "Recipe":
        """The recipe that made the network which the runtimes are given: this one, or its parent."""
        return self.parent if self.quantized and self.parent else self

    def network_step(self) -> NetworkStep:
        """The step of a recipe that makes a network."""
        assert not isinstance(self.step, StaticInt8)
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
