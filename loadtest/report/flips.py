"""Which predictions a variant changed, for the report: how many each way, in which classes, and the images.

Accuracy says how many images two variants get right; flips say whether they are the same images. McNemar's exact test
asks whether chance alone could make the lost and the gained images as uneven.
"""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis.results import Results
from loadtest.measure.accuracy import Accuracy, Flip
from protos.errors import ParetoServeError
from protos.repository import load_evaluation_set, scan_model
from protos.support.significance import mcnemar_p

MOST_IMAGES = 60
"""The most images shown of one variant."""
MOST_BYTES = 4_000_000
"""The most bytes of all images together, as they stand in the page."""
SIDE = 64
"""Pixels of the longer side of an image; larger images are made smaller."""


@dataclass(frozen=True)
class ClassFlips:
    """The flips of images with one label."""

    label: int
    lost: int
    gained: int
    other: int
    """Wrong either way, as another class."""


@dataclass(frozen=True)
class Flips:
    """The flips of one variant, with the exact p of McNemar's test."""

    accuracy: Accuracy
    p: float
    classes: tuple[ClassFlips, ...]
    """Classes with flips, the most changed first."""
    shown: tuple[Flip, ...]
    """Flips whose images are in the page: lost ones first, then gained ones."""

    @property
    def other(self) -> int:
        """Flips from one wrong class to another."""
        return len(self.accuracy.flips) - self.accuracy.lost - self.accuracy.gained

    @property
    def more(self) -> int:
        """Flips whose images are not in the page."""
        return len(self.accuracy.flips) - len(self.shown)


@dataclass(frozen=True)
class Gallery:
    """The flips of all variants that were checked, and the images to show of them, each once."""

    flips: tuple[Flips, ...]
    images: dict[int, str]
    """Data URI by the index of the test split."""
    labels: tuple[str, ...]
    """Names of the classes; empty where they are not known."""

    def name(self, label: int) -> str:
        """Returns what people call a class."""
        return self.labels[label] if label < len(self.labels) else f"class {label}"


def gallery(results: Results, most_images: int = MOST_IMAGES, most_bytes: int = MOST_BYTES) -> Gallery:
    """Returns what the report shows of `results.accuracy`; without images where the repository no longer has them."""
    checked, images = results.accuracy, dict[int, str]()
    pixels, labels = _test_split(results.plan.repository, results.plan.model) if checked else (None, ())
    flips = []
    for each in checked:
        shown = list[Flip]()
        for flip in sorted(each.flips, key=_kind)[:most_images]:
            full = flip.index not in images and sum(map(len, images.values())) > most_bytes
            if pixels is None or full:
                break
            images.setdefault(flip.index, _data_uri(pixels[flip.index]))
            shown.append(flip)
        flips.append(Flips(each, mcnemar_p(each.lost, each.gained), _classes(each.flips), tuple(shown)))
    return Gallery(tuple(flips), images, labels)


def _test_split(repository: Path, model: str) -> tuple[NDArray[np.uint8] | None, tuple[str, ...]]:
    """Returns the images of the test split and the names of its classes, as far as the repository has them."""
    try:
        entries = scan_model(repository, model)
        labels = next((entry.variant.labels for entry in entries if entry.variant), ())
        return load_evaluation_set(repository, model).images, labels
    except (OSError, ParetoServeError):
        return None, ()


def _classes(flips: Sequence[Flip]) -> tuple[ClassFlips, ...]:
    kinds, labels = Counter((flip.label, _kind(flip)) for flip in flips), Counter(flip.label for flip in flips)
    return tuple(ClassFlips(label, *(kinds[label, kind] for kind in range(3))) for label, _ in labels.most_common())


def _kind(flip: Flip) -> int:
    """Returns 0 for an image that was lost, 1 for one that was gained, 2 for one that is wrong either way."""
    return 0 if flip.fp32 == flip.label else 1 if flip.variant == flip.label else 2


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    image.save(file := io.BytesIO(), "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
