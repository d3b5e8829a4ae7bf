"""Non-maximum suppression: of boxes of one class that overlap by more than a threshold, the best one stays.

Two implementations give the same indices to the last one: OpenCV's, where it is installed, and NumPy's. OpenCV computes
outside the interpreter's lock, which NumPy's many small steps take again and again: beside a busy Python thread it
answered 3 to 6 times as often for 100 boxes, 1.3 to 1.6 times for 1,000. Milliseconds of `nms` with each inside, one
thread of a Xeon that did other work too, one class, ten boxes around each object:

| boxes | OpenCV 5.0 | NumPy 2.4 | torchvision 0.28 |
|---:|---:|---:|---:|
| 10 | 0.02 | 0.10 | 0.07 |
| 100 | 0.05 | 0.22 | 0.08 |
| 1,000 | 0.5 | 1.0 | 0.7 |
| 5,000 | 13 | 20 | 12 |

torchvision's is left out: it needs torch in the process, it is slower up to 1,000 boxes, and where an IoU lies at the
threshold it keeps other boxes than OpenCV (of 3,000 random sets with whole numbers as corners 631 differed in float32,
106 in float64), so that two servers would answer differently.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from protos.tasks.overlap import iou

Rows = NDArray[np.int64]
Backend = Callable[[NDArray[np.float32], float], Rows]
"""From boxes (M, 4) of one class, best first, and the threshold to the rows that stay, rising."""
BLOCK = 64
"""Boxes that NumPy compares with all others in one step."""


def nms(boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: Rows, iou_threshold: float) -> Rows:
    """Returns the rows that stay of the boxes (M, 4) of one image, by falling score; equal ones keep their order.

    A box goes where a better one of its class that stays overlaps it by more than `iou_threshold`; one without area
    goes too. Corners and scores are finite.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[(boxes[order, :2] < boxes[order, 2:]).all(axis=1)]
    stays = np.zeros(len(boxes), np.bool_)
    for one in np.unique(classes[order]):
        rows = order[classes[order] == one]
        stays[rows[backend()(boxes[rows], iou_threshold)]] = True
    return order[stays[order]]


def by_numpy(boxes: NDArray[np.float32], iou_threshold: float) -> Rows:
    """Implements `Backend` in blocks: those of a block that stay suppress all that come after it in one step."""
    rest, kept = np.arange(len(boxes)), [np.zeros(0, np.int64)]
    while len(rest):
        block, rest = rest[:BLOCK], rest[BLOCK:]
        over = np.triu(_over(boxes[block], boxes[block], iou_threshold), 1)
        before, stays = np.zeros(len(block), np.bool_), np.ones(len(block), np.bool_)
        while not np.array_equal(before, stays):  # each pass settles one box or more: https://arxiv.org/abs/2005.03572
            before, stays = stays, ~np.any(over[stays], axis=0)
        kept.append(block[stays])
        rest = rest[~_over(boxes[block[stays]], boxes[rest], iou_threshold).any(axis=0)]
    return np.concatenate(kept)


def _over(first: NDArray[np.float32], second: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Compares as OpenCV does, which rounds 1 - IoU to float32: it matters where an IoU is the threshold."""
    return np.float32(1) - (1 - iou(first, second)).astype(np.float32) > np.float32(threshold)


def by_opencv(boxes: NDArray[np.float32], iou_threshold: float) -> Rows:
    """Implements `Backend` with OpenCV."""
    import cv2

    sides = boxes.astype(np.float64)
    sides[:, 2:] -= sides[:, :2]
    ranks = np.arange(len(boxes), 0, -1)  # for scores: OpenCV drops those of 0
    return np.array(cv2.dnn.NMSBoxes(sides.tolist(), ranks.tolist(), 0.0, iou_threshold), np.int64)


@cache
def backend() -> Backend:
    """Returns the implementation that this process uses."""
    try:
        import cv2  # noqa: F401
    except ImportError:
        return by_numpy
    return by_opencv
