"""Data sets as three disjoint splits of 8-bit images in memory: train, calibration, test.

The calibration images are drawn from the training images with the study's seed and taken out of them, so
that no image is used twice. Adding a data set is one function and one row in `DATASETS`; a user's own images
are read by `own_data`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compressors.data import user_data
from compressors.data.user_data import Size
from compressors.networks.torchvision import torchvision
from protos.errors import UsageError
from protos.manifest import Preprocessing
from protos.preprocessing import normalise

Images = NDArray[np.uint8]
"""RGB images (N, 3, H, W)."""
Labels = NDArray[np.int64]
"""Class indices (N,)."""


@dataclass(frozen=True)
class Split:
    """Images (N, 3, H, W) and their labels (N,)."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def pixels(self) -> Images:
        """The same images as (N, H, W, 3), without a copy: the order of a server's clients."""
        return self.images.transpose(0, 2, 3, 1)

    def take(self, indices: NDArray[np.int64]) -> "Split":
        """The images and labels at `indices`."""
        return Split(np.ascontiguousarray(self.images[indices]), self.labels[indices])


@dataclass(frozen=True)
class Form:
    """How images become inputs, where that is not the data set's own way."""

    size: Size | None = None
    """(height, width); images of a folder are resized to it, all others must have it."""
    mean: tuple[float, float, float] | None = None
    """Mean of the three channels, from 0 to 1; with `std` it is what the network was trained with."""
    std: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size: got {list(self.size)}, expected a height and a width of 1 or more")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std: got {list(self.std)}, expected values above 0")

    def applied(self, own: Preprocessing) -> Preprocessing:
        """The preprocessing `own`, with what is given here instead."""
        return replace(own, mean=self.mean or own.mean, std=self.std or own.std)


OWN_FORM = Form()
"""All is the data set's own."""


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits, the classes' names, and how an image becomes an input."""

    name: str
    train: Split
    calibration: Split
    test: Split
    labels: tuple[str, ...]
    preprocessing: Preprocessing

    def fingerprint(self) -> str:
        """sha256 over all images and labels of all splits, and how they become inputs."""
        hashed = hashlib.sha256(repr(self.preprocessing).encode())
        for split in (self.train, self.calibration, self.test):
            hashed.update(split.images.tobytes())
            hashed.update(split.labels.tobytes())
        return hashed.hexdigest()

    def inputs(self, split: Split) -> NDArray[np.float32]:
        """A split as float32 inputs (N, 3, H, W), by the preprocessing of the manifest."""
        return normalise(split.pixels, self.preprocessing)


def load(name: str, path: Path | None, calibration: int, seed: int, form: Form = OWN_FORM) -> Dataset:
    """The data set `name`, or a user's own in the form of that name, its calibration split drawn with `seed`.

    `path` is where its files lie, for those that have files. Raises `UsageError` for an unknown name and
    for a path that does not hold what the data set needs.
    """
    if name not in known():
        raise UsageError(f"got data set '{name}', expected one of {', '.join(known())}")
    title, source = (name, DATASETS[name](path, seed)) if name in DATASETS else _own(name, path, seed, form)
    train, test, labels, own = source
    if form.size is not None and form.size != own.resize:
        raise UsageError(f"got input size {list(form.size)}, expected {list(own.resize)}, as {name} has it")
    if not 1 <= calibration < len(train):
        raise UsageError(f"got calibration = {calibration}, expected 1 to {len(train) - 1} of the training images")
    order = np.random.default_rng(seed).permutation(len(train))
    held, rest = order[:calibration], order[calibration:]
    return Dataset(title, train.take(rest), train.take(held), test, labels, form.applied(own))


Source = tuple[Split, Split, tuple[str, ...], Preprocessing]


def _digits(path: Path | None, seed: int) -> Source:
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
    images = large.round().to(torch.uint8).expand(-1, 3, -1, -1).numpy()
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=600, random_state=seed, stratify=labels)
    everything = Split(images, labels)
    preprocessing = Preprocessing((32, 32), (0.3, 0.3, 0.3), (0.35, 0.35, 0.35), "NCHW")
    return everything.take(train), everything.take(test), tuple(str(n) for n in range(10)), preprocessing


def _cifar10(path: Path | None, seed: int) -> Source:
    """CIFAR-10. Source: https://www.cs.toronto.edu/~kriz/cifar.html"""
    preprocessing = Preprocessing((32, 32), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), "NCHW")
    return *_cifar(torchvision.datasets.CIFAR10, path), preprocessing


def _cifar100(path: Path | None, seed: int) -> Source:
    """CIFAR-100, with its 100 fine classes; from the same source."""
    preprocessing = Preprocessing((32, 32), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), "NCHW")
    return *_cifar(torchvision.datasets.CIFAR100, path), preprocessing


def _cifar(download: Callable[..., Any], path: Path | None) -> tuple[Split, Split, tuple[str, ...]]:
    """An ImageFolder tree of 32x32 with train/ and test/, or torchvision's own download to data/."""
    if path is not None:
        return _image_folder(path, (32, 32))
    parts = [download("data", train=train, download=True) for train in (True, False)]
    train, test = (Split(d.data.transpose(0, 3, 1, 2), np.array(d.targets, np.int64)) for d in parts)
    return train, test, tuple(parts[0].classes)


def _own(kind: str, path: Path | None, seed: int, form: Form) -> tuple[str, Source]:
    """A title for it, and the user's own data; inputs are 0..1 unless `form` says otherwise."""
    if path is None:
        raise UsageError(f"data = '{kind}' needs --data, which says where it is")
    raw = user_data.KINDS[kind](path, form.size, seed)
    preprocessing = Preprocessing(raw.train[0].shape[2:], (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "NCHW")
    return path.stem, (Split(*raw.train), Split(*raw.test), raw.names, preprocessing)


def _image_folder(path: Path, size: Size) -> tuple[Split, Split, tuple[str, ...]]:
    raw = user_data.image_folder(path, size)
    return Split(*raw.train), Split(*raw.test), raw.names


DATASETS: dict[str, Callable[[Path | None, int], Source]] = {
    "digits": _digits,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
}


def known() -> dict[str, object]:
    """What a study can name: data sets, and the forms of a user's own."""
    return {**DATASETS, **user_data.KINDS}
