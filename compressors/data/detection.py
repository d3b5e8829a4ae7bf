"""Images with boxes in them, as files: photos differ in size, and a server is sent them as they are."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from compressors.progress import track
from protos import images
from protos.errors import InvalidInputError, UsageError
from protos.support.machine import available_cores
from protos.tasks.boxes import Array, Truth

T = TypeVar("T")
R = TypeVar("R")

BY_HEIGHT = {"easy": 50, "medium": 30, "hard": 10}
"""WIDER's three settings, and the least height in pixels of an object that counts in each, where nothing else says."""
LONG = 256
"""Images that take so long to read that a person is shown a bar."""


@dataclass(frozen=True)
class DetectionSplit:
    """N images and what is in them; see `compressors.data.split.Split`."""

    files: NDArray[np.object_]
    """`bytes` of a JPEG or PNG file each, as they were on disk (N,)."""
    objects: Truth
    """Training is on the boxes that count in some setting."""
    settings: tuple[str, ...]
    """Names of the columns of `Truth.counting`."""

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: NDArray[np.int64]) -> "DetectionSplit":
        """Returns the images at `indices`, with their boxes."""
        return DetectionSplit(self.files[indices], self.objects.take(indices), self.settings)

    @property
    def truth(self) -> dict[str, Array]:
        """The boxes in flat arrays, and the names of the settings."""
        return {**self.objects.arrays(), "settings": np.array(self.settings)}

    def as_sent(self) -> NDArray[np.object_]:
        """Returns the files."""
        return self.files


@dataclass(frozen=True)
class DetectionParts:
    """The training and the test images of a data set, and the names of its classes."""

    train: DetectionSplit
    test: DetectionSplit
    labels: tuple[str, ...]


def divided(splits: Sequence[DetectionSplit], seed: int) -> tuple[DetectionSplit, DetectionSplit]:
    """Returns the training and the test split; of one alone, a third that `seed` draws is the test split."""
    if len(splits) == 2:
        return splits[0], splits[1]
    order = np.random.default_rng(seed).permutation(len(splits[0]))
    tested = (len(order) + 2) // 3
    return splits[0].take(order[tested:]), splits[0].take(order[:tested])


def read_files(paths: Sequence[Path]) -> NDArray[np.object_]:
    """Reads image files (N,); raises `UsageError` for the first that is missing or that a server would refuse."""
    files = np.empty(len(paths), np.object_)
    for index, file in enumerate(_side_by_side(_read, paths, "reads images")):
        files[index] = file
    return files


def by_height(boxes: NDArray[np.float32], scale: float = 1.0) -> NDArray[np.bool_]:
    """Returns whether each box is high enough to count in each of `BY_HEIGHT` times `scale` (M, 3)."""
    return (boxes[:, 3] - boxes[:, 1])[:, None] >= np.array([*BY_HEIGHT.values()]) * scale


def _read(path: Path) -> bytes:
    try:
        file = path.read_bytes()
        images.read(file, str(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except InvalidInputError as error:
        raise UsageError(str(error)) from None
    return file


def _side_by_side(function: Callable[[T], R], items: Sequence[T], description: str) -> Iterator[R]:
    """Yields what `function` returns of each item, in their order; Pillow decodes outside the interpreter's lock."""
    with ThreadPoolExecutor(available_cores()) as pool:
        results: Iterable[R] = pool.map(function, items)
        yield from track(results, len(items), description) if len(items) > LONG else results
