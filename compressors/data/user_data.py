"""A user's own images as arrays, in three forms; docs/own-models.md says how each is laid out.

    folder      an ImageFolder tree, <path>/train/<class>/ and <path>/test/<class>/
    arrays      an .npz file with the arrays below
    function    package.module:name, called without arguments, that returns a mapping of them

Arrays: `train_images`, `train_labels`, `test_images`, `test_labels`; or `images` and `labels` alone, of which a
third becomes the test split. Images are uint8, (N, H, W, 3) or (N, 3, H, W); labels are class indices (N,).
`names`, the classes' names in their order, is optional.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compressors.networks.torchvision import torchvision
from compressors.progress import first_line
from protos.errors import UsageError

Size = tuple[int, int]
"""(height, width)."""

_NEEDED = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Split:
    """RGB images (N, 3, H, W) and their class indices (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The same images as (N, H, W, 3), without a copy: the order of a server's clients."""
        return self.images.transpose(0, 2, 3, 1)

    def take(self, indices: NDArray[np.int64]) -> "Split":
        """Returns the images and labels at `indices`."""
        return Split(np.ascontiguousarray(self.images[indices]), self.labels[indices])


Parts = tuple[Split, Split, tuple[str, ...]]
"""The training and the test images of a data set, and the names of its classes."""


def kind_of(text: str) -> str:
    """Returns which of the three forms `--data TEXT` is."""
    if text.endswith(".npz"):
        return "arrays"
    return "function" if ":" in text and not Path(text).exists() else "folder"


def image_folder(path: Path, size: Size | None, resize: bool = False) -> Parts:
    """Reads the images of an ImageFolder tree, all of `size`, or of the first one's.

    `resize` makes them so, as a server does with what it is sent. Raises `UsageError` for a tree without the
    folders, and for the first image of another size.
    """
    parts, classes = [], []
    for name in ("train", "test"):
        try:
            folder = torchvision.datasets.ImageFolder(str(path / name))
        except FileNotFoundError as error:
            raise UsageError(f"--data {path}: expected folders train/<class> and test/<class>: {error}") from None
        size = size or folder[0][0].size[::-1]
        images = np.empty((len(folder), 3, *size), np.uint8)
        for index, (image, _) in enumerate(folder):
            images[index] = _pixels(image, size, resize, folder.samples[index][0])
        parts.append(Split(images, np.array(folder.targets, np.int64)))
        classes.append(tuple(folder.classes))
    if classes[0] != classes[1]:
        raise UsageError(f"--data {path}: train/ has classes {classes[0]}, test/ has {classes[1]}")
    return parts[0], parts[1], classes[0]


def _pixels(image: Image.Image, size: Size, resize: bool, name: str) -> NDArray[np.uint8]:
    if image.size != size[::-1]:
        if not resize:
            got, expected = (f"{width}x{height}" for height, width in (image.size[::-1], size))
            raise UsageError(f"{name}: got an image of {got}, expected {expected}")
        image = image.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)


def _arrays(path: Path, size: Size | None, seed: int) -> Parts:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _raw(dict(arrays), size, seed, f"--data {path}")
    except FileNotFoundError:
        raise UsageError(f"--data {path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--data {path}: not an .npz file of arrays: {error}") from None


def _function(path: Path, size: Size | None, seed: int) -> Parts:
    arrays = imported(str(path), "--data")()
    if not isinstance(arrays, Mapping):
        raise UsageError(f"--data {path}: it returns a {type(arrays).__name__}, expected a mapping of arrays")
    return _raw(arrays, size, seed, f"--data {path}")


KINDS: dict[str, Callable[[Path, Size | None, int], Parts]] = {
    "folder": lambda path, size, seed: image_folder(path, size, resize=size is not None),
    "arrays": _arrays,
    "function": _function,
}
"""Form to its reader: path, wanted size, and the seed that a split is drawn with."""


def imported(name: str, flag: str) -> Callable[..., object]:
    """Imports `package.module:name`, also from the working folder; raises `UsageError` where that is no function."""
    module, _, attribute = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # a module of a user fails in its own way, and a script may end
        raise UsageError(f"{flag} {name}: {first_line(error)}") from None
    if not callable(found):
        raise UsageError(f"{flag} {name}: it is no function")
    return found  # type: ignore[no-any-return]


def _raw(arrays: Mapping[str, NDArray[np.generic]], size: Size | None, seed: int, where: str) -> Parts:
    if "images" in arrays and "labels" in arrays:
        arrays = _split(arrays, seed, where)
    if missing := [name for name in _NEEDED if name not in arrays]:
        got = ", ".join(arrays) or "nothing"
        raise UsageError(f"{where}: got {got}, expected {', '.join(_NEEDED)}; '{missing[0]}' is missing")
    train, test = (_part(arrays[f"{p}_images"], arrays[f"{p}_labels"], size, where) for p in ("train", "test"))
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    names = tuple(map(str, arrays["names"])) if "names" in arrays else tuple(map(str, range(classes)))
    if len(names) < classes:
        raise UsageError(f"{where}: got label {classes - 1} with {len(names)} names, expected a name for each class")
    return train, test, names


def _split(arrays: Mapping[str, NDArray[np.generic]], seed: int, where: str) -> Mapping[str, NDArray[np.generic]]:
    """Takes a third for the test split, drawn with `seed`."""
    if len(arrays["images"]) != len(arrays["labels"]):
        raise UsageError(f"{where}: got {len(arrays['images'])} images with {len(arrays['labels'])} labels")
    order = np.random.default_rng(seed).permutation(len(arrays["labels"]))
    third = len(order) // 3
    parts = {"test": np.sort(order[:third]), "train": np.sort(order[third:])}
    split = {f"{p}_{key}": arrays[key][rows] for p, rows in parts.items() for key in ("images", "labels")}
    return split | {key: arrays[key] for key in ("names",) if key in arrays}


def _part(images: NDArray[np.generic], labels: NDArray[np.generic], size: Size | None, where: str) -> Split:
    shape = list(images.shape)
    if images.dtype != np.uint8 or images.ndim != 4 or 3 not in (shape[1], shape[3]) or not len(images):
        raise UsageError(f"{where}: got images {images.dtype} {shape}, expected uint8 (N, H, W, 3) or (N, 3, H, W)")
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise UsageError(
            f"{where}: got labels {labels.dtype} {list(labels.shape)} with {len(images)} images,"
            " expected one class index for each, 0 or more"
        )
    if shape[3] == 3:
        images = images.transpose(0, 3, 1, 2)
    if size is not None and images.shape[2:] != size:
        raise UsageError(f"{where}: got images of {list(images.shape[1:])}, expected {[3, *size]}")
    return Split(np.ascontiguousarray(images).astype(np.uint8, copy=False), labels.astype(np.int64))
