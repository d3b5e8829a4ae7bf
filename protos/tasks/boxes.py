"""Boxes of many images in flat arrays: what was found (`Detections`) and what is there (`Truth`).

Images hold different numbers of boxes, so the boxes of all stand one behind the other, and `counts` says how many each
image has. Boxes are (x1, y1, x2, y2) in pixels of the image as it was sent, without rounding; a key point is (x, y).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Boxes = TypeVar("Boxes", bound="_PerImage")


@dataclass(frozen=True)
class _PerImage:
    """Arrays of M boxes over N images."""

    counts: NDArray[np.int64]
    """Boxes of each image (N,)."""
    boxes: NDArray[np.float32]
    """(M, 4)."""
    classes: NDArray[np.int64]
    """Class indices (M,)."""

    def __len__(self) -> int:
        return len(self.counts)

    def take(self: Boxes, images: NDArray[np.int64]) -> Boxes:
        """Returns the boxes of the images at `images`, in that order; an image may be taken several times."""
        ends = np.cumsum(self.counts)
        rows = [np.arange(ends[i] - self.counts[i], ends[i]) for i in images]
        chosen = np.concatenate([np.zeros(0, np.int64), *rows])
        parts = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "counts"}
        return type(self)(counts=self.counts[images], **parts)

    def of(self: Boxes, image: int) -> Boxes:
        """Returns the boxes of one image."""
        return self.take(np.array([image]))

    def where(self: Boxes, kept: NDArray[np.bool_]) -> Boxes:
        """Returns the same images with those boxes alone for which `kept` (M,) holds."""
        counts = np.bincount(np.repeat(np.arange(len(self)), self.counts)[kept], minlength=len(self))
        parts = {f.name: getattr(self, f.name)[kept] for f in fields(self) if f.name != "counts"}
        return type(self)(counts=counts, **parts)

    def arrays(self) -> dict[str, Array]:
        """Returns the arrays by name, to be stored."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def of_arrays(cls: type[Boxes], arrays: Mapping[str, Array]) -> Boxes:
        """Returns what `arrays` were made of."""
        return cls(**{f.name: arrays[f.name] for f in fields(cls)})

    @classmethod
    def joined(cls: type[Boxes], parts: Sequence[Boxes]) -> Boxes:
        """Returns the boxes of all images of `parts`, at least one, in their order."""
        return cls(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)})


@dataclass(frozen=True)
class Detections(_PerImage):
    """What a detector found; in each image the highest score comes first."""

    scores: NDArray[np.float32]
    """From 0 to 1 (M,)."""
    keypoints: NDArray[np.float32]
    """x and y of each point of each box (M, 2P); P is 0 for a detector without them."""


@dataclass(frozen=True)
class Truth(_PerImage):
    """What is annotated."""

    counting: NDArray[np.bool_]
    """Whether a box is to be found, in each of the settings of the data set (M, S); one that does not count is neither
    missed nor, when it is found, wrong."""
    areas: NDArray[np.float32]
    """Pixels of each object (M,), which its box may exceed."""
    keypoints: NDArray[np.float32]
    """As of `Detections`; NaN where a point is not annotated."""
