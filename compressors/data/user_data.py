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
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressors.progress import first_line
from protos import images
from protos.errors import InvalidInputError, UsageError
from protos.tasks.task import Arrays

Size = tuple[int, int]
"""(height, width)."""

_OF_DESKTOPS = ("thumbs.db", "desktop.ini")
"""What Windows puts into folders of images; other systems put what begins with a dot."""

_MOST_NAMES = 8
"""Names of arrays that a message quotes: an archive that is none of arrays may hold any number of files."""

_NEEDED = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Split:
    """RGB images (N, 3, H, W) of one size and their class indices (N,); see `compressors.data.split.Split`."""

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

    @property
    def truth(self) -> Arrays:
        """The labels."""
        return {"labels": self.labels}

    def as_sent(self) -> NDArray[np.uint8]:
        """Returns the pixels (N, H, W, 3)."""
        return self.pixels


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
    folders, for the first file that a server would refuse, and for the first image of another size.
    """
    if path.is_file():
        raise UsageError(f"--data {path}: got a file, expected a folder (of an archive: what it unpacks to) or an .npz")
    parts, classes = [], []
    for part in ("train", "test"):
        names, files, labels = _classes(path, part)
        size = size or _image(files[0], None, False).shape[:2]
        pixels = np.empty((len(files), 3, *size), np.uint8)
        for index, file in enumerate(files):
            pixels[index] = _image(file, size, resize).transpose(2, 0, 1)
        parts.append(Split(pixels, np.array(labels, np.int64)))
        classes.append(names)
    if classes[0] != classes[1]:
        raise UsageError(f"--data {path}: train/ has classes {classes[0]}, test/ has {classes[1]}")
    return parts[0], parts[1], classes[0]


def _classes(path: Path, part: str) -> tuple[tuple[str, ...], list[Path], list[int]]:
    """Returns the names of the classes, the files of all, and the class of each file."""
    folders = [folder for folder in _visible(path / part) if folder.is_dir()]
    if not folders:
        raise UsageError(f"--data {path}: expected folders train/<class> and test/<class>, got no class in '{part}'")
    files = {folder: list(_files(folder)) for folder in folders}
    if empty := [folder for folder in folders if not files[folder]]:
        raise UsageError(f"--data {path}: got no image in '{part}/{empty[0].name}', expected one or more")
    pairs = [(file, label) for label, folder in enumerate(folders) for file in files[folder]]
    return tuple(folder.name for folder in folders), [file for file, _ in pairs], [label for _, label in pairs]


def _files(folder: Path) -> Iterator[Path]:
    """Yields the files of a class, also those of folders within it."""
    for path in _visible(folder):
        yield from _files(path) if path.is_dir() else (path,)


def _visible(folder: Path) -> list[Path]:
    """Returns what a folder holds but for what desktops hide there; nothing where there is no such folder."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if not path.name.startswith(".") and path.name.lower() not in _OF_DESKTOPS]


def _image(file: Path, size: Size | None, resize: bool) -> NDArray[np.uint8]:
    """Reads an image (H, W, 3) as a server does."""
    try:
        image = images.read(file.read_bytes(), str(file))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except InvalidInputError as error:
        raise UsageError(str(error)) from None
    own = image.size[::-1]
    if size and own != size and not resize:
        got, expected = (f"{width}x{height}" for height, width in (own, size))
        raise UsageError(f"{file}: got an image of {got}, expected {expected}")
    return images.resize(image, size or own)


def _arrays(path: Path, size: Size | None, seed: int) -> Parts:
    if path.is_file() and not zipfile.is_zipfile(path):
        raise UsageError(f"--data {path}: not an .npz file of arrays: it is no zip archive, or it is cut off")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.asarray(values) for name, values in archive.items()}
    except FileNotFoundError:
        raise UsageError(f"--data {path}: there is no such file") from None
    except Exception as error:  # a damaged archive raises whatever its reader stumbled over
        raise UsageError(f"--data {path}: not an .npz file of arrays: {first_line(error)}") from None
    return _raw(arrays, size, seed, f"--data {path}")


def _function(path: Path, size: Size | None, seed: int) -> Parts:
    arrays = imported(str(path), "--data")()
    if not isinstance(arrays, Mapping):
        raise UsageError(f"--data {path}: it returns a {type(arrays).__name__}, expected a mapping of arrays")
    try:
        given = {str(name): np.asarray(values) for name, values in arrays.items()}
    except Exception as error:  # what a list or tensor of their own says that is no array
        raise UsageError(f"--data {path}: it returns what is no array: {first_line(error)}") from None
    return _raw(given, size, seed, f"--data {path}")


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
        got = ", ".join([*arrays][:_MOST_NAMES]) + (", ..." if len(arrays) > _MOST_NAMES else "") or "nothing"
        raise UsageError(f"{where}: got {got}, expected {', '.join(_NEEDED)}; '{missing[0]}' is missing")
    train, test = (_part(arrays[f"{p}_images"], arrays[f"{p}_labels"], size, where) for p in ("train", "test"))
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    names = tuple(map(str, arrays["names"])) if "names" in arrays else tuple(map(str, range(classes)))
    if len(names) < classes:
        raise UsageError(f"{where}: got label {classes - 1} with {len(names)} names, expected a name for each class")
    return train, test, names


def _split(arrays: Mapping[str, NDArray[np.generic]], seed: int, where: str) -> Mapping[str, NDArray[np.generic]]:
    """Takes a third for the test split, at least one image, drawn with `seed`."""
    count, labelled = (arrays[key].shape[0] if arrays[key].ndim else 0 for key in ("images", "labels"))
    if count != labelled:
        raise UsageError(f"{where}: got {count} images with {labelled} labels")
    if count < 2:
        raise UsageError(f"{where}: got {count} images, expected 2 or more: one to test with, one to calibrate with")
    order = np.random.default_rng(seed).permutation(count)
    third = max(1, count // 3)
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
