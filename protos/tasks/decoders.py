"""Decoders: from the raw outputs of a detector to boxes, one function for each convention of outputs.

| decoder | outputs | boxes |
|---|---|---|
| `scrfd` | for each stride 8, 16, 32: score [N, n, C], bbox [N, n, 4], perhaps kps [N, n, 2P] | distances in strides |
| `ultralytics` | one [N, 4 + C + 3P, n] | centre, width, height in pixels |
| `yolov5` | one [N, n, 5 + C], the fifth value is the probability that there is any object | as the last |
| `boxes-scores` | boxes [N, n, 4] or [N, n, 1, 4], scores [N, n, C] or [N, n] | corners in pixels |
| `boxes-scores-normalized` | as the last | corners, 1 is the full side |
| `ssd` | as the last; the first class is the background | as the last |
| `detections` | NMS is in the network: one [N, n, 6], corners, score, class | corners in pixels |
| | or boxes [N, n, 4], scores [N, n], classes [N, n], perhaps num [N, 1] | as the last |

N is the batch, n the candidates, C the classes, P the key points; scores are probabilities, pixels those of the input,
corners x1, y1, x2, y2. One image may come without N. Each class with a score that is high enough makes a candidate of
its own. To add a convention, write a `Decoder` and its row in `DECODERS`.
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protos.tasks.boxes import Array

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Outputs = Mapping[str, Array]
STRIDES = (8, 16, 32)
"""Of the three levels of SCRFD."""
NONE = np.zeros((0, 0, 0), np.float32)


@dataclass(frozen=True)
class Candidates:
    """K boxes with a score that is high enough, of N images in one list."""

    batch: int
    """N."""
    images: Rows
    """The image of each box (K,)."""
    classes: Rows
    scores: Floats
    boxes: Floats
    """Corners in pixels of the input (K, 4)."""
    points: Floats
    """Key points in pixels of the input (K, 2P)."""
    suppressed: bool = False
    """Whether the network has done NMS."""


Decoder = Callable[[Outputs, tuple[int, int], int, np.float32], Candidates]
"""From outputs, (height, width) of the input, number of key points and least score; `ValueError` for other outputs."""


def scrfd(outputs: Outputs, size: tuple[int, int], keypoints: int, threshold: np.float32) -> Candidates:
    """Decodes SCRFD's outputs (https://arxiv.org/abs/2105.04714), told by names such as `bbox_16`, else by shapes.

    Without such names the last dimension is 1, 4 or 2P. Each position has two boxes, n is twice the positions.
    """
    kinds = ("score", "bbox", "kps") if keypoints else ("score", "bbox")
    positions = {stride: (size[0] // stride) * (size[1] // stride) for stride in STRIDES}
    found = {_scrfd_place(name, output, positions, keypoints): output for name, output in outputs.items()}
    widths, levels = {"bbox": 4, "kps": 2 * keypoints}, []
    for stride in STRIDES:
        level = [_floats(found.get((kind, stride), NONE), 3) for kind in kinds]
        batch, classes = len(level[0]), level[0].shape[-1]
        shapes = [(batch, 2 * positions[stride], widths.get(kind, classes)) for kind in kinds]
        if [output.shape for output in level] != shapes:
            wanted = " ".join(f"{kind}_{s}" for kind in kinds for s in STRIDES)
            raise _unfit("scrfd", outputs, f"{wanted} for {size[0]} x {size[1]} pixels and {keypoints} key points")
        levels.append(_scrfd_level(level, stride, size[1] // stride, threshold))
    images, classes, scores, boxes, points = (np.concatenate(part) for part in zip(*levels, strict=True))
    return Candidates(len(level[0]), images, classes, scores, boxes, points)


def _scrfd_place(name: str, output: Array, positions: Mapping[int, int], keypoints: int) -> tuple[str, int]:
    if named := re.search(r"(score|bbox|kps)_(8|16|32)$", name):
        return named[1], int(named[2])
    strides = {2 * count: stride for stride, count in positions.items()}
    kinds = {2 * keypoints: "kps", 1: "score", 4: "bbox"}
    count, width = output.shape[-2:] if output.ndim > 1 else (0, 0)
    return kinds.get(width, name), strides.get(count, 0)


def _scrfd_level(level: list[Floats], stride: int, across: int, threshold: np.float32) -> list[Array]:
    """Returns images, classes, scores, boxes, points. The centre of a position has no half-pixel offset."""
    images, rows, classes = _above(level[0], threshold)
    centres = np.stack([rows // 2 % across, rows // 2 // across], axis=1).astype(np.float32)
    distances, *offsets = (values[images, rows] for values in level[1:])
    boxes = np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], axis=1)
    points = offsets[0] + np.tile(centres, offsets[0].shape[1] // 2) if offsets else boxes[:, :0]
    return [images, classes, level[0][images, rows, classes], boxes * stride, points * stride]


def ultralytics(outputs: Outputs, size: tuple[int, int], keypoints: int, threshold: np.float32) -> Candidates:
    """Decodes one output [N, 4 + C + 3P, n]: boxes, scores, then x, y and visibility of each key point."""
    widths, expected = range(5 + 3 * keypoints, sys.maxsize), f"one of [N, 4 + classes + {3 * keypoints}, n]"
    output = _single("ultralytics", outputs, widths, 1, expected)
    end = output.shape[1] - 3 * keypoints
    images, classes, rows = _above(output[:, 4:end], threshold)
    points = output[images, end:, rows].reshape(len(rows), keypoints, 3)[..., :2].reshape(len(rows), 2 * keypoints)
    scores, boxes = output[images, 4 + classes, rows], _corners(output[images, :4, rows])
    return Candidates(len(output), images, classes, scores, boxes, points)


def yolov5(outputs: Outputs, size: tuple[int, int], keypoints: int, threshold: np.float32) -> Candidates:
    """Decodes one output [N, n, 5 + C]: box, probability of any object, and that of each class if there is one."""
    output = _single("yolov5", outputs, range(6, sys.maxsize), 2, "one of [N, n, 5 + classes]")
    _without_points("yolov5", keypoints)
    images, rows = np.nonzero(output[..., 4] >= threshold)
    chosen = output[images, rows]
    scores = chosen[:, 5:] * chosen[:, 4:5]
    some, classes = np.nonzero(scores >= threshold)
    boxes = _corners(chosen[some, :4])
    return Candidates(len(output), images[some], classes, scores[some, classes], boxes, boxes[:, :0])


def _boxes_scores(decoder: str, *, normalized: bool, background: bool) -> Decoder:
    def decode(outputs: Outputs, size: tuple[int, int], keypoints: int, threshold: np.float32) -> Candidates:
        boxes, scores = _boxes_and_scores(decoder, outputs)
        _without_points(decoder, keypoints)
        images, rows, classes = _above(scores[..., int(background) :], threshold)
        chosen = boxes[images, rows] * np.array(2 * size[::-1] if normalized else 1, np.float32)
        best = scores[images, rows, classes + background]
        return Candidates(len(boxes), images, classes, best, chosen, chosen[:, :0])

    return decode


def _boxes_and_scores(decoder: str, outputs: Outputs) -> tuple[Floats, Floats]:
    """The boxes have `box` in their name; where no name has it, their last dimension is 4."""
    names = [name for name in outputs if "box" in name.lower()] or [n for n in outputs if outputs[n].shape[-1:] == (4,)]
    if len(outputs) == 2 and len(names) == 1:
        boxes = outputs[names[0]]
        (scores,) = (output for name, output in outputs.items() if name != names[0])
        boxes = boxes[:, :, 0] if boxes.ndim == 4 and boxes.shape[2] == 1 else boxes
        scores = scores[..., None] if scores.shape == boxes.shape[:-1] else scores
        if boxes.shape[:-1] == scores.shape[:-1] and boxes.shape[-1:] == (4,) and boxes.ndim in (2, 3):
            return _floats(boxes, 3), _floats(scores, 3)
    raise _unfit(decoder, outputs, "boxes [N, n, 4] and scores [N, n, classes] or [N, n]")


def detections(outputs: Outputs, size: tuple[int, int], keypoints: int, threshold: np.float32) -> Candidates:
    """Decodes boxes that the network itself chose: one output [N, n, 6], or three or four with a telling name each.

    The names have `box`, `score` or `conf`, and `class`, `label` or `cls` in them; `num` the numbers of boxes, if any.
    """
    _without_points("detections", keypoints)
    boxes, scores, classes = _chosen_boxes(outputs)
    images, rows = np.nonzero(scores >= threshold)
    chosen = boxes[images, rows]
    labels, best = classes[images, rows].astype(np.int64), scores[images, rows]
    return Candidates(len(boxes), images, labels, best, chosen, chosen[:, :0], suppressed=True)


def _chosen_boxes(outputs: Outputs) -> tuple[Floats, Floats, Array]:
    """Returns boxes (N, n, 4), scores (N, n) and classes (N, n); the scores of rows that hold no box are -1."""
    expected = "one of [N, n, 6], or boxes [N, n, 4], scores [N, n], classes [N, n] and perhaps num [N, 1]"
    if len(outputs) == 1:
        output = _single("detections", outputs, range(6, 7), 2, expected)
        return output[..., :4], output[..., 4], output[..., 5]
    words = {"boxes": "box", "scores": "score|conf", "classes": "class|label|cls", "num": "num"}
    named = {kind: output for name, output in outputs.items() for kind in words if re.search(words[kind], name.lower())}
    if {"boxes", "scores", "classes"} - named.keys() or len(named) != len(outputs):
        raise _unfit("detections", outputs, expected)
    boxes, scores, classes = _floats(named["boxes"], 3), _floats(named["scores"], 2), np.atleast_2d(named["classes"])
    if boxes.shape != (*scores.shape, 4) or classes.shape != scores.shape:
        raise _unfit("detections", outputs, expected)
    filled = named["num"].reshape(-1, 1) if "num" in named else scores.shape[1]
    return boxes, np.where(np.arange(scores.shape[1]) < filled, scores, np.float32(-1)), classes


def _above(scores: Floats, threshold: np.float32) -> tuple[Rows, ...]:
    """Returns the indices of the scores that are high enough, one array for each dimension."""
    return np.unravel_index(np.flatnonzero(scores >= threshold), scores.shape)


def _corners(centred: Floats) -> Floats:
    """Turns centre, width and height into corners."""
    half = centred[:, 2:] / 2
    return np.concatenate([centred[:, :2] - half, centred[:, :2] + half], axis=1)


def _floats(output: Array, rank: int) -> Floats:
    """Returns `output` as float32, with a batch of one before it where it has a dimension less than `rank`."""
    floats = output.astype(np.float32, copy=False)
    return floats[None] if output.ndim == rank - 1 else floats


def _single(decoder: str, outputs: Outputs, widths: range, axis: int, expected: str) -> Floats:
    """Returns the one output, which has rank 3 and one of `widths` values along `axis`."""
    output = _floats(next(iter(outputs.values())), 3) if len(outputs) == 1 else NONE
    if output.ndim != 3 or output.shape[axis] not in widths:
        raise _unfit(decoder, outputs, expected)
    return output


def _without_points(decoder: str, keypoints: int) -> None:
    if keypoints:
        raise ValueError(f"decoder '{decoder}': got {keypoints} key points, expected 0: its outputs hold none")


def _unfit(decoder: str, outputs: Outputs, expected: str) -> ValueError:
    got = ", ".join(f"{name} {[*output.shape]}" for name, output in outputs.items())
    return ValueError(f"decoder '{decoder}': got outputs {got}, expected {expected}")


DECODERS: dict[str, Decoder] = {
    "scrfd": scrfd,
    "ultralytics": ultralytics,
    "yolov5": yolov5,
    "boxes-scores": _boxes_scores("boxes-scores", normalized=False, background=False),
    "boxes-scores-normalized": _boxes_scores("boxes-scores-normalized", normalized=True, background=False),
    "ssd": _boxes_scores("ssd", normalized=True, background=True),
    "detections": detections,
}
"""By the name that a manifest has."""
