"""Detection: boxes of objects in images of many sizes.

A network's own outputs (`raw`) differ from detector to detector; `protos.tasks.decoders` makes boxes of them. A server
gives both: the decoded ones unasked, with room for K = `max_detections` boxes of each image, the rest zero, since
batches are divided by rows.
"""

from dataclasses import replace

import numpy as np

from protos.manifest import Decoding, Preprocessing, TensorSpec, Variant
from protos.tasks import average_precision, matching
from protos.tasks.boxes import Detections, Truth
from protos.tasks.detect import detect
from protos.tasks.task import Array, Arrays, Comparison, Rows

COUNT, BOXES, SCORES, CLASSES, KEYPOINTS = "num_detections", "boxes", "scores", "classes", "keypoints"
"""Names of the decoded outputs: INT32 (N, 1), FP32 (N, K, 4) in pixels of the image that was sent, FP32 (N, K), INT32
(N, K), FP32 (N, K, 2 * points)."""
SCORE_THRESHOLD, IOU_THRESHOLD, MAX_DETECTIONS = "score_threshold", "iou_threshold", "max_detections"
"""Parameters of a request in place of the manifest's `Decoding`: double, double, int64."""

AP_SCORE, AP_MOST = 0.02, 5000
"""Scores from which on boxes count for average precision, and a number of boxes that no image reaches:
SCRFD_500M finds up to 3,568 in one of WIDER FACE, more than 1,500 in 24 of 315."""


def decoded(decoding: Decoding) -> tuple[TensorSpec, ...]:
    """Returns the decoded outputs of a detector."""
    most = decoding.max_detections
    specs = (
        TensorSpec(COUNT, "INT32", (-1, 1)),
        TensorSpec(BOXES, "FP32", (-1, most, 4)),
        TensorSpec(SCORES, "FP32", (-1, most)),
        TensorSpec(CLASSES, "INT32", (-1, most)),
    )
    points = TensorSpec(KEYPOINTS, "FP32", (-1, most, 2 * decoding.keypoints))
    return (*specs, points) if decoding.keypoints else specs


class Detection:
    """See `protos.tasks.task.Task`."""

    metric, title, unit = "ap", "AP", "objects"

    def outputs(self, variant: Variant) -> tuple[TensorSpec, ...]:
        """Returns the decoded outputs, then those of the network whose names are not taken by them."""
        unasked = self.unasked(variant)
        taken = {spec.name for spec in unasked}
        return (*unasked, *(spec for spec in variant.outputs if spec.name not in taken))

    def unasked(self, variant: Variant) -> tuple[TensorSpec, ...]:
        """Returns the decoded outputs."""
        return decoded(variant.decoding) if variant.decoding else ()

    def answers(
        self, outputs: Arrays, images: Array, preprocessing: Preprocessing, decoding: Decoding | None
    ) -> dict[str, Array]:
        """Returns the boxes that average precision is made of, in pixels of the images."""
        from protos.images import sizes  # needs Pillow, which reading a repository does not

        assert decoding is not None
        low = replace(decoding, score_threshold=AP_SCORE, max_detections=AP_MOST)
        return detect(outputs, low, preprocessing, sizes(images)).arrays()

    def images(self, answers: Arrays) -> int:
        """Counts the images, whatever was found in them."""
        return len(answers["counts"])

    def take(self, arrays: Arrays, rows: Rows) -> dict[str, Array]:
        """Returns the boxes of the images at `rows`; the names of the settings stay."""
        kind = Detections if "scores" in arrays else Truth
        return {**arrays, **kind.of_arrays(arrays).take(rows).arrays()}

    def check(self, truth: Arrays, reference: Arrays, images: int) -> None:
        """Raises `ValueError` for boxes that are not those of so many images."""
        for name, arrays, kind in (("truth", truth, Truth), ("reference", reference, Detections)):
            boxes = kind.of_arrays(arrays)
            rows = {field: len(array) for field, array in boxes.arrays().items() if field != "counts"}
            if len(boxes) != images or {*rows.values()} != {int(boxes.counts.sum())}:
                raise ValueError(f"{name}: got boxes of {len(boxes)} images and arrays of {rows}, expected {images}")
        if truth["counting"].shape[1:] != truth["settings"].shape:
            raise ValueError(f"truth: got settings {truth['settings'].tolist()} for {truth['counting'].shape[1:]}")
        if not truth["counting"].any():
            raise ValueError("truth: got no object that counts, expected one or more")

    def scores(self, answers: Arrays, truth: Arrays) -> dict[str, float]:
        """Returns average precision: of WIDER's settings and their mean, or COCO's."""
        return average_precision.scores(Detections.of_arrays(answers), Truth.of_arrays(truth), _settings(truth))

    def compare(self, answers: Arrays, reference: Arrays, truth: Arrays) -> Comparison:
        """Counts the objects that only one of the two finds; the intervals are a bootstrap over images."""
        now, before = Detections.of_arrays(answers), Detections.of_arrays(reference)
        there = Truth.of_arrays(truth)
        flips = matching.object_flips(now, before, there)
        interval, drop = average_precision.paired_bootstrap(now, before, there, _settings(truth))
        return Comparison(
            lost=len(flips.lost),
            gained=len(flips.gained),
            agreement=matching.agreement(now, before),
            interval=interval,
            drop_interval=drop,
        )

    def golden_error(self, outputs: Arrays, expected: Arrays) -> float:
        """Returns the largest difference beside the largest value of its output: scores and boxes differ in scale."""
        errors = []
        for name, wanted in expected.items():
            scale = max(float(np.abs(wanted).max(initial=0)), float(np.finfo(np.float32).tiny))
            errors.append(np.abs(outputs[name] - wanted).max(initial=0) / scale)
        return float(np.max(errors))  # unlike Python's `max`, NaN where any is


def _settings(truth: Arrays) -> tuple[str, ...]:
    return tuple(truth["settings"].tolist())
