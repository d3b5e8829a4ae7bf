"""A run against a detector: files go out, AP of the boxes that come back is the manifest's."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from protos import images
from protos.manifest import Quality, from_json, to_json
from protos.preprocessing import normalise
from protos.repository import EvaluationSet, save_evaluation_set
from protos.tasks.boxes import Truth
from protos.tasks.table import TASKS
from tests.support import toy_detector
from tests.support.loadtest.runs import Run, flags, loadtest
from tests.support.serving import ServerProcess, serving
from tests.support.toy_detector import MODEL, VARIANT

OBJECTS = {(64, 64): 0, (128, 128): 1, (96, 128): 11, (64, 32): 2}
"""Red cells of an image of so many pixels (height, width)."""


def photograph(height: int, width: int, objects: int) -> tuple[bytes, list[tuple[float, ...]]]:
    """An image whose first cells are red, each a little less than the one before, and where those are."""
    cell = max(height, width) // 8
    pixels, boxes = np.zeros((height, width, 3), np.uint8), list[tuple[float, ...]]()
    for number in range(objects):
        top, left = number // (width // cell) * cell, number % (width // cell) * cell
        pixels[top : top + cell, left : left + cell, 0] = 250 - 5 * number
        boxes.append((left, top, left + cell, top + cell))
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue(), boxes


def repository(root: Path) -> Path:
    """The toy detector with a test split, one object of which nobody finds, and its quality on that."""
    toy_detector.repository(root)
    made = [photograph(*size, objects) for size, objects in OBJECTS.items()]
    files = np.empty(len(made), np.object_)
    files[:] = [file for file, _ in made]
    placed = [[*boxes, (0.0, 20.0, 30.0, 28.0)] if len(boxes) == 2 else boxes for _, boxes in made]
    corners = np.array([box for boxes in placed for box in boxes], np.float32)
    some, points = len(corners), np.full((len(corners), 2), np.nan, np.float32)
    counts, counting = np.array([len(boxes) for boxes in placed]), np.ones((some, 1), np.bool_)
    truth = Truth(counts, corners, np.zeros(some, np.int64), counting, np.full(some, 64, np.float32), points)
    named = {**truth.arrays(), "settings": np.array(["hard"])}
    path = root / MODEL / VARIANT / "manifest.json"
    manifest, task = from_json(path.read_text()), TASKS["detection"]
    fitted = np.stack([images.fit(images.read(file, "image"), manifest.preprocessing) for file in files])
    raw = toy_detector.raw(normalise(fitted, manifest.preprocessing))
    answers = task.answers(raw, files, manifest.preprocessing, manifest.decoding)
    ap = task.scores(answers, named)["ap"]
    assert 0.5 < ap < 1
    save_evaluation_set(root, MODEL, EvaluationSet("detection", files, named, answers))
    quality = Quality("ap", ap, "toy", len(files), parent=ap, fp32=ap, agreement=1.0)
    path.write_text(to_json(replace(manifest, quality=quality)))
    return root


def run(root: Path, server: ServerProcess, out: Path, *more: str) -> Run:
    short = ("--users", "2", "--duration", "0.3", "--warmup", "0.1", "--ceiling", "0.1")
    done = loadtest(*flags(server, root, out, "--model", MODEL, *short, *more))
    assert done.returncode == 0, done.stderr + done.stdout
    return Run(out, done.stdout, done.stderr, done.returncode, {})


def test_a_detector_is_loaded_with_files_and_judged_by_its_boxes(tmp_path: Path) -> None:
    root = repository(tmp_path / "models")
    with serving(root) as server:
        done = run(root, server, tmp_path / "files", "--check-accuracy", "--max-drop", "0.5")
        pixels = run(root, server, tmp_path / "pixels", "--form", "pixels", "--ceiling", "0")
    results = done.results
    (cell,), (checked,) = results["cells"], results["accuracy"]
    assert (results["plan"]["form"], results["inputs"], cell["failures"]) == ("jpeg", "golden", 0)
    assert (cell["facts"]["metric"], cell["facts"]["quality"]) == ("ap", checked["manifest_quality"])
    assert abs(checked["quality"] - checked["manifest_quality"]) <= 1e-6
    assert (checked["samples"], checked["flips"], checked["drop_interval"]) == (4, [], [0.0, 0.0])
    by_objects = [(each["level"], each["fewest"], each["most"]) for each in results["objects"]]
    assert by_objects == [(0, 0, 0), (1, 1, 3), (10, 11, 11)]
    assert all(each["samples"] and each["p50_ms"] > 0 for each in results["objects"])
    assert {"AP", f"{checked['quality']:.2%}"} <= {*done.stdout.split()}
    assert [each["failures"] for each in pixels.results["cells"]] == [0]
