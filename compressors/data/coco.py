"""COCO JSON, as COCO itself and as tools export it: https://cocodataset.org/#format-data

    annotations/instances_train2017.json, train2017/*.jpg      annotations/instances_val2017.json, val2017/*.jpg
    train/_annotations.coco.json, train/*.jpg                  valid/_annotations.coco.json, valid/*.jpg

The folders of images may also be within `images/`. The first of val, valid and test that is there is the test split.
Classes are the categories in the order of their ids. A crowd (`iscrowd`), what is to be ignored (`ignore`) and what
has no area does not count. Key points are read where all categories name equally many.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compressors.data.detection import DetectionParts, DetectionSplit, divided, read_files
from compressors.progress import first_line
from protos.errors import UsageError
from protos.tasks.boxes import Truth

TRAIN, TESTS = "train", ("val", "test")
PATTERNS = (
    "annotations/instances_{}*.json",
    "annotations/person_keypoints_{}*.json",
    "annotations/{}*.json",
    "{}*/_annotations.coco.json",
)
"""Where annotations may be; `val*` is also `valid`."""
MALFORMED = (KeyError, ValueError, TypeError)
"""What reading a record raises that is not as it should be."""

Record = Mapping[str, Any]
"""An object of the JSON."""
Row = tuple[int, int, bool, list[float], float, list[float]]
"""Image, class, whether it counts, box, area, and x and y of each key point."""


def annotations(path: Path) -> list[Path]:
    """Returns the annotation files of training and test images, those of them that are there."""
    test = next((file for part in TESTS for file in _files(path, part)), None)
    return [*_files(path, TRAIN), *([test] if test else [])]


def read(path: Path, seed: int) -> DetectionParts:
    """Reads a folder in COCO's layout; where it has only one of the two parts, a third of it is the test split.

    Raises `UsageError` for what is malformed or missing, by its id, and for an image that a server would refuse.
    """
    files = annotations(path)
    contents = [_content(file) for file in files]
    labels = [tuple(category["name"] for category in content["categories"]) for content in contents]
    if labels[0] != labels[-1]:
        raise UsageError(f"--data {path}: got other categories in {files[1]} than in {files[0]}")
    splits = [_split(path, file, content) for file, content in zip(files, contents, strict=True)]
    return DetectionParts(*divided(splits, seed), labels[0])


def _files(path: Path, part: str) -> list[Path]:
    """Returns the one annotation file of a part, or none."""
    for pattern in PATTERNS:
        if files := sorted(path.glob(pattern.format(part))):
            if len(files) > 1:
                names = ", ".join(str(file.relative_to(path)) for file in files)
                raise UsageError(f"--data {path}: got {names}, expected one of them")
            return files
    return []


def _content(file: Path) -> Record:
    """Returns what a file holds, its categories in the order of their ids."""
    try:
        content = json.loads(file.read_bytes(), object_hook=_without_masks)
        categories = sorted(content["categories"], key=lambda category: category["id"])
        named = [{**category, "name": str(category["name"])} for category in categories]
        images = [{"id": image["id"], "file_name": str(image["file_name"])} for image in content["images"]]
        return {"categories": named, "images": images, "annotations": list(content["annotations"])}
    except MALFORMED as error:
        raise UsageError(f"{file}: not a file of COCO's form: {_said(error)}") from None


def _said(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else first_line(error)


def _without_masks(record: dict[str, Any]) -> dict[str, Any]:
    """Leaves out the outlines of objects, most of a large file, as it is read."""
    record.pop("segmentation", None)
    return record


def _split(path: Path, file: Path, content: Record) -> DetectionSplit:
    folder = _folder(path, file, content["images"])
    for image in content["images"]:
        if not (folder / image["file_name"]).is_file():
            raise UsageError(f"{file}: image {image['id']}: there is no {folder / image['file_name']}")
    truth = _truth(file, content)
    files = read_files([folder / image["file_name"] for image in content["images"]])
    return DetectionSplit(files, truth, ("all",))


def _folder(path: Path, file: Path, images: Sequence[Record]) -> Path:
    """Returns the folder that the images' names start from: the first in which one is."""
    if not images:
        raise UsageError(f"{file}: got no images, expected one or more")
    part = file.stem.rpartition("_")[2]
    beside = [path / part, path / "images" / part, path / "images", path]
    folders = beside if file.parent.name == "annotations" else [file.parent]
    return next((folder for folder in folders if (folder / images[0]["file_name"]).is_file()), folders[0])


def _truth(file: Path, content: Record) -> Truth:
    images = {image["id"]: index for index, image in enumerate(content["images"])}
    categories = content["categories"]
    classes = {category["id"]: index for index, category in enumerate(categories)}
    lengths = {len(category.get("keypoints", ())) for category in categories}
    points = lengths.pop() if len(lengths) == 1 else 0
    rows: list[Row] = []
    for annotation in content["annotations"]:
        try:
            rows.append(_row(annotation, images, classes, points))
        except MALFORMED as error:
            name = annotation.get("id") if isinstance(annotation, dict) else annotation
            raise UsageError(f"{file}: annotation {name}: {_said(error)}") from None
    rows.sort(key=lambda row: row[0])
    return Truth(
        counts=np.bincount([row[0] for row in rows], minlength=len(images)).astype(np.int64),
        boxes=np.array([row[3] for row in rows], np.float32).reshape(-1, 4),
        classes=np.array([row[1] for row in rows], np.int64),
        counting=np.array([row[2] for row in rows], np.bool_).reshape(-1, 1),
        areas=np.array([row[4] for row in rows], np.float32),
        keypoints=np.array([row[5] for row in rows], np.float32).reshape(len(rows), 2 * points),
    )


def _row(annotation: Record, images: Mapping[int, int], classes: Mapping[int, int], points: int) -> Row:
    """Returns one object; raises one of `MALFORMED`."""
    image, category = annotation["image_id"], annotation["category_id"]
    if image not in images:
        raise ValueError(f"there is no image {image}")
    if category not in classes:
        raise ValueError(f"there is no category {category}")
    x, y, width, height = map(float, annotation["bbox"])
    if not (math.isfinite(x + y + width + height) and width >= 0 and height >= 0):
        raise ValueError(f"got bbox {annotation['bbox']}, expected x, y, and a width and a height of 0 or more")
    ignored = annotation.get("iscrowd") or annotation.get("ignore")
    counts = width * height > 0 and not ignored
    area = float(annotation.get("area", width * height))
    return images[image], classes[category], counts, [x, y, x + width, y + height], area, _points(annotation, points)


def _points(annotation: Record, points: int) -> list[float]:
    """Returns x and y of each key point, NaN where it is not annotated."""
    numbers = annotation.get("keypoints") or [0] * 3 * points
    if not points:
        return []
    if len(numbers) != 3 * points:
        raise ValueError(f"got {len(numbers)} numbers of key points, expected {3 * points}")
    return [float(v) if numbers[i - i % 3 + 2] else math.nan for i, v in enumerate(numbers) if i % 3 < 2]
