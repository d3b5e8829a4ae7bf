"""WIDER FACE in its own layout: http://shuoyang1213.me/WIDERFACE, one class, settings easy, medium and hard.

    WIDER_train/images/EVENT/*.jpg    wider_face_split/wider_face_train_bbx_gt.txt
    WIDER_val/images/EVENT/*.jpg      wider_face_split/wider_face_val_bbx_gt.txt
    ground_truth/wider_{easy,medium,hard}_val.mat

An annotation file has, for each image: its path, its number of faces, and a line for each face, x y width height blur
expression illumination invalid occlusion pose. An image without faces has one line of zeros. The MATLAB files, which
may be missing, say which faces of the validation images, numbered from 1, count in a setting. In the training images,
and without those files, a face counts by its height, unless it is marked invalid or has no area.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressors.data.detection import BY_HEIGHT, DetectionParts, DetectionSplit, by_height, divided, read_files
from compressors.progress import first_line, say
from protos.errors import UsageError
from protos.tasks.boxes import Truth

PARTS = ("train", "val")
COLUMNS, INVALID = 10, 7
"""Numbers of a face, and which of them says that it is invalid."""

Faces = dict[str, NDArray[np.float32]]
"""EVENT/NAME.jpg to its faces (M, 10)."""


def annotations(path: Path) -> list[Path]:
    """Returns the annotation files of training and validation images, those of them that are there."""
    files = (path / "wider_face_split" / f"wider_face_{part}_bbx_gt.txt" for part in PARTS)
    return [file for file in files if file.is_file()]


def read(path: Path, seed: int) -> DetectionParts:
    """Reads WIDER's folder; where it has only one of the two parts, a third of it is the test split.

    Raises `UsageError` for annotations of another form and for an image that a server would refuse.
    """
    splits = [_split(path, file) for file in annotations(path)]
    return DetectionParts(*divided(splits, seed), ("face",))


def _split(path: Path, file: Path) -> DetectionSplit:
    part = file.name.split("_")[2]
    folder = path / f"WIDER_{part}" / "images"
    faces = _faces(file)
    there = {name: rows for name, rows in faces.items() if (folder / name).is_file()}
    if not there:
        raise UsageError(f"{file}: none of its {len(faces)} images is in {folder}")
    if missing := len(faces) - len(there):
        say(f"{file}: {missing} of {len(faces)} images are not in {folder} and are left out")
    rows = np.concatenate([*there.values()])
    boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
    areas = rows[:, 2] * rows[:, 3]
    counting = by_height(boxes) & ((rows[:, INVALID] == 0) & (areas > 0))[:, None]
    if part == "val" and (lists := _lists(path / "ground_truth")):
        counting = np.stack([_listed(file, there) for file in lists], axis=1)
    truth = Truth(
        counts=np.array([len(rows) for rows in there.values()]),
        boxes=boxes,
        classes=np.zeros(len(rows), np.int64),
        counting=counting,
        areas=areas,
        keypoints=np.zeros((len(rows), 0), np.float32),
    )
    return DetectionSplit(read_files([folder / name for name in there]), truth, tuple(BY_HEIGHT))


def _faces(file: Path) -> Faces:
    lines = [line.strip() for line in file.read_text(errors="replace").splitlines() if line.strip()]
    starts = [index for index, line in enumerate(lines) if "/" in line]  # a path; all other lines are numbers
    if not starts:
        raise UsageError(f"{file}: got no line EVENT/NAME.jpg, expected one for each image")
    return {lines[start]: _rows(file, lines[start:end]) for start, end in pairwise([*starts, len(lines)])}


def _rows(file: Path, lines: Sequence[str]) -> NDArray[np.float32]:
    """Returns the faces (M, 10) of one image, of which `lines` are all."""
    name, *rest = lines
    try:
        count = int(rest[0])
        rows = np.array([row.split() for row in rest[1:]], np.float32).reshape(-1, COLUMNS)
    except (IndexError, ValueError):
        raise UsageError(f"{file}: {name}: expected a number of faces, then {COLUMNS} numbers for each") from None
    if len(rows) != count and not (count == 0 and not rows.any()):
        raise UsageError(f"{file}: {name}: got {len(rows)} faces, expected {count}")
    return rows[:count]


def _lists(folder: Path) -> list[Path]:
    """Returns the files that say which faces count in each setting, or none where one is missing."""
    files = [folder / f"wider_{setting}_val.mat" for setting in BY_HEIGHT]
    if all(file.is_file() for file in files):
        return files
    edges = ", ".join(f"{name} from {height} px" for name, height in BY_HEIGHT.items())
    say(f"{folder}: got no wider_{{easy,medium,hard}}_val.mat, so faces count by their height: {edges}")
    return []


def _listed(file: Path, faces: Faces) -> NDArray[np.bool_]:
    """Returns whether each face of `faces` counts (M,), by the numbers in a MATLAB file."""
    try:
        numbers = _numbers(file)
    except Exception as error:  # a damaged file raises whatever its reader stumbled over
        raise UsageError(f"{file}: not one of WIDER's MATLAB files: {first_line(error)}") from None
    parts = []
    for image, rows in faces.items():
        if image not in numbers or (numbers[image] >= len(rows)).any():
            raise UsageError(f"{file}: {image}: got other faces than the {len(rows)} that are annotated")
        parts.append(np.isin(np.arange(len(rows)), numbers[image]))
    return np.concatenate(parts)


def _numbers(file: Path) -> dict[str, NDArray[np.int64]]:
    """Returns the faces that count in each image, numbered from 0; MATLAB numbers them from 1."""
    from scipy.io import loadmat

    listed, numbers = loadmat(file), {}
    for event, names, faces in zip(listed["event_list"], listed["file_list"], listed["gt_list"], strict=True):
        for name, counting in zip(names[0], faces[0], strict=True):
            numbers[f"{event[0][0]}/{name[0][0]}.jpg"] = counting[0].ravel().astype(np.int64) - 1
    return numbers
