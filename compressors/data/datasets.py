"""Data sets as three disjoint splits of 8-bit images in memory: train, calibration, test.

The calibration images are drawn from the training images with the study's seed and taken out of them, so
that no image is used twice. Adding a data set is one function and one row in `DATASETS`; a user's own images
are read by `user_data`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from compressors.data import detection_folder, scenes, user_data
from compressors.data.detection import DetectionParts
from compressors.data.split import Split
from compressors.data.user_data import Size
from compressors.networks.torchvision import torchvision
from protos import images
from protos.errors import UsageError
from protos.manifest import Decoding, Preprocessing, TaskName
from protos.preprocessing import normalise
from protos.tasks.task import Array, Rows

Three = tuple[float, float, float]


CALIBRATION = 256
"""Calibration images where nothing else is said."""


@dataclass(frozen=True)
class Form:
    """How images become inputs, where that is not the data set's own way."""

    size: Size | None = None
    """(height, width); images of a folder are resized to it, all others must have it."""
    mean: Three | None = None
    """Mean of the three channels, from 0 to 1; with `std` it is what the network was trained with."""
    std: Three | None = None

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size: got {list(self.size)}, expected a height and a width of 1 or more")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std: got {list(self.std)}, expected values above 0")

    def applied(self, own: Preprocessing) -> Preprocessing:
        """Returns the preprocessing `own`, with what is given here instead."""
        return replace(own, mean=self.mean or own.mean, std=self.std or own.std)


OWN_FORM = Form()


@dataclass(frozen=True)
class Inputs:
    """Images as inputs of a network, which are made of those rows alone that are asked for."""

    pixels: NDArray[np.uint8]
    """(N, H, W, 3)."""
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self[:1].shape[1:]

    def within(self, size: int, least: int, most: int) -> int:
        """Returns how many inputs fit in `size` bytes, from `least` to `most`."""
        return int(np.clip(size // self[:1].nbytes, least, most))

    def __getitem__(self, rows: slice | Rows) -> Array:
        return normalise(self.pixels[rows], self.preprocessing)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits, the classes' names, and how an image becomes an input."""

    name: str
    train: Split
    calibration: Split
    test: Split
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    task: TaskName = "classification"
    decoding: Decoding | None = None
    """How outputs become boxes, where the task is one of boxes."""

    @cached_property
    def fingerprint(self) -> str:
        """Returns the sha256 over all images and what is true of them, and how they become inputs."""
        hashed = hashlib.sha256(repr(self.preprocessing).encode())
        for split in (self.train, self.calibration, self.test):
            for array in (split.as_sent(), *split.truth.values()):
                files = map(hashlib.sha256, array) if array.dtype == np.object_ else ()
                hashed.update(repr(array.shape).encode())
                hashed.update(b"".join(file.digest() for file in files) or array.tobytes())
        return hashed.hexdigest()

    def inputs(self, split: Split) -> Array:
        """Makes a split inputs of a network, by the preprocessing of the manifest."""
        return normalise(images.fitted(split.as_sent(), self.preprocessing), self.preprocessing)

    def only(self, split: Split) -> "Dataset":
        """Returns the data set with nothing but this split, in the place of all."""
        return replace(self, train=split, calibration=split, test=split)


@dataclass(frozen=True)
class Source:
    """A data set before calibration images are taken out of its training split."""

    train: Split
    test: Split
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    task: TaskName = "classification"


Reader = Callable[[Path | None, Form, int], Source]
"""The path of the files, the form that inputs are to have, and the seed that a split is drawn with."""


def load(name: str, path: Path | None, calibration: int | None, seed: int, form: Form = OWN_FORM) -> Dataset:
    """Reads the data set `name`, or a user's own in the form of that name; `seed` draws the calibration split.

    `path` is where its files lie, for those that have files. Without a number for `calibration`, which nothing
    that is trained can do without, it takes `CALIBRATION` images, or all where there are fewer. Raises `UsageError`
    for an unknown name and for a path that does not hold what the data set needs.
    """
    if name not in DATASETS:
        raise UsageError(f"got data set '{name}', expected one of {', '.join(DATASETS)}")
    if name in USERS and path is None:
        raise UsageError(f"data = '{name}' needs --data, which says where it is")
    title, source = path.stem if path and name in USERS else name, DATASETS[name](path, form, seed)
    own, train = source.preprocessing, source.train
    if form.size is not None and form.size != own.resize:
        raise UsageError(f"got input size {list(form.size)}, expected {list(own.resize)}, as {name} has it")
    if calibration is None:
        calibration = min(CALIBRATION, len(train))
    elif not 1 <= calibration < len(train):
        raise UsageError(f"got calibration = {calibration}, expected 1 to {len(train) - 1} of the training images")
    order = np.random.default_rng(seed).permutation(len(train))
    held, rest = order[:calibration], order[calibration:]
    parts = train.take(rest), train.take(held), source.test
    return Dataset(title, *parts, source.labels, form.applied(own), source.task)


def _digits(path: Path | None, form: Form, seed: int) -> Source:
    """scikit-learn's 1,797 handwritten digits of 8x8, enlarged to 32x32 and three equal channels.

    Source: https://archive.ics.uci.edu/dataset/80 (test part). A third is the test split, by class.
    """
    if path is not None:
        raise UsageError("the digits are part of scikit-learn: --data has no meaning for them")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    small = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    large = torch.nn.functional.interpolate(small, size=(32, 32), mode="bilinear")
    pixels = large.round().to(torch.uint8).expand(-1, 3, -1, -1).numpy()
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=600, random_state=seed, stratify=labels)
    everything = user_data.Split(pixels, labels)
    preprocessing = Preprocessing((32, 32), (0.3, 0.3, 0.3), (0.35, 0.35, 0.35), "NCHW")
    return Source(everything.take(train), everything.take(test), tuple(str(n) for n in range(10)), preprocessing)


def _cifar(name: str, mean: Three, std: Three, path: Path | None, form: Form, seed: int) -> Source:
    """Reads an ImageFolder tree of 32x32 with train/ and test/, or downloads CIFAR by torchvision to data/.

    Source: https://www.cs.toronto.edu/~kriz/cifar.html
    """
    preprocessing = Preprocessing((32, 32), mean, std, "NCHW")
    if path is not None:
        return Source(*user_data.image_folder(path, (32, 32)), preprocessing)
    parts = [getattr(torchvision.datasets, name)("data", train=train, download=True) for train in (True, False)]
    train, test = (user_data.Split(d.data.transpose(0, 3, 1, 2), np.array(d.targets, np.int64)) for d in parts)
    return Source(train, test, tuple(parts[0].classes), preprocessing)


def _of_user(kind: str, path: Path | None, form: Form, seed: int) -> Source:
    """Reads a user's own images in one of the forms of `user_data`."""
    assert path is not None
    train, test, labels = user_data.KINDS[kind](path, form.size, seed)
    own = Preprocessing(train.images.shape[2:], (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "NCHW")
    return Source(train, test, labels, own)


DETECTOR_SIZE = (640, 640)
"""Sides of a detector's input, where nothing else is said."""
SCENES = (1200, 300)
"""Training and test scenes."""


def boxes(parts: DetectionParts, size: Size, mean: float = 0.0, std: float = 1.0) -> Source:
    """Returns images with boxes as a source: they are fitted whole into inputs of `size`."""
    for part, split in (("training", parts.train), ("test", parts.test)):
        if not split.objects.counting.any():
            raise UsageError(f"got {len(split)} {part} images without an object that counts, expected one or more")
    own = Preprocessing(size, (mean,) * 3, (std,) * 3, "NCHW", "letterbox")
    return Source(parts.train, parts.test, parts.labels, own, "detection")


def _scenes(path: Path | None, form: Form, seed: int) -> Source:
    """Makes scenes of digits on the spot, of the input's size."""
    if path is not None:
        raise UsageError("scenes are made on the spot: --data has no meaning for them")
    size = form.size or (scenes.SIDE, scenes.SIDE)
    return boxes(scenes.scenes(*SCENES, max(size), seed), size, 0.5, 128 / 255)


def _folder_of_boxes(path: Path | None, form: Form, seed: int) -> Source:
    """Reads a user's own images with boxes."""
    assert path is not None
    return boxes(detection_folder.read(path, seed), form.size or DETECTOR_SIZE)


BOXES = "boxes"
USERS: dict[str, TaskName] = {**dict.fromkeys(user_data.KINDS, "classification"), BOXES: "detection"}
"""Forms of a user's own data, which lie where the user says, and their tasks."""

KIND_OF: dict[TaskName, Callable[[str], str]] = {"classification": user_data.kind_of, "detection": lambda text: BOXES}
"""Task to what says which form of a user's own data `--data TEXT` is."""

DATASETS: dict[str, Reader] = {
    "digits": _digits,
    "cifar10": partial(_cifar, "CIFAR10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": partial(_cifar, "CIFAR100", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    **{kind: partial(_of_user, kind) for kind in user_data.KINDS},
    "scenes": _scenes,
    BOXES: _folder_of_boxes,
}
"""What a study can name: data sets, and the forms of a user's own."""
