"""The seam of a task: what the load test asks of it beyond `protos.tasks`. `loadtest.tasks.table` has the tasks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loadtest.plan import Form
from protos.manifest import TensorSpec, Variant
from protos.repository import EvaluationSet
from protos.tasks.task import Array, Arrays
from protos.v1 import inference_pb2 as pb

Kind = Literal["lost", "gained", "other"]
Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of outputs by name, as metadata declares them."""


class Flip(Protocol):
    """Something in a test image that a variant answers otherwise than FP32 PyTorch."""

    @property
    def index(self) -> int:
        """Returns where the image is in the whole split."""

    @property
    def label(self) -> int:
        """Returns the class that is right."""

    @property
    def kind(self) -> Kind:
        """Returns whether it was lost, was gained, or is wrong either way."""

    @property
    def picture(self) -> str:
        """Returns the name of its picture in the report; equal pictures have one."""


class Task(Protocol):
    """What the load test needs of a kind of task."""

    metric: str
    """The metric that decides, as manifests and metrics pages name it; the next is what people call it."""
    title: str
    outputs: frozenset[str]
    """Outputs that tell a model of this task from others; empty where nothing does."""
    form: Form
    """How a row is sent unless the plan says otherwise."""
    tolerance: float
    """How far the metric over the wire may be from the manifest's."""
    counts_objects: bool
    """Whether images hold different numbers of objects, on which latency depends."""
    about: str
    """What the report says above the flips."""
    legend: str
    """What it says under the pictures."""
    kinds: Mapping[Kind, str]
    """The kinds of flips that there are, as people call them."""
    side: int
    """Pixels of the longer side of a picture, the most there are."""

    def unasked(self, declared: Shapes) -> Shapes:
        """Returns the outputs that a request gets which names none, of all that metadata declares."""

    def taken(self, manifest: Variant, test: EvaluationSet) -> TensorSpec:
        """Returns the input that a server must declare for the test split to be sent."""

    def answered(self, manifest: Variant) -> tuple[TensorSpec, ...]:
        """Returns the outputs of the answer to a `request`."""

    def request(self, manifest: Variant, images: Array) -> pb.ModelInferRequest:
        """Returns the request for the answers to some images of the test split."""

    def answers(self, manifest: Variant, outputs: Arrays, images: Array) -> dict[str, Array]:
        """Returns the answers to a `request`; raises `InvalidInputError` where they cannot be all of them."""

    def objects(self, test: EvaluationSet) -> NDArray[np.int64]:
        """Counts what is annotated in each image (N,)."""

    def flips(self, answers: Arrays, test: EvaluationSet, rows: NDArray[np.int64]) -> Sequence[Flip]:
        """Returns what flipped; `rows` is where the images are in the whole split."""

    def caption(self, flip: Flip, name: Callable[[int], str]) -> tuple[str, str]:
        """Returns what is said under a picture, the second part in italics; `name` says how a class is called."""

    def draw(self, flip: Flip, image: Array | bytes) -> Image.Image:
        """Returns the picture of a flip."""
