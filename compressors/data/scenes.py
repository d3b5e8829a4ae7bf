"""Scenes made on the spot, the embedded data set of detectors: scikit-learn's digits on noise, gradients and shapes.

A scene of 320 x 320 holds 1 to 12 digits, 8 to 160 pixels high, all of one class; at another side everything scales.
Digits of the training scenes are not those of the test scenes. Boxes are known since the digits were put there: each
is as high and wide as its digit. Settings are by height (`detection.BY_HEIGHT`, scaled).

Source of the digits: https://archive.ics.uci.edu/dataset/80 (test part).
"""

import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from compressors.data.detection import BY_HEIGHT, DetectionParts, DetectionSplit, by_height
from protos import images
from protos.tasks.boxes import Truth

SIDE = 320
LEAST, MOST, OBJECTS = 8, 160, 12
"""Heights of digits at `SIDE`, and the most digits of a scene."""
COVERED = 0.3
"""The share of a digit that another one may cover, at most."""
FAINT = 0.2
"""Brightness of a digit, of at most 1, that does not show; its box ends where it is brighter."""
TRIES = 10_000
"""Places that are tried for the digits of a scene."""
TESTED = 600
"""Digits, of 1,797, that the test scenes and `with_objects` are made of; the training scenes have the others."""

Digit = NDArray[np.uint8]
"""Brightness (h, w), cropped to the digit."""
Random = np.random.Generator


def scenes(train: int, test: int, side: int = SIDE, seed: int = 0) -> DetectionParts:
    """Makes `train` and `test` scenes; three in five are square, the others have one side of three quarters.

    A scene depends on `side`, `seed` and its number, not on how many there are.
    """
    tested, trained = _digits(seed)
    made = [
        [_any_scene(np.random.default_rng((seed, part, index)), digits, side) for index in range(count)]
        for part, (count, digits) in enumerate(((train, trained), (test, tested)))
    ]
    return DetectionParts(_split(made[0], side), _split(made[1], side), ("digit",))


def with_objects(count: int, side: int = SIDE, seed: int = 0) -> DetectionSplit:
    """Makes one square scene with so many objects, of the digits of the test scenes."""
    return _split([_scene(np.random.default_rng((seed, 2, count)), _digits(seed)[0], (side, side), count)], side)


Scene = tuple[Image.Image, NDArray[np.int64]]
"""A picture and its boxes (M, 4)."""


def _split(made: Sequence[Scene], side: int) -> DetectionSplit:
    files = np.empty(len(made), np.object_)
    for index, (picture, _) in enumerate(made):
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=95)
        files[index] = stream.getvalue()
    boxes = np.concatenate([np.zeros((0, 4)), *(boxes for _, boxes in made)]).astype(np.float32)
    return DetectionSplit(
        files,
        Truth(
            counts=np.array([len(boxes) for _, boxes in made], np.int64),
            boxes=boxes,
            classes=np.zeros(len(boxes), np.int64),
            counting=by_height(boxes, side / SIDE),
            areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
            keypoints=np.zeros((len(boxes), 0), np.float32),
        ),
        tuple(BY_HEIGHT),
    )


@lru_cache(maxsize=1)
def _digits(seed: int) -> tuple[list[Digit], list[Digit]]:
    """Returns the digits of test scenes and those of training scenes."""
    from sklearn.datasets import load_digits

    digits = []
    for digit in load_digits().images[np.random.default_rng(seed).permutation(1797)]:
        rows, columns = (np.flatnonzero((digit > 16 * FAINT).any(axis=axis)) for axis in (1, 0))
        cropped = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        digits.append((cropped * (255 / 16)).astype(np.uint8))
    return digits[:TESTED], digits[TESTED:]


def _any_scene(random: Random, digits: Sequence[Digit], side: int) -> Scene:
    short = side * 3 // 4
    sizes = [(side, side)] * 3 + [(short, side), (side, short)]
    return _scene(random, digits, sizes[random.integers(len(sizes))], int(random.integers(1, OBJECTS + 1)))


def _scene(random: Random, digits: Sequence[Digit], size: tuple[int, int], count: int) -> Scene:
    """Makes a scene of `size` (height, width)."""
    picture = _background(random, size)
    chosen = [digits[i] for i in random.integers(len(digits), size=count)]
    boxes = _places(random, [digit.shape[1] / digit.shape[0] for digit in chosen], size)
    for digit, box in zip(chosen, boxes, strict=True):
        _paste(random, picture, digit, box)
    strength = int(random.integers(1, 25))
    noise = random.integers(-strength, strength + 1, picture.shape, np.int16)
    return Image.fromarray((picture + noise).clip(0, 255).astype(np.uint8)), boxes


def _background(random: Random, size: tuple[int, int]) -> NDArray[np.float32]:
    """Makes a gradient between a few colours, with up to ten shapes on it (H, W, 3)."""
    cells = int(random.integers(2, 6))
    colours = (random.integers(50, 206, 3) + random.integers(-50, 51, (cells, cells, 3))).astype(np.uint8)
    ground = Image.fromarray(images.resize(Image.fromarray(colours), size))
    draw = ImageDraw.Draw(ground)
    for _ in range(random.integers(11)):
        corners = random.integers(0, max(size), 4)
        (left, right), (top, bottom) = sorted(corners[:2].tolist()), sorted(corners[2:].tolist())
        extent = [left, top, left + (right - left) // 2, top + (bottom - top) // 2]
        colour = tuple(random.integers(0, 256, 3).tolist())
        match random.integers(4):
            case 0:
                draw.rectangle(extent, fill=colour)
            case 1:
                draw.ellipse(extent, fill=colour)
            case 2:
                draw.polygon([(left, bottom), (right, bottom), (left, top)], outline=colour)
            case _:
                draw.line(corners.tolist(), fill=colour, width=int(random.integers(1, 4)))
    return np.asarray(ground).astype(np.float32)


def _places(random: Random, ratios: Sequence[float], size: tuple[int, int]) -> NDArray[np.int64]:
    """Draws a box for each ratio of width to height, of which no other covers more than `COVERED` (M, 4)."""
    scale = max(size) / SIDE
    boxes, least, most = np.zeros((0, 4), np.int64), LEAST * scale, MOST * scale
    for _ in range(TRIES):
        if len(boxes) == len(ratios):
            return boxes
        height = least * (most / least) ** random.random()
        sides = np.array([height * ratios[len(boxes)], height]).round().astype(np.int64).clip(1, np.array(size[::-1]))
        corner = random.integers(0, np.array(size[::-1]) - sides + 1)
        box = np.concatenate([corner, corner + sides])
        if (_covered(box, boxes) <= COVERED).all():
            boxes = np.concatenate([boxes, box[None]])
        else:
            most = max(least, 0.97 * most)  # in a full scene there is room for small ones
    raise ValueError(f"got {len(ratios)} objects, expected as many as a scene of {size[0]} x {size[1]} has room for")


def _covered(box: NDArray[np.int64], boxes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the share of the smaller of `box` and each of `boxes` (M,) that lies in the other."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = (high - low).clip(0).prod(axis=1)
    share: NDArray[np.float64] = common / np.minimum((box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(1))
    return share


def _paste(random: Random, picture: NDArray[np.float32], digit: Digit, box: NDArray[np.int64]) -> None:
    """Draws a digit into `picture` that is brighter than what lies under it where that is dark, else darker."""
    left, top, right, bottom = box
    under = picture[top:bottom, left:right]
    ground = under.mean(axis=(0, 1))
    contrast = random.uniform(80, 160) + random.uniform(0, 40, 3)
    colour = np.where(ground.mean() < 128, ground + contrast, ground - contrast).clip(0, 255)
    ink = images.resize(Image.fromarray(digit), under.shape[:2]).astype(np.float32)[..., None] / 255
    under += ((ink - FAINT) / 0.5).clip(0, 1) * (colour.astype(np.float32) - under)
