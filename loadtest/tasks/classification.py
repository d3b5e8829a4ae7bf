"""Classification over the wire: the test split as FP32 tensors, and the images that went to another class."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loadtest.plan import Form
from loadtest.tasks.task import Flip, Kind, Shapes
from protos.manifest import TensorSpec, Variant
from protos.preprocessing import input_spec, normalise
from protos.repository import EvaluationSet
from protos.tasks import classification as contract
from protos.tasks.task import Array, Arrays
from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb


@dataclass(frozen=True)
class ClassFlip:
    """A test image that the variant puts in another class than FP32 PyTorch does, its label and both classes."""

    index: int
    label: int
    fp32: int
    variant: int

    @property
    def kind(self) -> Kind:
        """Returns what the change did to the image."""
        return "lost" if self.fp32 == self.label else "gained" if self.variant == self.label else "other"

    @property
    def picture(self) -> str:
        """Returns the name of the image in the report."""
        return str(self.index)


class Classification:
    """See `loadtest.tasks.task.Task`."""

    metric, title = contract.Classification.metric, contract.Classification.title
    outputs: frozenset[str] = frozenset()
    form: Form = "tensor"
    tolerance = 0.0
    counts_objects = False
    about = (
        "Test images that a variant puts in another class than FP32 PyTorch does, sent over the wire, under load. Lost:"
        " FP32 is right and the variant is wrong. Gained: the other way round. The intervals are Wilson's and, of"
        " the drop, Agresti and Min's."
    )
    legend = (
        "Under each image: FP32's class → the variant's class, and in italics the right class where both are wrong."
        " Lost images have a red frame, gained ones a green one."
    )
    kinds: Mapping[Kind, str] = {"lost": "lost", "gained": "gained", "other": "wrong either way"}
    side = 64

    def unasked(self, declared: Shapes) -> Shapes:
        """Returns all outputs."""
        return declared

    def taken(self, manifest: Variant, test: EvaluationSet) -> TensorSpec:
        """Returns the input in the size of the images."""
        how = replace(manifest.preprocessing, resize=test.images.shape[1:3])
        return input_spec(manifest.inputs[0].name, how)

    def answered(self, manifest: Variant) -> tuple[TensorSpec, ...]:
        """Returns the outputs of the network."""
        return manifest.outputs

    def request(self, manifest: Variant, images: Array) -> pb.ModelInferRequest:
        """Returns a request with what the network takes for pixels (N, H, W, 3)."""
        tensor = normalise(images, manifest.preprocessing)
        return encode_request(manifest.model, manifest.variant, {manifest.inputs[0].name: tensor})

    def answers(self, manifest: Variant, outputs: Arrays, images: Array) -> dict[str, Array]:
        """Returns the classes that the output (N, classes) holds."""
        return contract.Classification().answers(outputs, images, manifest.preprocessing, manifest.decoding)

    def objects(self, test: EvaluationSet) -> NDArray[np.int64]:
        """Counts one for each image."""
        return np.ones(len(test), np.int64)

    def flips(self, answers: Arrays, test: EvaluationSet, rows: NDArray[np.int64]) -> Sequence[ClassFlip]:
        """Returns the images whose class is another one."""
        labels, now, before = test.truth["labels"], answers["best"][:, 0], test.reference["best"][:, 0]
        columns = (rows, labels, before, now)
        return [ClassFlip(*(int(column[i]) for column in columns)) for i in np.flatnonzero(now != before)]

    def caption(self, flip: Flip, name: Callable[[int], str]) -> tuple[str, str]:
        """Returns both classes, and the right one where neither is."""
        assert isinstance(flip, ClassFlip)
        return f"{name(flip.fp32)} → {name(flip.variant)}", name(flip.label) if flip.kind == "other" else ""

    def draw(self, flip: Flip, image: Array | bytes) -> Image.Image:
        """Returns the image."""
        return Image.fromarray(np.asarray(image))
