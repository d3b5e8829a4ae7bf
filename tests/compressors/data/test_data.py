"""Data: real images, disjoint splits, fixed by the seed."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from compressors.data import datasets
from protos.errors import UsageError
from protos.manifest import Preprocessing
from protos.preprocessing import normalise
from server.api import images


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    return datasets.load("digits", None, calibration=128, seed=0)


def test_digits_are_all_1797_scans_in_three_splits(digits: datasets.Dataset) -> None:
    assert [len(split) for split in (digits.train, digits.calibration, digits.test)] == [1069, 128, 600]
    assert digits.test.images.shape == (600, 3, 32, 32)


def test_splits_are_disjoint(digits: datasets.Dataset) -> None:
    parts = (digits.train, digits.calibration, digits.test)
    images = np.concatenate([split.images for split in parts])
    assert len(np.unique(images, axis=0)) == 1797  # no two scans are alike, so a repeated one would show


def test_every_class_is_tested(digits: datasets.Dataset) -> None:
    assert np.bincount(digits.test.labels, minlength=10).min() >= 55


def test_the_seed_decides_the_splits() -> None:
    fingerprints = [datasets.load("digits", None, 128, seed).fingerprint for seed in (0, 0, 1)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_inputs_are_normalized_and_row_major(digits: datasets.Dataset) -> None:
    images = digits.inputs(digits.test)
    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    pixel = digits.test.images[3, 1, 16, 16]
    assert images[3, 1, 16, 16] == pytest.approx((pixel / 255 - 0.3) / 0.35, abs=1e-5)


def test_inputs_are_to_the_bit_what_a_client_makes_of_the_pixels(digits: datasets.Dataset) -> None:
    made = normalise(digits.test.images.transpose(0, 2, 3, 1).copy(), digits.preprocessing)
    np.testing.assert_array_equal(digits.inputs(digits.test), made)


def test_inputs_are_to_the_bit_what_torch_makes_of_the_images() -> None:
    """As they were made before: what a cache holds was measured on the same inputs."""
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    split = datasets.Split(ramp, np.zeros(1, np.int64))
    how = Preprocessing((16, 16), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), "NCHW")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (how.mean, how.std))
    images = datasets.Dataset("ramp", split, split, split, ("all",), how).inputs(split)
    np.testing.assert_array_equal(images, ((torch.from_numpy(ramp).float() / 255 - mean) / std).numpy())


def image_folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), size: int = 32) -> Path:
    for part in ("train", "test"):
        for index, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (size, size), (index * 100, number, 0)).save(root / part / name / f"{number}.png")
    return root


def test_an_image_folder_is_read_with_its_classes(tmp_path: Path) -> None:
    loaded = datasets.load("cifar10", image_folder(tmp_path), calibration=2, seed=0)
    assert loaded.labels == ("cat", "dog")
    assert (len(loaded.train), len(loaded.calibration), len(loaded.test)) == (4, 2, 6)
    assert loaded.test.images[4].transpose(1, 2, 0)[0, 0].tolist() == [100, 1, 0]
    assert loaded.test.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_folder_without_the_splits_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected folders train/<class> and test/<class>"):
        datasets.load("cifar10", tmp_path, calibration=2, seed=0)


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"0\.png: got an image of 28x28, expected 32x32"):
        datasets.load("cifar10", image_folder(tmp_path, size=28), calibration=2, seed=0)


def test_splits_of_different_classes_are_named(tmp_path: Path) -> None:
    image_folder(tmp_path)
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "horse")
    with pytest.raises(UsageError, match=r"train/ has classes \('cat', 'dog'\), test/ has \('cat', 'horse'\)"):
        datasets.load("cifar10", tmp_path, calibration=2, seed=0)


@pytest.mark.parametrize("calibration", [0, 1197])
def test_calibration_must_leave_images_to_train_on(calibration: int) -> None:
    with pytest.raises(UsageError, match=f"got calibration = {calibration}, expected 1 to 1196"):
        datasets.load("digits", None, calibration, seed=0)


def test_digits_take_no_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data has no meaning"):
        datasets.load("digits", tmp_path, 128, seed=0)


def test_cifar100_is_torchvisions_with_its_fine_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(root: str, train: bool, download: bool) -> SimpleNamespace:
        rows = 6 if train else 3
        pixels = np.full((rows, 32, 32, 3), (1, 2, 3), np.uint8)
        return SimpleNamespace(data=pixels, targets=list(range(rows)), classes=[f"c{n}" for n in range(100)])

    monkeypatch.setattr(datasets.torchvision.datasets, "CIFAR100", download)
    loaded = datasets.load("cifar100", None, calibration=2, seed=0)
    assert (len(loaded.train), len(loaded.test), len(loaded.labels)) == (4, 3, 100)
    assert loaded.test.images[0, :, 0, 0].tolist() == [1, 2, 3]


def test_a_folder_of_any_size_is_resized_as_a_server_does(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", size=20)
    loaded = datasets.load("folder", folder, 2, 0, datasets.Form(size=(8, 12), mean=(0.5, 0.5, 0.5)))
    assert loaded.test.images.shape == (6, 3, 8, 12)
    assert loaded.name == "photos"
    assert loaded.preprocessing == Preprocessing((8, 12), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), "NCHW")
    first = Image.open(folder / "test" / "cat" / "0.png")
    np.testing.assert_array_equal(loaded.test.images[0].transpose(1, 2, 0), images.resize(first, loaded.preprocessing))


def test_a_folder_without_a_wanted_size_has_that_of_its_first_image(tmp_path: Path) -> None:
    assert datasets.load("folder", image_folder(tmp_path, size=20), 2, 0).preprocessing.resize == (20, 20)
    Image.new("RGB", (20, 21)).save(tmp_path / "test" / "dog" / "9.png")
    with pytest.raises(UsageError, match=r"9\.png: got an image of 20x21, expected 20x20"):
        datasets.load("folder", tmp_path, 2, 0)


def arrays(rows: int = 9, **changes: object) -> dict[str, np.ndarray]:
    images = np.arange(rows, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 5, 3), np.uint8)
    return {"images": images, "labels": np.arange(rows) % 3} | changes  # type: ignore[return-value]


def test_arrays_are_taken_in_both_layouts_and_split_where_they_are_not(tmp_path: Path) -> None:
    whole = arrays()
    np.savez(tmp_path / "one.npz", **whole)
    one = datasets.load("arrays", tmp_path / "one.npz", 2, 0)
    assert (len(one.train), len(one.calibration), len(one.test), one.name) == (4, 2, 3, "one")
    assert sorted(np.concatenate([s.images[:, 0, 0, 0] for s in (one.train, one.calibration, one.test)])) == [*range(9)]
    assert (one.test.images[:, 0, 0, 0] % 3 == one.test.labels).all()
    first = {"train_images": whole["images"].transpose(0, 3, 1, 2), "train_labels": whole["labels"]}
    last = {"test_images": whole["images"][:4], "test_labels": whole["labels"][:4], "names": np.array(["a", "b", "c"])}
    np.savez(tmp_path / "two.npz", **first, **last)
    two = datasets.load("arrays", tmp_path / "two.npz", 2, 0)
    assert two.train.images.shape == (7, 3, 4, 5)
    assert two.labels == ("a", "b", "c")


def test_a_function_returns_such_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_data.py").write_text(
        "import numpy\ndef photos():\n"
        "    return {'images': numpy.zeros((9, 4, 5, 3), 'uint8'), 'labels': numpy.arange(9)}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert len(datasets.load("function", Path("their_data:photos"), 2, 0).labels) == 9
    with pytest.raises(UsageError, match="no attribute 'videos'"):
        datasets.load("function", Path("their_data:videos"), 2, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((9, 4, 5, 3), np.float32)}, r"got images float32 \[6, 4, 5, 3\], expected uint8"),
        ({"images": np.zeros((9, 4, 5), np.uint8)}, r"got images uint8 \[6, 4, 5\]"),
        ({"labels": np.zeros(8, np.int64)}, "got 9 images with 8 labels"),
        ({"labels": np.arange(9) - 1.0}, "labels float64"),
        ({"labels": np.full(9, -1)}, "expected one class index for each, 0 or more"),
        ({"names": np.array(["a"])}, "got label 2 with 1 names"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays(**changes))
    with pytest.raises(UsageError, match=message):
        datasets.load("arrays", tmp_path / "bad.npz", 2, 0)


def test_arrays_of_other_names_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", x=np.zeros(3))
    with pytest.raises(UsageError, match=r"got x, expected train_images, .*; 'train_images' is missing"):
        datasets.load("arrays", tmp_path / "bad.npz", 2, 0)
    (tmp_path / "worse.npz").write_text("no archive")
    with pytest.raises(UsageError, match=r"not an \.npz file of arrays"):
        datasets.load("arrays", tmp_path / "worse.npz", 2, 0)


def test_another_normalisation_is_another_data_set() -> None:
    form = datasets.Form(mean=(0.1, 0.1, 0.1))
    assert datasets.load("digits", None, 128, 0, form).fingerprint != datasets.load("digits", None, 128, 0).fingerprint
    with pytest.raises(UsageError, match=r"got input size \[28, 28\], expected \[32, 32\], as digits has it"):
        datasets.load("digits", None, 128, 0, datasets.Form(size=(28, 28)))
