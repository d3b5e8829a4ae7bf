"""COCO JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compressors.data import coco
from protos.errors import UsageError


def content() -> dict[str, Any]:
    """Two images; the annotations are not in the order of the images, nor the categories in that of their ids."""
    return {
        "images": [
            {"id": 30, "file_name": "a.jpg"},
            {"id": 10, "file_name": "b.jpg"},
            {"id": 20, "file_name": "c.jpg"},
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 20, "category_id": 2, "bbox": [1, 2, 3, 4.5], "area": 9, "segmentation": [[1, 2]]},
            {"id": 2, "image_id": 30, "category_id": 7, "bbox": [0, 0, 10, 10], "iscrowd": 1},
            {"id": 3, "image_id": 30, "category_id": 2, "bbox": [5, 5, 0, 10], "iscrowd": 0},
            {"id": 4, "image_id": 30, "category_id": 2, "bbox": [5, 5, 1, 10], "ignore": 1},
        ],
    }


def write(file: Path, images: Path, record: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record))
    images.mkdir(parents=True, exist_ok=True)
    for image in record["images"]:
        Image.new("RGB", (16, 12)).save(images / image["file_name"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """COCO's own names."""
    for part in ("train2017", "val2017"):
        write(tmp_path / "annotations" / f"instances_{part}.json", tmp_path / part, content())
    return tmp_path


def test_boxes_stand_in_the_order_of_the_images(folder: Path) -> None:
    truth = coco.read(folder, 0).test.objects
    assert truth.counts.tolist() == [3, 0, 1]
    assert truth.boxes.tolist() == [[0, 0, 10, 10], [5, 5, 5, 15], [5, 5, 6, 15], [1, 2, 4, 6.5]]
    assert truth.areas.tolist() == [100, 0, 10, 9]


def test_classes_are_the_categories_in_the_order_of_their_ids(folder: Path) -> None:
    parts = coco.read(folder, 0)
    assert (parts.labels, parts.test.settings) == (("cat", "dog"), ("all",))
    assert parts.test.objects.classes.tolist() == [1, 0, 0, 0]


def test_crowds_and_what_is_ignored_or_without_area_do_not_count(folder: Path) -> None:
    assert coco.read(folder, 0).train.objects.counting.tolist() == [[False], [False], [False], [True]]


@pytest.mark.parametrize(
    ("layout", "length"),
    [
        (
            [
                ("annotations/instances_train.json", "images/train", 2),
                ("annotations/instances_val.json", "images/val", 1),
            ],
            1,
        ),
        ([("annotations/train.json", "images", 2), ("annotations/val.json", "images", 1)], 1),
        ([("annotations/person_keypoints_train2017.json", "train2017", 2), ("annotations/val.json", "val", 1)], 1),
        ([(f"{part}/_annotations.coco.json", part, n) for part, n in (("train", 2), ("valid", 1), ("test", 3))], 1),
        ([(f"{part}/_annotations.coco.json", part, n) for part, n in (("train", 2), ("test", 3))], 3),
    ],
)
def test_a_layout_is_found(tmp_path: Path, layout: list[tuple[str, str, int]], length: int) -> None:
    for file, images, number in layout:
        record = content()
        write(tmp_path / file, tmp_path / images, {**record, "images": record["images"][:number], "annotations": []})
    parts = coco.read(tmp_path, 0)
    assert (len(parts.train), len(parts.test)) == (2, length)


def test_one_part_alone_is_divided(folder: Path) -> None:
    (folder / "annotations" / "instances_train2017.json").unlink()
    parts = coco.read(folder, 0)
    assert (len(parts.train), len(parts.test)) == (2, 1)


def test_two_files_of_one_part_are_named(folder: Path) -> None:
    write(folder / "annotations" / "instances_train2014.json", folder / "train2014", content())
    with pytest.raises(UsageError, match=r"got annotations/instances_train2014\.json, .*2017\.json, expected one"):
        coco.read(folder, 0)


def test_key_points_are_nan_where_they_are_not_annotated(tmp_path: Path) -> None:
    record = content()
    for category in record["categories"]:
        category["keypoints"] = ["nose", "tail"]
    record["annotations"][0]["keypoints"] = [3, 4, 2, 0, 0, 0]
    write(tmp_path / "train" / "_annotations.coco.json", tmp_path / "train", record)
    write(tmp_path / "valid" / "_annotations.coco.json", tmp_path / "valid", record)
    keypoints = coco.read(tmp_path, 0).test.objects.keypoints
    np.testing.assert_array_equal(keypoints, [[np.nan] * 4] * 3 + [[3, 4, np.nan, np.nan]])


def test_key_points_of_some_categories_only_are_passed_over(folder: Path) -> None:
    record = content()
    record["categories"][0]["keypoints"] = ["nose"]
    record["annotations"][1]["keypoints"] = [3, 4, 2]
    write(folder / "annotations" / "instances_val2017.json", folder / "val2017", record)
    assert coco.read(folder, 0).test.objects.keypoints.shape == (4, 0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_id": 99}, "annotation 1: there is no image 99"),
        ({"category_id": 3}, "annotation 1: there is no category 3"),
        ({"bbox": [1, 2, -3, 4]}, r"annotation 1: got bbox \[1, 2, -3, 4\], expected"),
        ({"bbox": [1, float("nan"), 3, 4]}, r"annotation 1: got bbox \[1, nan, 3, 4\], expected"),
        ({"bbox": [1, 2, 3]}, "annotation 1: not enough values"),
        ({"bbox": None}, "annotation 1: .*NoneType"),
    ],
)
def test_a_malformed_annotation_is_named(folder: Path, changed: dict[str, object], message: str) -> None:
    record = content()
    record["annotations"][0].update(changed)
    write(folder / "annotations" / "instances_val2017.json", folder / "val2017", record)
    with pytest.raises(UsageError, match=rf"instances_val2017\.json: {message}"):
        coco.read(folder, 0)


def test_key_points_of_another_number_are_named(folder: Path) -> None:
    record = content()
    for category in record["categories"]:
        category["keypoints"] = ["nose", "tail"]
    record["annotations"][3]["keypoints"] = [3, 4, 2]
    write(folder / "annotations" / "instances_val2017.json", folder / "val2017", record)
    with pytest.raises(UsageError, match="annotation 4: got 3 numbers of key points, expected 6"):
        coco.read(folder, 0)


def test_an_annotation_without_a_box_is_named(folder: Path) -> None:
    record = content()
    del record["annotations"][2]["bbox"]
    write(folder / "annotations" / "instances_val2017.json", folder / "val2017", record)
    with pytest.raises(UsageError, match="annotation 3: there is no 'bbox'"):
        coco.read(folder, 0)


def test_a_missing_image_is_named_by_its_id(folder: Path) -> None:
    (folder / "val2017" / "b.jpg").unlink()
    with pytest.raises(UsageError, match=r"instances_val2017\.json: image 10: there is no .*val2017/b\.jpg"):
        coco.read(folder, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a file of COCO's form: "),
        ('{"images": [], "categories": []}', "not a file of COCO's form: there is no 'annotations'"),
        ("[]", "not a file of COCO's form: "),
        ('{"images": [], "categories": [], "annotations": []}', "got no images"),
    ],
)
def test_a_file_of_another_form_is_named(folder: Path, text: str, message: str) -> None:
    for part in ("train", "val"):
        (folder / "annotations" / f"instances_{part}2017.json").write_text(text)
    with pytest.raises(UsageError, match=rf"instances_train2017\.json: {message}"):
        coco.read(folder, 0)


def test_other_categories_in_the_test_part_are_named(folder: Path) -> None:
    record = content()
    record["categories"][0]["name"] = "horse"
    write(folder / "annotations" / "instances_val2017.json", folder / "val2017", record)
    with pytest.raises(UsageError, match=r"other categories in .*val2017\.json than in .*train2017\.json"):
        coco.read(folder, 0)
