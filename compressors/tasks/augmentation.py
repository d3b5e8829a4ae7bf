"""Training images of a detector, each time another part of them: a square at a random scale, mirrored, recoloured.

Source: Guo et al. 2021, SCRFD (https://arxiv.org/abs/2105.04714), section 3: small squares make large faces of small
ones, and squares larger than the image make small faces of large ones.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protos.tasks.boxes import Truth

SCALES = (0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
"""Sides of the square in shorter sides of the image."""
TRIES = 250
"""Squares that are tried until one has an object in it."""
PADDING = 128
"""The grey outside of the image."""
MIRRORED: dict[int, list[int]] = {0: [], 5: [1, 0, 2, 4, 3]}
"""By the number of key points, where each one's counterpart stands: the eyes, the nose, the corners of the mouth."""

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = 32, (0.5, 1.5), (0.5, 1.5), 18
"""Grey levels, factors, factors, degrees."""

Pixels = NDArray[np.uint8]
Square = tuple[int, int, int]
"""Left, top and side in pixels of the image; it may reach out of the image."""


def augment(
    image: Pixels, truth: Truth, size: int, generator: np.random.Generator, flip: bool = True
) -> tuple[Pixels, Truth]:
    """Returns an input (size, size, 3) made of an RGB image (H, W, 3), and its boxes in pixels of that input.

    All follows from the state of `generator`. Without `flip` nothing is mirrored, as it must be for digits.
    """
    square = choose(image, truth, generator)
    image, truth = crop(image, truth, square, size)
    if flip and generator.random() < 0.5:
        image, truth = mirror(image, truth)
    return recolour(image, generator), truth


def choose(image: Pixels, truth: Truth, generator: np.random.Generator) -> Square:
    """Returns a random square with the centre of an object in it, or any where none is found or there is no object."""
    height, width = image.shape[:2]
    for _ in range(TRIES):
        side = max(1, int(generator.choice(SCALES) * min(height, width)))
        left, top = (int(generator.integers(min(0, n - side), max(0, n - side) + 1)) for n in (width, height))
        if not len(truth.boxes) or _inside(truth, (left, top, side)).any():
            break
    return left, top, side


def crop(image: Pixels, truth: Truth, square: Square, size: int) -> tuple[Pixels, Truth]:
    """Returns the square at `size`, bilinear, with the objects whose centre is in it; their boxes end at its sides."""
    left, top, side = square
    canvas = Image.new("RGB", (side, side), (PADDING,) * 3)
    canvas.paste(Image.fromarray(image), (-left, -top))
    kept, factor, corner = truth.where(_inside(truth, square)), size / side, np.array([left, top], np.float32)
    boxes = (kept.boxes - np.tile(corner, 2)).clip(0, side) * factor
    keypoints = (kept.keypoints - np.tile(corner, kept.keypoints.shape[1] // 2)) * factor
    left_over = replace(
        kept,
        boxes=boxes.astype(np.float32),
        areas=kept.areas * np.float32(factor**2),
        keypoints=keypoints.astype(np.float32),
    )
    return np.asarray(canvas.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)), left_over


def mirror(image: Pixels, truth: Truth) -> tuple[Pixels, Truth]:
    """Returns the mirror image (H, W, 3): what is left goes right, and a left eye is a right eye then."""
    width = image.shape[1]
    boxes, points = truth.boxes.copy(), truth.keypoints.reshape(len(truth.boxes), truth.keypoints.shape[1] // 2, 2)
    boxes[:, [2, 0]] = width - boxes[:, [0, 2]]
    points = points[:, MIRRORED[points.shape[1]]]
    points[:, :, 0] = width - points[:, :, 0]
    return image[:, ::-1], replace(truth, boxes=boxes, keypoints=points.reshape(truth.keypoints.shape))


def recolour(image: Pixels, generator: np.random.Generator) -> Pixels:
    """Returns the image (H, W, 3) with its brightness, contrast, saturation and hue changed, each half of the time."""
    changed = generator.random(4) < 0.5
    added, factor = generator.uniform(-_BRIGHTNESS, _BRIGHTNESS), generator.uniform(*_CONTRAST)
    saturation, turned = generator.uniform(*_SATURATION), generator.uniform(-_HUE, _HUE) * 256 / 360
    levels = np.arange(256.0)
    table = (levels + added * changed[0]) * (factor if changed[1] else 1)
    hues, saturations = levels + turned * changed[2], levels * (saturation if changed[3] else 1)
    toned = Image.fromarray(table.clip(0, 255).astype(np.uint8)[image])
    tables = (hues.round() % 256, saturations.clip(0, 255), levels)
    hsv = toned.convert("HSV").point([int(value) for column in tables for value in column])
    return np.asarray(hsv.convert("RGB"))


def _inside(truth: Truth, square: Square) -> NDArray[np.bool_]:
    """Returns whether the centre of each box is in the square (M,)."""
    centres = (truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2 - square[:2]
    inside: NDArray[np.bool_] = (centres > 0) & (centres < square[2])
    return inside[:, 0] & inside[:, 1]
