"""Network steps: what can be done to a network before any runtime is given it. Data only; `recipes.apply` does it.

A value that cannot be carried out is a `ValueError` that begins with the field's name, so that a study
is refused before any work starts.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from compressors.networks.user_network import LoadFile
from compressors.recipes.train import Fit


@dataclass(frozen=True)
class Review:
    """Feature review (see `review`) while a network is trained; its teacher is one whose layers are at hand."""

    weight: float
    """Weight of its loss, which is added to the others."""
    stages: tuple[str, ...]
    """Paths of the student's layers whose outputs (N, C, H, W) are compared with the teacher's, first to last."""
    teacher_stages: tuple[str, ...] = ()
    """The teacher's, where they are not called the same."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight: got {self.weight}, expected more than 0")
        if not self.stages or len(self.teacher_stages) not in (0, len(self.stages)):
            raise ValueError(f"stages: got {len(self.stages)} and {len(self.teacher_stages)}, expected as many of both")


@dataclass(frozen=True)
class Train:
    """Trains the study's network from its first weights."""

    compressible: ClassVar[bool] = False

    fit: Fit
    teacher: str | None = None
    """For distillation: MODEL/VARIANT of the repository, the path of a `.pt2` program of torch.export, or
    NETWORK:MODEL/VARIANT or NETWORK:FILE, a network of `models` with the weights of a PyTorch variant or a file."""
    review: Review | None = None

    def __post_init__(self) -> None:
        guided = self.fit.distillation > 0 or self.review is not None
        if (self.teacher is None) == guided:
            raise ValueError("teacher: it and fit.distillation above 0, or review, come together or not at all")
        _has_layers(self.teacher, self.review)


@dataclass(frozen=True)
class FineTune:
    """Trains the parent's network further, as it is: the FP32 control of everything that is fine-tuned."""

    compressible: ClassVar[bool] = False

    fit: Fit
    teacher: str | None = None
    """As in `Train`; without one, the parent is the teacher where there is distillation or review."""
    review: Review | None = None

    def __post_init__(self) -> None:
        if self.teacher is not None and self.fit.distillation == 0 and self.review is None:
            raise ValueError("teacher: got one, expected fit.distillation above 0, or review, with it")
        _has_layers(self.teacher, self.review)


@dataclass(frozen=True)
class QuantizationAwareTraining:
    """Fine-tunes under int8 rounding of weights and activations; the FP32 network that results loses less by int8."""

    compressible: ClassVar[bool] = False

    fit: Fit


@dataclass(frozen=True)
class ChannelPruning:
    """Removes the share `ratio` of the channels of every layer, then fine-tunes what is left."""

    compressible: ClassVar[bool] = False

    ratio: float
    fit: Fit
    """After each round."""
    rounds: int = 1
    """More than one: the share grows in equal steps."""
    review: Review | None = None
    """How the parent teaches the fine-tuning."""

    def __post_init__(self) -> None:
        _share("ratio", self.ratio)
        _at_least("rounds", self.rounds, 1)


@dataclass(frozen=True)
class ElementPruning:
    """Sets the share `sparsity` of the weights to zero, those of least magnitude, and keeps them there."""

    compressible: ClassVar[bool] = True

    sparsity: float
    """Share of the weights of convolutions and linear layers; biases, batch norms, attention's inputs stay."""
    scope: Literal["local", "global"] = "global"
    """The same share of each layer, or the smallest of all layers together."""
    fit: Fit | None = None
    """After each round."""
    rounds: int = 1
    """More than one: the share grows by the cubic schedule of Zhu & Gupta 2017."""

    def __post_init__(self) -> None:
        _share("sparsity", self.sparsity)
        _at_least("rounds", self.rounds, 1)
        if self.rounds > 1 and self.fit is None:
            raise ValueError(f"rounds: got {self.rounds} without a fit, expected a fit to go between them")


@dataclass(frozen=True)
class Clustering:
    """Gives the weights of each layer `clusters` values, by k-means: few values take little storage."""

    compressible: ClassVar[bool] = True

    clusters: int
    fit: Fit | None = None
    """Trains what is not clustered, batch norms and biases."""

    def __post_init__(self) -> None:
        _at_least("clusters", self.clusters, 2)


@dataclass(frozen=True)
class WeightRounding:
    """Rounds weights to 8 bits, symmetric, one scale for each output channel: storage alone, computed in FP32."""

    compressible: ClassVar[bool] = True


NetworkStep = (
    Train
    | LoadFile
    | FineTune
    | QuantizationAwareTraining
    | ChannelPruning
    | ElementPruning
    | Clustering
    | WeightRounding
)

FIRST_STEPS = (Train, LoadFile)
"""Steps that start from no other recipe."""


def _has_layers(teacher: str | None, review: Review | None) -> None:
    if review is not None and teacher is not None and ":" not in teacher:
        raise ValueError(f"teacher: got '{teacher}', whose layers review cannot see, expected NETWORK:{teacher}")


def _share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name}: got {value}, expected more than 0 and less than 1")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name}: got {value}, expected at least {least}")
