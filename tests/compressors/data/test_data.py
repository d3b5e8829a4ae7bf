"""Data: real images, disjoint splits, fixed by the seed."""

import io
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from compressors.data import datasets, user_data
from protos import images
from protos.errors import InvalidInputError, UsageError
from protos.manifest import Preprocessing
from protos.preprocessing import normalise
from server.api.images import Images
from server.settings import Settings


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
    split = user_data.Split(ramp, np.zeros(1, np.int64))
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
    np.testing.assert_array_equal(loaded.test.images[0].transpose(1, 2, 0), images.resize(first, (8, 12)))


def test_a_folder_without_a_wanted_size_has_that_of_its_first_image(tmp_path: Path) -> None:
    assert datasets.load("folder", image_folder(tmp_path, size=20), 2, 0).preprocessing.resize == (20, 20)
    Image.new("RGB", (20, 21)).save(tmp_path / "test" / "dog" / "9.png")
    with pytest.raises(UsageError, match=r"9\.png: got an image of 20x21, expected 20x20"):
        datasets.load("folder", tmp_path, 2, 0)


def encoded(form: str, mode: str = "RGB", **options: object) -> bytes:
    stream, pixels = io.BytesIO(), np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
    Image.fromarray(pixels).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def orientation() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


GOOD_FILES = {
    **{mode: encoded("PNG", mode) for mode in ("1", "L", "LA", "P", "RGBA")},
    "a palette with transparency": encoded("PNG", "P", transparency=3),
    "CMYK": encoded("JPEG", "CMYK"),
    "a photo held upright": encoded("JPEG", exif=orientation()),
    "an animation": encoded("PNG", save_all=True, append_images=[Image.new("RGB", (12, 8))]),
}
BAD_FILES = {
    "a GIF": encoded("GIF"),
    "a WebP": encoded("WEBP"),
    "a TIFF": encoded("TIFF"),
    "16 bits": encoded("PNG", "I;16"),
    "cut off": encoded("JPEG")[:-40],
    "a text": b"label 3",
    "empty": b"",
    "a bomb": encoded("PNG")[:16] + (50_000).to_bytes(4, "big") * 2 + encoded("PNG")[24:],
}


def folder_with(root: Path, content: bytes, name: str = "1.png") -> Path:
    """A folder of images whose first test image is `content`."""
    for part in ("train", "test"):
        (root / part / "cat").mkdir(parents=True)
        (root / part / "cat" / name).write_bytes(content if part == "test" else encoded("PNG"))
    return root


@pytest.fixture
def server_reads() -> Iterator[Callable[[bytes], Image.Image]]:
    """What a server makes of a file, as it is started without settings."""
    reader = Images(1, 1, Settings(repository=Path()).max_image_pixels)
    yield lambda content: reader._open("x", content)
    reader.close()


@pytest.mark.parametrize("case", GOOD_FILES)
def test_an_image_of_a_folder_is_to_the_bit_what_a_server_reads(
    tmp_path: Path, case: str, server_reads: Callable[[bytes], Image.Image]
) -> None:
    loaded = datasets.load("folder", folder_with(tmp_path, GOOD_FILES[case], "a photo"), None, 0)
    np.testing.assert_array_equal(loaded.test.pixels[0], np.asarray(server_reads(GOOD_FILES[case])))


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_a_server_refuses_is_refused_in_its_words_with_the_files_name(
    tmp_path: Path, case: str, server_reads: Callable[[bytes], Image.Image]
) -> None:
    with pytest.raises(InvalidInputError) as theirs:
        server_reads(BAD_FILES[case])
    with pytest.raises(UsageError) as ours:
        datasets.load("folder", folder_with(tmp_path, BAD_FILES[case]), None, 0, datasets.Form(size=(4, 4)))
    assert str(ours.value) == f"{tmp_path / 'test' / 'cat' / '1.png'}{str(theirs.value).removeprefix('x')}"


@pytest.mark.parametrize("name", [".DS_Store", "._0.png", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints/0.png"])
def test_what_a_desktop_hides_in_a_folder_is_no_image_and_no_class(tmp_path: Path, name: str) -> None:
    folder = image_folder(tmp_path)
    for place in (folder / "train", folder / "test" / "cat"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(b"hidden")
    loaded = datasets.load("folder", folder, 2, 0)
    assert (loaded.labels, len(loaded.train), len(loaded.test)) == (("cat", "dog"), 4, 6)


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    folder = image_folder(tmp_path)
    (folder / "test" / "cow").mkdir()
    with pytest.raises(UsageError, match="got no image in 'test/cow', expected one or more"):
        datasets.load("folder", folder, 2, 0)


def test_an_archive_that_was_not_unpacked_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(image_folder(tmp_path / "photos"), "photos")
    with pytest.raises(UsageError, match=r"photos\.tar: got a file, expected a folder"):
        datasets.load("folder", tmp_path / "photos.tar", 2, 0)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    folder = image_folder(tmp_path)
    (folder / "test" / "cat" / "3.png").symlink_to("nowhere.png")
    with pytest.raises(UsageError, match=r"3\.png: No such file or directory"):
        datasets.load("folder", folder, 2, 0)


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


def npz(path: Path, **given: object) -> bytes:
    np.savez_compressed(path / "whole.npz", **given)  # type: ignore[arg-type]
    return (path / "whole.npz").read_bytes()


def zip_of_images(path: Path) -> bytes:
    with zipfile.ZipFile(path / "whole.zip", "w") as archive:
        for number in range(100):
            archive.writestr(f"cat/{number}.png", encoded("PNG"))
    return (path / "whole.zip").read_bytes()


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 255 for byte in content[middle : middle + 8]) + content[middle + 8 :]


def alone(path: Path) -> bytes:
    np.save(path / "whole.npy", np.zeros(3))
    return (path / "whole.npy").read_bytes()


BROKEN_ARCHIVES = {
    "cut off": (lambda p: npz(p, **arrays())[:-100], "it is no zip archive, or it is cut off"),
    "empty": (lambda p: b"", "it is no zip archive"),
    "one array": (alone, "it is no zip archive"),
    "a pickle": (lambda p: pickle.dumps(arrays()), "it is no zip archive"),
    "damaged": (lambda p: flipped(npz(p, **arrays(300))), "not an .npz file of arrays: "),
    "objects": (lambda p: npz(p, **arrays(images=np.array([1, "a"], object))), "Object arrays cannot be loaded"),
    "of images": (zip_of_images, r"got cat/0.png, .*cat/7.png, \.\.\., expected train_images"),
}


@pytest.mark.parametrize("case", BROKEN_ARCHIVES)
def test_a_broken_archive_is_one_line_with_its_name(tmp_path: Path, case: str) -> None:
    make, text = BROKEN_ARCHIVES[case]
    (tmp_path / "bad.npz").write_bytes(make(tmp_path))
    with pytest.raises(UsageError, match=rf"bad\.npz: .*{text}") as caught:
        datasets.load("arrays", tmp_path / "bad.npz", 2, 0)
    assert "\n" not in str(caught.value)


def test_what_a_function_returns_may_be_lists_and_tensors_but_no_ragged_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "listed_data.py").write_text(
        "import torch\nlabels = [0, 1, 2]\n"
        "def photos(): return {'images': torch.zeros(3, 4, 5, 3, dtype=torch.uint8), 'labels': labels}\n"
        "def ragged(): return {'images': [[1], [1, 2]], 'labels': labels}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert datasets.load("function", Path("listed_data:photos"), None, 0).test.images.shape == (1, 3, 4, 5)
    with pytest.raises(UsageError, match="listed_data:ragged: it returns what is no array: setting an array element"):
        datasets.load("function", Path("listed_data:ragged"), None, 0)


@pytest.mark.parametrize("rows", [2, 9, 400])
def test_a_default_takes_the_calibration_images_that_there_are(tmp_path: Path, rows: int) -> None:
    npz(tmp_path, **arrays(rows=1) | {"images": np.zeros((rows, 4, 5, 3), np.uint8), "labels": np.zeros(rows, int)})
    loaded = datasets.load("arrays", tmp_path / "whole.npz", None, 0)
    assert len(loaded.test) == max(1, rows // 3)
    assert len(loaded.calibration) == min(256, rows - len(loaded.test))
    with pytest.raises(UsageError, match="got calibration = 400, expected 1 to"):
        datasets.load("arrays", tmp_path / "whole.npz", 400, 0)


def test_a_single_image_is_too_few(tmp_path: Path) -> None:
    npz(tmp_path, **arrays(rows=1))
    with pytest.raises(UsageError, match="got 1 images, expected 2 or more"):
        datasets.load("arrays", tmp_path / "whole.npz", None, 0)


def test_another_normalisation_is_another_data_set() -> None:
    form = datasets.Form(mean=(0.1, 0.1, 0.1))
    assert datasets.load("digits", None, 128, 0, form).fingerprint != datasets.load("digits", None, 128, 0).fingerprint
    with pytest.raises(UsageError, match=r"got input size \[28, 28\], expected \[32, 32\], as digits has it"):
        datasets.load("digits", None, 128, 0, datasets.Form(size=(28, 28)))
