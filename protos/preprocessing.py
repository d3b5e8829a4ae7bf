"""The one formula from 8-bit images to a network's input: equal pixels are equal inputs, to the bit, everywhere."""

import numpy as np

from protos.manifest import Preprocessing, TensorSpec
from protos.tensors import Array


def normalise(images: Array, preprocessing: Preprocessing) -> Array:
    """Turns uint8 RGB (N, H, W, 3) into float32 (N, 3, H, W), row-major: (pixel / 255 - mean) / std.

    Where the layout is NHWC, a network takes pixels, and they stay as they are, row-major.
    """
    if preprocessing.layout == "NHWC":
        return np.ascontiguousarray(images)
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    scaled = images.transpose(0, 3, 1, 2).astype(np.float32, order="C") / np.float32(255)
    return (scaled - mean) / std


def input_spec(name: str, preprocessing: Preprocessing) -> TensorSpec:
    """Returns the input `name` that `normalise` makes of images in the size of the preprocessing."""
    if preprocessing.layout == "NHWC":
        return TensorSpec(name, "UINT8", (-1, *preprocessing.resize, 3))
    return TensorSpec(name, "FP32", (-1, 3, *preprocessing.resize))


def inner_size(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Returns what an image of `size` (height, width) measures within the input; the rest of the input is black."""
    if preprocessing.fit == "stretch":
        return preprocessing.resize
    scale = min(wanted / own for wanted, own in zip(preprocessing.resize, size, strict=True))
    height, width = (max(1, round(own * scale)) for own in size)
    return height, width
