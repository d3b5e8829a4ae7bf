"""Which annotated objects were found, and how far two detectors agree: what people see of boxes, at one threshold."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protos.tasks.boxes import Detections, Truth
from protos.tasks.overlap import iou

SCORE, IOU = 0.5, 0.5
"""Least score of a box that counts, and least overlap with what it is a box of."""


@dataclass(frozen=True)
class ObjectFlips:
    """Annotated objects that one detector finds and another does not, by their places in the truth's arrays."""

    lost: NDArray[np.int64]
    gained: NDArray[np.int64]


def objects_found(found: Detections, truth: Truth) -> NDArray[np.bool_]:
    """Returns for each annotated object (M,) whether a box of its class that counts overlaps it."""
    sure = _sure(found)
    there = [_overlapping(truth.of(i), sure.of(i)).any(axis=1) for i in range(len(truth))]
    return np.concatenate([np.zeros(0, np.bool_), *there])


def object_flips(found: Detections, reference: Detections, truth: Truth) -> ObjectFlips:
    """Returns the objects, of those that count in some setting, that only one of the two finds."""
    now, before = (objects_found(each, truth) for each in (found, reference))
    counting = truth.counting.any(axis=1)
    return ObjectFlips(np.flatnonzero(counting & before & ~now), np.flatnonzero(counting & now & ~before))


def agreement(found: Detections, reference: Detections) -> float:
    """Returns the share of the boxes of both, as far as they count, that have one of the other, from 0 to 1."""
    ours, theirs, met = _sure(found), _sure(reference), 0
    for image in range(len(found)):
        hits = _overlapping(ours.of(image), theirs.of(image))
        met += int(hits.any(axis=1).sum() + hits.any(axis=0).sum())
    every = len(ours.boxes) + len(theirs.boxes)
    return met / every if every else 1.0


def _sure(found: Detections) -> Detections:
    """Returns the boxes that count."""
    return found.where(found.scores >= SCORE)


def _overlapping(first: Truth | Detections, second: Truth | Detections) -> NDArray[np.bool_]:
    """Returns whether boxes of two lists, of one image, are of one class and overlap (A, B)."""
    overlap: NDArray[np.bool_] = iou(first.boxes, second.boxes) >= IOU
    same: NDArray[np.bool_] = first.classes[:, None] == second.classes
    return overlap & same
