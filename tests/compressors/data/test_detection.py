"""Splits of image files with boxes."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compressors.data.datasets import Dataset, boxes
from compressors.data.detection import LONG, DetectionParts, DetectionSplit, by_height, divided, read_files
from protos import images
from protos.errors import UsageError
from protos.manifest import Preprocessing
from protos.tasks.boxes import Truth

LETTERBOX = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3, "NCHW", "letterbox")


def encoded(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def split() -> DetectionSplit:
    """Three images of two, no and one box."""
    sizes = ((20, 10), (8, 16), (16, 16))
    files = np.array([encoded(*size, (50 * i, 0, 0)) for i, size in enumerate(sizes)], np.object_)
    truth = Truth(
        counts=np.array([2, 0, 1]),
        boxes=np.array([[0, 0, 4, 5], [1, 1, 3, 3], [2, 2, 9, 9]], np.float32),
        classes=np.array([0, 1, 0]),
        counting=np.ones((3, 1), np.bool_),
        areas=np.array([20, 4, 49], np.float32),
        keypoints=np.zeros((3, 0), np.float32),
    )
    return DetectionSplit(files, truth, ("all",))


def fingerprint(split: DetectionSplit) -> str:
    return Dataset("boxes", split, split, split, ("face",), LETTERBOX, "detection").fingerprint


def test_sizes_are_heights_and_widths(split: DetectionSplit) -> None:
    assert images.sizes(split.files).tolist() == [[10, 20], [16, 8], [16, 16]]


def test_images_are_taken_with_their_boxes(split: DetectionSplit) -> None:
    taken = split.take(np.array([2, 0]))
    assert images.sizes(taken.files).tolist() == [[16, 16], [10, 20]]
    assert taken.objects.boxes.tolist() == [[2, 2, 9, 9], [0, 0, 4, 5], [1, 1, 3, 3]]


def test_pixels_are_what_a_server_makes_of_each_file(split: DetectionSplit) -> None:
    pixels = images.fitted(split.files, LETTERBOX)
    assert pixels.dtype == np.uint8
    expected = [images.fit(images.read(file, ""), LETTERBOX) for file in split.files]
    np.testing.assert_array_equal(pixels, np.stack(expected))
    assert pixels[1, :, :8, 0].tolist() == [[50] * 8] * 16
    assert not pixels[1, :, 8:].any()


def test_the_fingerprint_covers_files_boxes_and_their_order(split: DetectionSplit) -> None:
    moved = replace(split, objects=replace(split.objects, boxes=split.objects.boxes + 1))
    others = replace(split, files=split.files[::-1].copy())
    reshaped = replace(split, objects=replace(split.objects, counting=np.ones((1, 3), np.bool_)))
    prints = [fingerprint(s) for s in (split, split.take(np.arange(3)), moved, others, reshaped)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_a_third_of_a_single_split_is_tested_as_the_seed_draws(split: DetectionSplit) -> None:
    ten = split.take(np.arange(10) % 3)
    train, test = divided([ten], seed=1)
    assert (len(train), len(test)) == (6, 4)
    assert sorted([*train.files, *test.files]) == sorted(ten.files)
    assert fingerprint(divided([ten], seed=1)[1]) == fingerprint(test)


def test_a_height_counts_from_the_edge_on() -> None:
    boxes = np.array([[0, 0, 99, height] for height in (50, 49.9, 30, 10, 9.9)], np.float32)
    assert by_height(boxes).sum(axis=1).tolist() == [3, 2, 2, 1, 0]
    assert by_height(boxes, scale=2.0).sum(axis=1).tolist() == [1, 1, 1, 0, 0]


def test_files_are_read_as_they_are_in_the_order_of_their_paths(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.png" for n in range(LONG + 1)]
    for n, path in enumerate(paths):
        path.write_bytes(encoded(4, 4, (n % 256, n // 256, 0)))
    assert read_files(paths[::-1]).tolist() == [path.read_bytes() for path in paths[::-1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"b\.png: No such file or directory"),
        (b"text", r"b\.png: got 4 bytes that are no JPEG or PNG file"),
        (encoded(64, 64, (1, 2, 3))[:-30], r"b\.png: got a PNG file that is damaged or cut off"),
    ],
)
def test_a_file_that_a_server_would_refuse_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    (tmp_path / "a.png").write_bytes(encoded(4, 4, (0, 0, 0)))
    if content is not None:
        (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_files([tmp_path / "a.png", tmp_path / "b.png"])


def test_images_without_an_object_that_counts_are_refused(split: DetectionSplit) -> None:
    none = replace(split, objects=replace(split.objects, counting=np.zeros((3, 1), np.bool_)))
    with pytest.raises(UsageError, match="got 3 test images without an object that counts, expected one or more"):
        boxes(DetectionParts(split, none, ("face",)), (16, 16))
