"""The one formula from 8-bit images to a network's input: equal pixels are equal inputs, to the bit, everywhere."""

import numpy as np

from protos.manifest import Preprocessing
from protos.tensors import Array


def normalise(images: Array, preprocessing: Preprocessing) -> Array:
    """Turns uint8 RGB (N, H, W, 3) into float32 (N, 3, H, W), row-major: (pixel / 255 - mean) / std."""
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    scaled = images.transpose(0, 3, 1, 2).astype(np.float32, order="C") / np.float32(255)
    return (scaled - mean) / std


def inner_size(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Returns what an image of `size` (height, width) measures within the input; the rest of the input is black."""
    if preprocessing.fit == "stretch":
        return preprocessing.resize
    scale = min(wanted / own for wanted, own in zip(preprocessing.resize, size, strict=True))
    height, width = (max(1, round(own * scale)) for own in size)
    return height, width
