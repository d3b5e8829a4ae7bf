"""Network steps: what can be done to a network before any runtime is given it. Data only; `recipes.apply` does it.

A value that cannot be carried out is a `ValueError` that begins with the field's name, so that a study
is refused before any work starts.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from compressors.data.datasets import OWN_FORM, Form
from compressors.networks import plain
from protos.repository import sha256


@dataclass(frozen=True)
class Fit:
    """How long and how to train."""

    epochs: int
    batch: int
    learning_rate: float
    """The peak of the one-cycle schedule."""
    shift: int = 0
    """Images are moved by up to so many pixels, each way."""
    flip: bool = False
    """Half of the images are mirrored."""
    distillation: float = 0.0
    """Weight of the teacher's soft labels in the loss, 0 to 1; the rest goes to the true labels."""
    weight_decay: float = 5e-4
    momentum: float = 0.9
    warm_up: float = 0.3
    """Share of the steps in which the learning rate rises to its peak."""
    smoothing: float = 0.0
    """Share of each true label that goes to all classes alike (https://arxiv.org/abs/1512.00567)."""
    decay_biases: bool = True
    """Whether weight decay pulls at biases and batch normalizations too, or at the weights of layers alone."""
    compiled: bool = False
    """Whether the network is compiled to be trained, where a C++ compiler is there: the same result within noise."""

    def __post_init__(self) -> None:
        _expect(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _expect(self.batch >= 1, "batch", self.batch, "at least 1")
        _expect(self.shift >= 0, "shift", self.shift, "at least 0")
        _expect(self.learning_rate > 0, "learning_rate", self.learning_rate, "more than 0")
        _expect(0 <= self.distillation <= 1, "distillation", self.distillation, "0 to 1")
        _expect(0 < self.warm_up < 1, "warm_up", self.warm_up, "more than 0 and less than 1")
        _expect(0 <= self.smoothing < 1, "smoothing", self.smoothing, "0 to less than 1")


@dataclass(frozen=True)
class Review:
    """Feature distillation while a network is trained; its teacher is one whose layers are at hand."""

    weight: float
    """Weight of its loss, which is added to the others."""
    stages: tuple[str, ...]
    """Paths of the student's layers whose outputs (N, C, H, W) are compared with the teacher's, first to last."""
    teacher_stages: tuple[str, ...] = ()
    """The teacher's, where they are not called the same."""

    def __post_init__(self) -> None:
        _expect(self.weight > 0, "weight", self.weight, "more than 0")
        paired = self.stages and len(self.teacher_stages) in (0, len(self.stages))
        _expect(paired, "stages", f"{len(self.stages)} and {len(self.teacher_stages)}", "as many of both")


@dataclass(frozen=True)
class NetworkStep:
    """A step whose result is a network."""

    compressible: ClassVar[bool] = False
    """Whether it leaves weights that take little storage when they are compressed."""


@dataclass(frozen=True)
class _Training(NetworkStep):
    fit: Fit
    teacher: str | None = None
    """For distillation: MODEL/VARIANT of the repository, the path of a `.pt2` program of torch.export, or
    NETWORK:MODEL/VARIANT or NETWORK:FILE, a network of `zoo.NETWORKS` with the weights of a PyTorch variant or a file.
    """
    review: Review | None = None

    def __post_init__(self) -> None:
        if self.review is not None and self.fit.compiled:
            raise ValueError("fit.compiled: got it with review, which has to see the layers of a network as it is")
        if self.review is not None and self.teacher is not None and ":" not in self.teacher:
            teacher = self.teacher
            raise ValueError(f"teacher: got '{teacher}', whose layers review cannot see, expected NETWORK:{teacher}")

    def _is_taught(self) -> bool:
        return self.fit.distillation > 0 or self.review is not None


@dataclass(frozen=True)
class Train(_Training):
    """Trains the study's network from its first weights."""

    def __post_init__(self) -> None:
        if (self.teacher is None) == self._is_taught():
            raise ValueError("teacher: it and fit.distillation above 0, or review, come together or not at all")
        super().__post_init__()


@dataclass(frozen=True)
class Student(NetworkStep):
    """Trains another network in the place of the model's: what comes of it is compared with the model as any variant.

    With distillation the parent is its teacher, and is given the inputs that it knows.
    """

    fit: Fit
    network: str
    """As a study names a network: a key of `zoo.NETWORKS`, `plain:` and a line of channels, or a user's own."""
    seed: int | None = None
    """Where it is not the study's."""
    branches: bool = False
    """Whether a plain network is trained with the branches of RepVGG."""
    input: Form = OWN_FORM
    """The normalization that it learns with, where it is not the model's."""

    def __post_init__(self) -> None:
        if self.branches and not plain.is_plain(self.network):
            raise ValueError(f"branches: got network '{self.network}', expected one of the family {plain.FAMILY}")
        if self.input.size is not None:
            raise ValueError(f"input: got size {list(self.input.size)}, expected mean and std alone")


class FoldInput(NetworkStep):
    """Lets the network take pixels: their scaling and normalization are folded into its first convolution, exactly."""


@dataclass(frozen=True)
class FineTune(_Training):
    """Trains the parent's network further, as it is: the FP32 control of everything that is fine-tuned.

    Without a named teacher, the parent is the teacher where there is distillation or review.
    """

    def __post_init__(self) -> None:
        if self.teacher is not None and not self._is_taught():
            raise ValueError("teacher: got one, expected fit.distillation above 0, or review, with it")
        super().__post_init__()


@dataclass(frozen=True)
class LoadFile(NetworkStep):
    """Takes the network's weights, or a whole ONNX graph, from a file instead of training."""

    file: str
    """Its path; only its name is kept for the records."""
    sha256: str = ""
    """The file's hash; checked where it is given."""

    def __post_init__(self) -> None:
        path = Path(self.file).resolve()
        if not path.is_file():
            raise ValueError(f"file: there is no file '{self.file}'")
        found = sha256(path)
        _expect(self.sha256 in ("", found), "sha256", f"a file with {found}", self.sha256)
        for name, value in (("file", path.name), ("sha256", found), ("_path", path)):
            object.__setattr__(self, name, value)

    @property
    def path(self) -> Path:
        """Where the file lies; no field, since it is no part of what was done."""
        path: Path = self.__dict__["_path"]
        return path


@dataclass(frozen=True)
class QuantizationAwareTraining(NetworkStep):
    """Fine-tunes under int8 rounding of weights and activations; the FP32 network that results loses less by int8."""

    fit: Fit


@dataclass(frozen=True)
class ChannelPruning(NetworkStep):
    """Removes the share `ratio` of the channels of every layer, then fine-tunes what is left."""

    ratio: float
    fit: Fit
    """After each round."""
    rounds: int = 1
    """More than one: the share grows in equal steps."""
    review: Review | None = None
    """How the parent teaches the fine-tuning."""

    def __post_init__(self) -> None:
        _expect(0 < self.ratio < 1, "ratio", self.ratio, "more than 0 and less than 1")
        _expect(self.rounds >= 1, "rounds", self.rounds, "at least 1")


@dataclass(frozen=True)
class ElementPruning(NetworkStep):
    """Sets the share `sparsity` of the weights to zero, those of least magnitude, and keeps them there."""

    compressible = True

    sparsity: float
    """Share of the weights of convolutions and linear layers; biases, batch norms, attention's inputs stay."""
    scope: Literal["local", "global"] = "global"
    """The same share of each layer, or the smallest of all layers together."""
    fit: Fit | None = None
    """After each round."""
    rounds: int = 1
    """More than one: the share grows by the cubic schedule of Zhu & Gupta 2017."""

    def __post_init__(self) -> None:
        _expect(0 < self.sparsity < 1, "sparsity", self.sparsity, "more than 0 and less than 1")
        _expect(self.rounds >= 1, "rounds", self.rounds, "at least 1")
        if self.rounds > 1 and self.fit is None:
            raise ValueError(f"rounds: got {self.rounds} without a fit, expected a fit to go between them")


@dataclass(frozen=True)
class Clustering(NetworkStep):
    """Gives the weights of each layer `clusters` values, by k-means: few values take little storage."""

    compressible = True

    clusters: int
    fit: Fit | None = None
    """Trains what is not clustered, batch norms and biases."""

    def __post_init__(self) -> None:
        _expect(self.clusters >= 2, "clusters", self.clusters, "at least 2")


class WeightRounding(NetworkStep):
    """Rounds weights to 8 bits, symmetric, one scale for each output channel: storage alone, computed in FP32."""

    compressible = True


FIRST_STEPS = (Train, LoadFile)
"""Steps that start from no other recipe."""


def _expect(holds: object, name: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name}: got {value}, expected {expected}")
