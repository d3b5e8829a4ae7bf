"""From raw outputs to the boxes of an answer: the one function of the server and of the offline stage."""

import numpy as np
from numpy.typing import NDArray

from protos.manifest import Decoding, Preprocessing
from protos.preprocessing import inner_size
from protos.tasks.boxes import Detections
from protos.tasks.decoders import DECODERS, Candidates, Floats, Outputs, Rows
from protos.tasks.nms import nms


def detect(
    outputs: Outputs, decoding: Decoding, preprocessing: Preprocessing, sizes: NDArray[np.int64] | None
) -> Detections:
    """Returns what the outputs of N images hold, at most `max_detections` of each, in pixels of the images as sent.

    `sizes` (N, 2) are the heights and widths of the images before they were fitted into the input; with None boxes are
    in pixels of the input. Boxes and points are cut to the image; a box with nothing of it is left out, as is one with
    a corner or a score that is not finite. Raises `ValueError` for outputs that are not those of N images.
    """
    threshold = np.float32(decoding.score_threshold)
    found = DECODERS[decoding.decoder](outputs, preprocessing.resize, decoding.keypoints, threshold)
    own = np.tile(preprocessing.resize, (found.batch, 1)) if sizes is None else sizes
    if len(own) != found.batch:
        raise ValueError(f"decoder '{decoding.decoder}': got outputs of {found.batch} images, expected {len(own)}")
    inner = np.array([inner_size((height, width), preprocessing) for height, width in own.tolist()]).reshape(-1, 2)
    scale = (inner / own)[found.images, ::-1].astype(np.float32)
    boxes, points = (_in_image(xy, scale, own[found.images, ::-1]) for xy in (found.boxes, found.points))
    there = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
    there &= np.isfinite(found.boxes).all(axis=1) & np.isfinite(found.scores)
    chosen = [_best(found, np.flatnonzero(there & (found.images == image)), decoding) for image in range(found.batch)]
    rows = np.concatenate([np.zeros(0, np.int64), *chosen])
    counts = np.array([len(of_image) for of_image in chosen], np.int64)
    return Detections(counts, boxes[rows], found.classes[rows], found.scores[rows], points[rows])


def _in_image(xy: Floats, scale: Floats, ends: Rows) -> Floats:
    """Takes points (K, 2P) from the input to the image that has its far corner at `ends` (K, 2)."""
    pairs = xy.reshape(len(xy), xy.shape[1] // 2, 2) / scale[:, None]
    return np.asarray(np.clip(pairs, 0, ends[:, None]), np.float32).reshape(xy.shape)


def _best(found: Candidates, rows: Rows, decoding: Decoding) -> Rows:
    """Returns those of `rows`, which are of one image, that are in the answer, by falling score."""
    if found.suppressed:
        stay = np.argsort(-found.scores[rows], kind="stable")
    else:
        stay = nms(found.boxes[rows], found.scores[rows], found.classes[rows], decoding.iou_threshold)
    return rows[stay[: decoding.max_detections]]
