"""Data: real images, disjoint splits, fixed by the seed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compressors import data
from protos.errors import UsageError


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits", None, calibration=128, seed=0)


def test_digits_are_all_1797_scans_in_three_splits(digits: data.Dataset) -> None:
    assert [len(split) for split in (digits.train, digits.calibration, digits.test)] == [1069, 128, 600]
    assert digits.test.images.shape == (600, 3, 32, 32)


def test_splits_are_disjoint(digits: data.Dataset) -> None:
    parts = (digits.train, digits.calibration, digits.test)
    images = np.concatenate([split.images for split in parts])
    assert len(np.unique(images, axis=0)) == 1797  # no two scans are alike, so a repeated one would show


def test_every_class_is_tested(digits: data.Dataset) -> None:
    assert np.bincount(digits.test.labels, minlength=10).min() >= 55


def test_the_seed_decides_the_splits() -> None:
    fingerprints = [data.load("digits", None, 128, seed).fingerprint() for seed in (0, 0, 1)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_inputs_are_normalized_and_row_major(digits: data.Dataset) -> None:
    inputs = digits.inputs(digits.test)
    assert inputs.dtype == np.float32
    assert inputs.flags.c_contiguous
    pixel = digits.test.images[3, 1, 16, 16]
    assert inputs[3, 1, 16, 16] == pytest.approx((pixel / 255 - 0.3) / 0.35, abs=1e-5)


def image_folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), size: int = 32) -> Path:
    for part in ("train", "test"):
        for index, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (size, size), (index * 100, number, 0)).save(root / part / name / f"{number}.png")
    return root


def test_an_image_folder_is_read_with_its_classes(tmp_path: Path) -> None:
    loaded = data.load("cifar10", image_folder(tmp_path), calibration=2, seed=0)
    assert loaded.labels == ("cat", "dog")
    assert (len(loaded.train), len(loaded.calibration), len(loaded.test)) == (4, 2, 6)
    assert loaded.test.images[4].transpose(1, 2, 0)[0, 0].tolist() == [100, 1, 0]
    assert loaded.test.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_folder_without_the_splits_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected folders train/<class> and test/<class>"):
        data.load("cifar10", tmp_path, calibration=2, seed=0)


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"0\.png: an image of 28x28 came, expected 32x32"):
        data.load("cifar10", image_folder(tmp_path, size=28), calibration=2, seed=0)


def test_splits_of_different_classes_are_named(tmp_path: Path) -> None:
    image_folder(tmp_path)
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "horse")
    with pytest.raises(UsageError, match=r"train/ has classes \('cat', 'dog'\), test/ has \('cat', 'horse'\)"):
        data.load("cifar10", tmp_path, calibration=2, seed=0)


@pytest.mark.parametrize("calibration", [0, 1197])
def test_calibration_must_leave_images_to_train_on(calibration: int) -> None:
    with pytest.raises(UsageError, match=f"calibration = {calibration} came, expected 1 to 1196"):
        data.load("digits", None, calibration, seed=0)


def test_digits_take_no_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data has no meaning"):
        data.load("digits", tmp_path, 128, seed=0)
