"""Data sets as three disjoint splits of 8-bit images in memory: train, calibration, test.

The calibration images are drawn from the training images with the study's seed and taken out of them, so
that no image is used twice. Adding a data set is one function and one row in `DATASETS`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from compressors.vision import torchvision
from protos.errors import UsageError
from protos.manifest import Preprocessing

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

    def take(self, indices: NDArray[np.int64]) -> "Split":
        """The images and labels at `indices`."""
        return Split(np.ascontiguousarray(self.images[indices]), self.labels[indices])


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
        """sha256 over all images and labels of all splits."""
        digest = hashlib.sha256()
        for split in (self.train, self.calibration, self.test):
            digest.update(split.images.tobytes())
            digest.update(split.labels.tobytes())
        return digest.hexdigest()

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """8-bit images (N, 3, H, W) as the network's float32 inputs, by the preprocessing of the manifest."""
        mean = torch.tensor(self.preprocessing.mean).view(1, 3, 1, 1)
        std = torch.tensor(self.preprocessing.std).view(1, 3, 1, 1)
        return (images.float() / 255 - mean) / std

    def inputs(self, split: Split) -> NDArray[np.float32]:
        """A whole split as float32 inputs (N, 3, H, W)."""
        return np.ascontiguousarray(self.normalize(torch.from_numpy(split.images)).numpy())


def load(name: str, path: Path | None, calibration: int, seed: int) -> Dataset:
    """The data set `name`, its calibration split drawn with `seed`.

    `path` is where its files lie, for those that have files. Raises `UsageError` for an unknown name and
    for a path that does not hold what the data set needs.
    """
    if name not in DATASETS:
        raise UsageError(f"data set '{name}' came, expected one of {', '.join(DATASETS)}")
    train, test, labels, preprocessing = DATASETS[name](path, seed)
    if not 1 <= calibration < len(train):
        raise UsageError(f"calibration = {calibration} came, expected 1 to {len(train) - 1} of the training images")
    order = np.random.default_rng(seed).permutation(len(train))
    held, rest = order[:calibration], order[calibration:]
    return Dataset(name, train.take(rest), train.take(held), test, labels, preprocessing)


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
    """CIFAR-10: an ImageFolder tree with train/ and test/, or torchvision's own download to data/.

    Source: https://www.cs.toronto.edu/~kriz/cifar.html
    """
    preprocessing = Preprocessing((32, 32), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), "NCHW")
    if path is None:
        downloaded = [torchvision.datasets.CIFAR10("data", train=train, download=True) for train in (True, False)]
        train, test = (Split(d.data.transpose(0, 3, 1, 2), np.array(d.targets, np.int64)) for d in downloaded)
        return train, test, tuple(downloaded[0].classes), preprocessing
    return *_image_folder(path, (32, 32)), preprocessing


def _image_folder(path: Path, size: tuple[int, int]) -> tuple[Split, Split, tuple[str, ...]]:
    """The images of `<path>/train/<class>/` and `<path>/test/<class>/`, all of (height, width) `size`."""
    splits, classes = [], []
    for part in ("train", "test"):
        try:
            folder = torchvision.datasets.ImageFolder(str(path / part))
        except FileNotFoundError as error:
            raise UsageError(f"--data {path}: expected folders train/<class> and test/<class>: {error}") from None
        images = np.empty((len(folder), 3, *size), np.uint8)
        for index, (image, _) in enumerate(folder):
            if image.size != (size[1], size[0]):
                raise UsageError(
                    f"{folder.samples[index][0]}: an image of {image.size[0]}x{image.size[1]} came,"
                    f" expected {size[1]}x{size[0]}"
                )
            images[index] = np.asarray(image).transpose(2, 0, 1)
        splits.append(Split(images, np.array(folder.targets, np.int64)))
        classes.append(tuple(folder.classes))
    if classes[0] != classes[1]:
        raise UsageError(f"--data {path}: train/ has classes {classes[0]}, test/ has {classes[1]}")
    return splits[0], splits[1], classes[0]


DATASETS: dict[str, Callable[[Path | None, int], Source]] = {"digits": _digits, "cifar10": _cifar10}
