"""Which objects were found, lost and gained, and how far two detectors agree."""

import numpy as np
import pytest

from protos.tasks.boxes import Detections, Truth
from protos.tasks.matching import agreement, object_flips, objects_found

A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)
HALF_OF_A, LESS_OF_A = (0, 0, 10, 5), (0, 0, 10, 4.9)
Box = tuple[float, ...]


def truth(*images: list[Box], counting: list[list[bool]] | None = None, classes: list[int] | None = None) -> Truth:
    boxes = np.array([box for image in images for box in image], np.float32).reshape(-1, 4)
    return Truth(
        counts=np.array([len(image) for image in images]),
        boxes=boxes,
        classes=np.zeros(len(boxes), np.int64) if classes is None else np.array(classes),
        counting=np.ones((len(boxes), 2), np.bool_) if counting is None else np.array(counting),
        areas=np.ones(len(boxes), np.float32),
        keypoints=np.zeros((len(boxes), 0), np.float32),
    )


def found(*images: list[Box], scores: list[float] | None = None, classes: list[int] | None = None) -> Detections:
    there = truth(*images, classes=classes)
    sure = np.full(len(there.boxes), 0.9, np.float32) if scores is None else np.array(scores, np.float32)
    return Detections(there.counts, there.boxes, there.classes, sure, there.keypoints)


def test_an_object_is_found_by_half_its_box_and_half_a_score() -> None:
    there = truth([A])
    assert objects_found(found([HALF_OF_A], scores=[0.5]), there).tolist() == [True]
    assert objects_found(found([LESS_OF_A]), there).tolist() == [False]
    assert objects_found(found([A], scores=[0.49]), there).tolist() == [False]


def test_an_object_is_found_in_its_own_image_by_its_own_class() -> None:
    there = truth([A, B], [A], classes=[0, 0, 1])
    assert objects_found(found([B], [A], classes=[0, 0]), there).tolist() == [False, True, False]


def test_lost_and_gained_objects_are_named_by_their_places() -> None:
    there = truth([A, B], [], [C, A])
    flips = object_flips(found([A], [], [A]), found([A, B], [], [C]), there)
    assert (flips.lost.tolist(), flips.gained.tolist()) == ([1, 2], [3])


def test_an_object_that_counts_in_no_setting_is_never_lost() -> None:
    there = truth([A, B], counting=[[False, False], [False, True]])
    flips = object_flips(found([]), found([A, B]), there)
    assert (flips.lost.tolist(), flips.gained.tolist()) == ([1], [])


def test_images_without_objects_have_no_flips() -> None:
    flips = object_flips(found([A], []), found([], [B]), truth([], []))
    assert (flips.lost.tolist(), flips.gained.tolist()) == ([], [])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (found([A, B], [C]), found([A, B], [C]), 1),
        (found([A, B], [C]), found([A], [B]), 2 / 5),
        (found([A]), found([A], classes=[1]), 0),
        (found([A]), found([LESS_OF_A]), 0),
        (found([A, B], scores=[0.9, 0.1]), found([HALF_OF_A]), 1),
        (found([A]), found([]), 0),
        (found([], []), found([], []), 1),
    ],
)
def test_agreement_is_the_share_of_all_boxes_that_the_other_has_too(
    one: Detections, other: Detections, expected: float
) -> None:
    assert agreement(one, other) == agreement(other, one) == expected
