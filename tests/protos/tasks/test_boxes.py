"""Boxes of many images in flat arrays: taken, joined and stored without mixing up whose they are."""

from dataclasses import fields

import numpy as np
import pytest

from protos.tasks.boxes import Detections, Truth

FOUND = Detections(
    counts=np.array([2, 0, 1]),
    boxes=np.arange(12, dtype=np.float32).reshape(3, 4),
    classes=np.array([5, 6, 7]),
    scores=np.array([0.9, 0.8, 0.7], np.float32),
    keypoints=np.zeros((3, 0), np.float32),
)


@pytest.mark.parametrize(
    ("images", "counts", "classes"),
    [
        ([0, 1, 2], [2, 0, 1], [5, 6, 7]),
        ([2, 0], [1, 2], [7, 5, 6]),
        ([2, 1, 2], [1, 0, 1], [7, 7]),
        ([1], [0], []),
        ([], [], []),
    ],
)
def test_images_are_taken_in_the_order_asked_for(images: list[int], counts: list[int], classes: list[int]) -> None:
    taken = FOUND.take(np.array(images, np.int64))
    assert (taken.counts.tolist(), taken.classes.tolist()) == (counts, classes)
    assert taken.boxes[:, 0].tolist() == [4 * (one - 5) for one in classes]
    assert taken.keypoints.shape == (len(classes), 0)


def test_images_taken_one_by_one_are_all_of_them_when_joined() -> None:
    joined = Detections.joined([FOUND.of(image) for image in range(3)])
    assert all(np.array_equal(joined.arrays()[name], array) for name, array in FOUND.arrays().items())


def test_stored_arrays_make_the_same_boxes_again() -> None:
    again = Detections.of_arrays({**FOUND.arrays(), "settings": np.array(["all"])})
    assert all(np.array_equal(again.arrays()[name], array) for name, array in FOUND.arrays().items())


def test_a_missing_array_is_named() -> None:
    with pytest.raises(KeyError, match="counting"):
        Truth.of_arrays(FOUND.arrays())
    assert {field.name for field in fields(Truth)} - FOUND.arrays().keys() == {"counting", "areas"}


def test_boxes_that_are_kept_stay_in_their_images() -> None:
    boxes = Truth(
        counts=np.array([2, 0, 1]),
        boxes=np.arange(12, dtype=np.float32).reshape(3, 4),
        classes=np.array([5, 6, 7]),
        counting=np.ones((3, 1), np.bool_),
        areas=np.ones(3, np.float32),
        keypoints=np.zeros((3, 0), np.float32),
    )
    kept = boxes.where(np.array([False, True, True]))
    assert (kept.counts.tolist(), kept.classes.tolist()) == ([1, 0, 1], [6, 7])
    assert boxes.where(np.zeros(3, np.bool_)).counts.tolist() == [0, 0, 0]
