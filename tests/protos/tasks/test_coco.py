"""COCO's average precision: by hand, by pycocotools, and by the same matches for weighted images."""

import numpy as np
import pytest

from protos.tasks.boxes import Detections, Truth
from protos.tasks.coco import coco_ap, weighted_ap

SQUARE = (0.0, 0.0, 50.0, 50.0)


def truth(
    *images: list[tuple[float, ...]], classes: list[int] | None = None, counting: list[bool] | None = None
) -> Truth:
    boxes = np.array([box for image in images for box in image], np.float32).reshape(-1, 4)
    return Truth(
        counts=np.array([len(image) for image in images]),
        boxes=boxes,
        classes=np.zeros(len(boxes), np.int64) if classes is None else np.array(classes),
        counting=np.ones((len(boxes), 1), np.bool_) if counting is None else np.array(counting)[:, None],
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
        keypoints=np.zeros((len(boxes), 0), np.float32),
    )


def found(*images: list[tuple[float, ...]], scores: list[float], classes: list[int] | None = None) -> Detections:
    there = truth(*images, classes=classes)
    return Detections(there.counts, there.boxes, there.classes, np.array(scores, np.float32), there.keypoints)


def shifted(box: tuple[float, ...], by: float) -> tuple[float, ...]:
    return (box[0] + by, box[1], box[2] + by, box[3])


def random_case() -> tuple[Detections, Truth]:
    """30 images of three classes: some objects do not count, are missed, are found twice or beside their place."""
    random = np.random.default_rng(0)
    counts = random.integers(0, 6, 30)
    corners, sides = random.uniform(0, 400, (counts.sum(), 2)), random.uniform(10, 150, (counts.sum(), 2))
    boxes = np.concatenate([corners, corners + sides], axis=1)
    classes = random.integers(0, 3, len(boxes))
    there = truth(
        *([tuple(box) for box in image] for image in np.split(boxes, np.cumsum(counts)[:-1])),
        classes=classes.tolist(),
        counting=(random.random(len(boxes)) > 0.2).tolist(),
    )
    parts = []
    for image in range(len(there)):
        rows = random.integers(0, max(there.counts[image], 1), 2 * there.counts[image])
        beside = there.of(image).boxes[rows] + random.normal(0, 6, (len(rows), 4))
        scores = np.sort(random.random(len(rows)))[::-1]
        named = random.choice([0, 1, 2], len(rows), p=[0.6, 0.2, 0.2])
        labels = np.where(named == 0, there.of(image).classes[rows], named)
        parts.append(found([tuple(box) for box in beside], scores=scores.tolist(), classes=labels.tolist()))
    return Detections.joined(parts), there


def test_average_precision_worked_out_by_hand() -> None:
    """Right, wrong, right: precision is 1 at the 51 recalls up to 1/2, and 2/3 at the other 50."""
    there = truth([SQUARE, shifted(SQUARE, 100)], [])
    ours = found([SQUARE, shifted(SQUARE, 300), shifted(SQUARE, 100)], [], scores=[0.9, 0.8, 0.7])
    expected = (51 + 50 * 2 / 3) / 101
    assert coco_ap(ours, there) == pytest.approx(dict.fromkeys(["ap", "ap50", "ap75", "ap_medium"], expected))


def test_the_mean_is_over_ten_ious() -> None:
    """50 x 50 pixels moved by 10 overlap by 40/60: right at .5, .55, .6 and .65."""
    scores = coco_ap(found([shifted(SQUARE, 10)], scores=[0.9]), truth([SQUARE]))
    assert scores == pytest.approx({"ap": 0.4, "ap50": 1, "ap75": 0, "ap_medium": 0.4})


def test_the_mean_is_over_the_classes_that_are_there() -> None:
    there = truth([SQUARE, SQUARE], classes=[3, 7])
    ours = found([SQUARE, SQUARE], scores=[0.9, 0.8], classes=[3, 5])
    assert coco_ap(ours, there)["ap"] == pytest.approx(0.5)


def test_objects_are_small_medium_and_large_by_their_area() -> None:
    there = truth([(0, 0, 31, 31), (100, 0, 195, 95), (300, 0, 397, 97)])
    ours = found([(0, 0, 31, 31), (300, 0, 397, 97)], scores=[0.9, 0.8])
    scores = coco_ap(ours, there)
    assert [scores[f"ap_{size}"] for size in ("small", "medium", "large")] == pytest.approx([1, 0, 1])


def test_boxes_of_an_object_that_does_not_count_change_nothing() -> None:
    squares = [SQUARE, shifted(SQUARE, 100)]
    there = truth(squares, counting=[True, False])
    ours = found([*squares, (110, 0, 140, 50)], scores=[0.5, 0.9, 0.8])
    assert coco_ap(ours, there) == coco_ap(found([SQUARE], scores=[0.5]), truth([SQUARE]))
    assert weighted_ap(ours, there)(np.ones((1, 1), np.int64)).tolist() == [1]


def test_more_than_100_boxes_of_an_image_and_class_are_left_out() -> None:
    boxes = [shifted(SQUARE, 1000)] * 100 + [SQUARE]
    ours = found(boxes, scores=np.linspace(0.9, 0.1, 101).tolist())
    assert coco_ap(ours, truth([SQUARE]))["ap"] == 0


@pytest.mark.parametrize("there", [truth([], []), truth([SQUARE], [], counting=[False])])
def test_where_no_object_counts_there_is_no_figure(there: Truth) -> None:
    ours = found([SQUARE], [SQUARE], scores=[0.9, 0.8])
    assert coco_ap(ours, there) == {}
    assert np.isnan(weighted_ap(ours, there)(np.ones((3, 2), np.int64))).tolist() == [True] * 3


def test_without_boxes_nothing_is_found() -> None:
    assert coco_ap(found([], scores=[]), truth([SQUARE])) == {"ap": 0, "ap50": 0, "ap75": 0, "ap_medium": 0}


def test_images_that_count_once_give_what_pycocotools_gives() -> None:
    ours, there = random_case()
    expected = coco_ap(ours, there)["ap"]
    assert 0.1 < expected < 0.9
    assert weighted_ap(ours, there)(np.ones((1, len(there)), np.int64))[0] == pytest.approx(expected, abs=1e-9)


def test_images_that_count_several_times_are_as_so_many_of_them() -> None:
    ours, there = random_case()
    drawn = np.sort(np.random.default_rng(1).integers(0, len(there), (4, len(there))), axis=1)
    weights = np.stack([np.bincount(sample, minlength=len(there)) for sample in drawn])
    expected = [coco_ap(ours.take(sample), there.take(sample))["ap"] for sample in drawn]
    np.testing.assert_allclose(weighted_ap(ours, there)(weights), expected, atol=1e-9)
