"""How much boxes overlap: intersection over union (IoU), the measure of suppression, matching and AP alike."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pairs = NDArray[np.float64]
TINY = np.finfo(np.float64).tiny


def iou(first: NDArray[Any], second: NDArray[Any], extra: float = 0.0) -> Pairs:
    """Returns the IoU of each of `first` (A, 4) with each of `second` (B, 4), as (A, B), from 0 to 1.

    `extra` is added to every width and height: 1 where corners are the centres of pixels, as WIDER FACE has it. Boxes
    without area overlap nothing.
    """
    x1, y1, x2, y2 = first.astype(np.float64).T[:, :, None]
    u1, v1, u2, v2 = second.astype(np.float64).T[:, None, :]
    x2, y2, u2, v2 = (end + extra for end in (x2, y2, u2, v2))
    shared = np.maximum(np.minimum(x2, u2) - np.maximum(x1, u1), 0)
    shared *= np.maximum(np.minimum(y2, v2) - np.maximum(y1, v1), 0)
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared
    overlaps: Pairs = shared / np.maximum(union, TINY)
    return overlaps
