"""Detection over the wire: the test split as files, all boxes of its images, and the objects that are found no more.

Average precision needs boxes of low scores and all of them, so requests ask for more than users get: `AP_SCORE` and
`AP_MOST` of `protos.tasks.detection`. Which objects are found is said by `protos.tasks.matching`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from loadtest.plan import Form
from loadtest.tasks.task import Flip, Kind, Shapes
from protos import images as files
from protos.errors import InvalidInputError
from protos.manifest import TensorSpec, Variant
from protos.repository import EvaluationSet
from protos.tasks import detection as contract
from protos.tasks import matching
from protos.tasks.boxes import Detections, Truth
from protos.tasks.overlap import iou
from protos.tasks.task import Array, Arrays
from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb

Box = tuple[float, float, float, float]
"""x1, y1, x2 and y2 in pixels of the image."""

AROUND, LEAST = 3.0, 96.0
"""A picture shows so many times the longer side of an object, and at least so many pixels of the image."""
COLORS = {"box": "#ffffff", "fp32": "#2e90fa", "variant": "#f79009"}


@dataclass(frozen=True)
class ObjectFlip:
    """An annotated object that one of FP32 PyTorch and the variant finds, and the other does not."""

    index: int
    label: int
    box: Box
    lost: bool
    """Whether FP32 finds it; otherwise the variant does."""
    fp32: Box | None
    """FP32's box that overlaps it most; None where none does."""
    variant: Box | None

    @property
    def kind(self) -> Kind:
        """Returns what the change did to the object."""
        return "lost" if self.lost else "gained"

    @property
    def picture(self) -> str:
        """Returns a name that is made of all that is drawn."""
        return repr((self.index, self.box, self.fp32, self.variant))


class Detection:
    """See `loadtest.tasks.task.Task`."""

    metric, title = contract.Detection.metric, contract.Detection.title
    outputs = frozenset({contract.COUNT, contract.BOXES, contract.SCORES, contract.CLASSES})
    form: Form = "jpeg"
    tolerance = 1e-6
    counts_objects = True
    about = (
        f"Annotated objects of the test images, sent over the wire, under load. An object is found where a box of its"
        f" class, of a score of at least {matching.SCORE:g}, overlaps it by at least {matching.IOU:g} (IoU). Lost: FP32"
        " PyTorch finds it and the variant does not. Gained: the other way round. The intervals are a paired bootstrap"
        " over images."
    )
    legend = (
        "Each picture is the image around one object. White: the object as annotated. Blue: FP32's box that overlaps it"
        " most, orange: the variant's. Lost objects have a red frame, gained ones a green one."
    )
    kinds: Mapping[Kind, str] = {"lost": "lost", "gained": "gained"}
    side = 192

    def unasked(self, declared: Shapes) -> Shapes:
        """Returns the decoded outputs."""
        return {name: shape for name, shape in declared.items() if name in {*self.outputs, contract.KEYPOINTS}}

    def taken(self, manifest: Variant, test: EvaluationSet) -> TensorSpec:
        """Returns the network's input: a server that takes it takes files in its place."""
        return manifest.inputs[0]

    def answered(self, manifest: Variant) -> tuple[TensorSpec, ...]:
        """Returns the decoded outputs, with room for all boxes."""
        assert manifest.decoding is not None
        return contract.decoded(replace(manifest.decoding, max_detections=contract.AP_MOST))

    def request(self, manifest: Variant, images: Array) -> pb.ModelInferRequest:
        """Returns a request for all boxes of the images, which go as they are in the test split."""
        assert manifest.decoding is not None
        request = encode_request(manifest.model, manifest.variant, {manifest.inputs[0].name: images})
        request.parameters[contract.SCORE_THRESHOLD].double_param = contract.AP_SCORE
        request.parameters[contract.IOU_THRESHOLD].double_param = manifest.decoding.iou_threshold
        request.parameters[contract.MAX_DETECTIONS].int64_param = contract.AP_MOST
        return request

    def answers(self, manifest: Variant, outputs: Arrays, images: Array) -> dict[str, Array]:
        """Returns the boxes of all images; `InvalidInputError` where one may have had more than the answer has room."""
        counts = outputs[contract.COUNT][:, 0].astype(np.int64)
        room = outputs[contract.BOXES].shape[1]
        if len(counts) and not 0 <= counts.min() <= counts.max() < room:
            raise InvalidInputError(
                f"output '{contract.COUNT}': got {counts.max()}, expected fewer than {room}, or some may be missing"
            )
        chosen = np.arange(room) < counts[:, None]
        points = outputs.get(contract.KEYPOINTS, np.zeros((*chosen.shape, 0), np.float32))
        return Detections(
            counts=counts,
            boxes=outputs[contract.BOXES][chosen],
            classes=outputs[contract.CLASSES][chosen].astype(np.int64),
            scores=outputs[contract.SCORES][chosen],
            keypoints=points[chosen],
        ).arrays()

    def objects(self, test: EvaluationSet) -> NDArray[np.int64]:
        """Counts the annotated objects."""
        return Truth.of_arrays(test.truth).counts

    def flips(self, answers: Arrays, test: EvaluationSet, rows: NDArray[np.int64]) -> Sequence[ObjectFlip]:
        """Returns the objects that only one of the two finds."""
        truth = Truth.of_arrays(test.truth)
        before, now = (Detections.of_arrays(arrays) for arrays in (test.reference, answers))
        changed, images = matching.object_flips(now, before, truth), np.repeat(np.arange(len(truth)), truth.counts)
        flips = list[ObjectFlip]()
        for i in np.union1d(changed.lost, changed.gained):
            label, box, lost = int(truth.classes[i]), truth.boxes[i], bool(np.isin(i, changed.lost))
            nearest = [_nearest(each.of(images[i]), box, label) for each in (before, now)]
            flips.append(ObjectFlip(int(rows[images[i]]), label, _box(box), lost, *nearest))
        return flips

    def caption(self, flip: Flip, name: Callable[[int], str]) -> tuple[str, str]:
        """Returns the class of the object."""
        return name(flip.label), ""

    def draw(self, flip: Flip, image: Array | bytes) -> Image.Image:
        """Returns the image around the object, with the annotated box, FP32's and the variant's."""
        assert isinstance(flip, ObjectFlip)
        whole = files.read(image, "image") if isinstance(image, bytes) else Image.fromarray(image)
        corner, shown = _around(flip.box, whole)
        scale = self.side / max(shown.size)
        picture = shown.resize((max(1, round(shown.width * scale)), max(1, round(shown.height * scale))))
        pen = ImageDraw.Draw(picture)
        for what, color in COLORS.items():
            if box := getattr(flip, what):
                ends = [(x - left) * scale for x, left in zip(box, corner * 2, strict=True)]
                pen.rectangle([*ends[:2], *map(max, ends[:2], ends[2:])], outline=color, width=2)
        return picture


def _nearest(found: Detections, box: NDArray[np.float32], label: int) -> Box | None:
    """Returns the box of one image that overlaps an object most, of those of its class that count."""
    boxes = found.boxes[(found.scores >= matching.SCORE) & (found.classes == label)]
    overlaps = iou(box[None], boxes)[0]
    return _box(boxes[overlaps.argmax()]) if overlaps.any() else None


def _box(corners: NDArray[np.float32]) -> Box:
    x1, y1, x2, y2 = corners.tolist()
    return x1, y1, x2, y2


def _around(box: Box, image: Image.Image) -> tuple[tuple[float, float], Image.Image]:
    """Returns a square of the image around a box, as far as the image goes, and its upper left corner."""
    half = max(AROUND * max(box[2] - box[0], box[3] - box[1]), LEAST) / 2
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    left, upper = max(0, int(x - half)), max(0, int(y - half))
    right, lower = min(image.width, int(x + half)), min(image.height, int(y + half))
    return (left, upper), image.crop((left, upper, max(left + 1, right), max(upper + 1, lower)))
