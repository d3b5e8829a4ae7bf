"""Detection: boxes of objects in images of many sizes.

A network's own outputs (`raw`) differ from detector to detector; `protos.tasks.decoders` makes boxes of them. A server
gives both: the decoded ones unasked, with room for K = `max_detections` boxes of each image, the rest zero, since
batches are divided by rows.
"""

from protos.manifest import Decoding, TensorSpec, Variant

COUNT, BOXES, SCORES, CLASSES, KEYPOINTS = "num_detections", "boxes", "scores", "classes", "keypoints"
"""Names of the decoded outputs: INT32 (N, 1), FP32 (N, K, 4) in pixels of the image that was sent, FP32 (N, K), INT32
(N, K), FP32 (N, K, 2 * points)."""
SCORE_THRESHOLD, IOU_THRESHOLD, MAX_DETECTIONS = "score_threshold", "iou_threshold", "max_detections"
"""Parameters of a request in place of the manifest's `Decoding`: double, double, int64."""

AP_SCORE, AP_MOST = 0.02, 1500
"""Scores from which on boxes count for average precision, and a number of boxes that no image reaches."""


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
        return decoded(variant.decoding) if variant.decoding else variant.outputs
