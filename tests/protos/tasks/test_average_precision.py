"""WIDER FACE's average precision by construction, and the bootstrap over images."""

import numpy as np
import pytest
from numpy.typing import NDArray

from protos.tasks import average_precision
from protos.tasks.average_precision import paired_bootstrap, wider_ap
from protos.tasks.boxes import Detections, Truth

SETTINGS = ("easy", "medium", "hard")


def truth(counts: tuple[int, ...] = (3, 1, 0, 4), seed: int = 0) -> Truth:
    """Objects of two classes that do not touch: the last of each image counts in hard only, its first in all."""
    total, random = sum(counts), np.random.default_rng(seed)
    place = np.concatenate([np.arange(count) for count in counts])
    last = place == np.repeat(counts, counts) - 1
    corners = np.stack([100.0 * place, random.uniform(0, 50, total)], axis=1)
    sides = random.uniform(20, 60, (total, 2))
    return Truth(
        counts=np.array(counts),
        boxes=np.concatenate([corners, corners + sides], axis=1).astype(np.float32),
        classes=place % 2,
        counting=np.stack([place == 0, (place == 0) | ~last, np.ones(total, np.bool_)], axis=1),
        areas=sides.prod(axis=1).astype(np.float32),
        keypoints=np.zeros((total, 0), np.float32),
    )


def finds(there: Truth, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> Detections:
    """Boxes that are those of the objects at `rows`, in each image the best first."""
    images = np.repeat(np.arange(len(there)), there.counts)[rows]
    order = np.lexsort([-scores, images])
    return Detections(
        counts=np.bincount(images, minlength=len(there)),
        boxes=there.boxes[rows[order]],
        classes=there.classes[rows[order]],
        scores=scores[order].astype(np.float32),
        keypoints=np.zeros((len(rows), 0), np.float32),
    )


def perfect(there: Truth) -> Detections:
    return finds(there, np.arange(len(there.boxes)), np.linspace(0.9, 0.1, len(there.boxes)))


def moved(found: Detections, boxes: NDArray[np.float32]) -> Detections:
    return Detections.of_arrays({**found.arrays(), "boxes": boxes})


def test_perfect_boxes_have_1_in_every_setting() -> None:
    there = truth()
    assert wider_ap(perfect(there), there).tolist() == [1, 1, 1]
    scores = average_precision.scores(perfect(there), there, SETTINGS)
    assert scores == {"ap": 1, "ap_easy": 1, "ap_medium": 1, "ap_hard": 1}


def test_a_duplicate_of_every_box_lowers_precision_and_not_recall() -> None:
    there = truth((2,))
    rows, scores = np.array([0, 0, 1, 1]), np.array([1, 0.9, 0.8, 0.7])
    assert wider_ap(finds(there, rows, scores), there)[2] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert wider_ap(finds(there, rows[:3], scores[:3]), there)[2] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert wider_ap(finds(there, np.array([0, 1, 0, 1]), scores), there)[2] == 1  # all recalled before the first


def test_boxes_of_objects_that_do_not_count_change_nothing() -> None:
    there = truth()
    counting = np.flatnonzero(there.counting[:, 0])
    few = finds(there, counting, np.linspace(1, 0.1, len(counting)))
    others = np.flatnonzero(~there.counting[:, 0])
    scores = np.concatenate([np.linspace(1, 0.1, len(counting)), np.full(len(others), 0.5)])
    more = finds(there, np.concatenate([counting, others]), scores)
    assert wider_ap(more, there)[0] == wider_ap(few, there)[0] == 1
    assert wider_ap(few, there)[2] < 1


def test_boxes_cut_below_an_iou_of_a_half_are_worth_nothing() -> None:
    there = truth()
    cut = there.boxes.copy()
    cut[:, 2] = cut[:, 0] + (cut[:, 2] - cut[:, 0]) * 0.4
    assert wider_ap(moved(perfect(there), cut), there).tolist() == [0, 0, 0]


def test_a_pixel_is_added_to_each_side() -> None:
    """Of boxes 9 x 9 and 4 x 9 in pixels the IoU is 4/9; with one added it is 50/100."""
    there = Truth.of_arrays({**truth((1,)).arrays(), "boxes": np.array([[0, 0, 9, 9]], np.float32)})
    for width, expected in ((4, 1), (3.99, 0)):
        found = moved(perfect(there), np.array([[0, 0, width, 9]], np.float32))
        assert wider_ap(found, there).tolist() == [expected] * 3


def test_precision_and_recall_worked_out_by_hand() -> None:
    """Right, wrong, right, wrong and one of four not found: the envelope is 1 up to 1/3, then 2/3 up to 2/3."""
    there = truth((3,))
    boxes = np.concatenate([there.boxes[[0]], there.boxes[[0]] + 500, there.boxes[[1]], there.boxes[[1]] + 500])
    found = Detections(
        counts=np.array([4]),
        boxes=boxes,
        classes=np.array([0, 0, 1, 1]),
        scores=np.array([0.9, 0.8, 0.7, 0.6], np.float32),
        keypoints=np.zeros((4, 0), np.float32),
    )
    assert wider_ap(found, there)[2] == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)


def test_a_box_of_another_class_is_wrong() -> None:
    there = truth((1,))
    found = Detections.of_arrays({**perfect(there).arrays(), "classes": 1 - there.classes})
    assert wider_ap(found, there).tolist() == [0, 0, 0]


def test_scores_of_all_images_are_scaled_together() -> None:
    there, linear = truth(), perfect(truth())
    rising = Detections.of_arrays({**linear.arrays(), "scores": linear.scores / 100 + np.float32(0.5)})
    wrong = there.boxes.copy()
    wrong[::2] += 500
    assert wider_ap(moved(rising, wrong), there).tolist() == wider_ap(moved(linear, wrong), there).tolist()


def test_equal_scores_are_one_threshold() -> None:
    there = truth((2,))
    found = finds(there, np.array([0, 0, 1, 1]), np.full(4, 0.5))
    assert wider_ap(found, there)[2] == 0.5


def test_scores_between_two_thresholds_are_one() -> None:
    """Right, right, wrong: 0.5 is a threshold, so the last two come together, and precision ends at 2/3."""
    there = truth((2,))
    found = finds(there, np.array([0, 1, 0, 0]), np.array([1, 0.5001, 0.5, 0]))
    assert wider_ap(found, there)[2] == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def test_boxes_in_an_image_without_objects_are_not_wrong() -> None:
    there = truth((2, 0))
    found = Detections.joined([perfect(there.of(0)), perfect(truth((1,)))])
    assert wider_ap(found, there).tolist() == [1, 1, 1]


def test_without_boxes_nothing_is_found() -> None:
    there = truth()
    none = finds(there, np.zeros(0, np.int64), np.zeros(0))
    assert average_precision.scores(none, there, SETTINGS)["ap"] == 0
    assert paired_bootstrap(none, none, there, SETTINGS) == ((0, 0), (0, 0))


def test_a_setting_in_which_no_object_counts_has_no_figure() -> None:
    there = truth()
    hard = Truth.of_arrays({**there.arrays(), "counting": there.counting & np.array([False, False, True])})
    assert average_precision.scores(perfect(there), hard, SETTINGS) == {"ap": 1, "ap_hard": 1}
    assert paired_bootstrap(perfect(there), perfect(there), hard, SETTINGS) == ((1, 1), (0, 0))


@pytest.mark.parametrize("settings", [SETTINGS, ("all",)])
def test_where_no_object_counts_there_is_neither_figure_nor_interval(settings: tuple[str, ...]) -> None:
    there = truth()
    none = Truth.of_arrays({**there.arrays(), "counting": np.zeros((len(there.boxes), len(settings)), np.bool_)})
    assert average_precision.scores(perfect(there), none, settings) == {}
    assert paired_bootstrap(perfect(there), perfect(there), none, settings) == (None, None)


@pytest.mark.parametrize("settings", [SETTINGS, ("all",)])
def test_the_bootstrap_tells_a_detector_that_misses_half_from_one_that_misses_nothing(
    settings: tuple[str, ...],
) -> None:
    there = truth((2, 4, 0, 2, 3) * 4)
    there = Truth.of_arrays({**there.arrays(), "counting": there.counting[:, -len(settings) :]})
    full = perfect(there)
    half = finds(there, np.arange(0, len(there.boxes), 2), np.linspace(0.9, 0.1, (len(there.boxes) + 1) // 2))
    assert paired_bootstrap(full, full, there, settings)[1] == (0, 0)
    intervals = interval, drop = paired_bootstrap(half, full, there, settings)
    assert interval is not None
    assert drop is not None
    ours, theirs = (average_precision.scores(each, there, settings)["ap"] for each in (half, full))
    assert interval[0] < ours < interval[1]
    assert 0 < drop[0] < theirs - ours < drop[1]
    assert paired_bootstrap(half, full, there, settings) == intervals


def test_of_one_image_the_interval_is_the_drop_itself() -> None:
    there = truth((2,))
    half = finds(there, np.array([0]), np.array([0.5]))
    assert paired_bootstrap(half, perfect(there), there, ("all",))[1] == pytest.approx((0.5, 0.5), abs=0.01)


def test_an_image_that_counts_twice_is_as_two_of_it() -> None:
    there = truth()
    wrong = there.boxes.copy()
    wrong[::3] += 500
    found, images = moved(perfect(there), wrong), np.array([0, 0, 1, 2, 3])
    weighted = average_precision.WiderImages(found, there).ap(np.array([[2, 1, 1, 1]]))[0]
    np.testing.assert_allclose(weighted, wider_ap(found.take(images), there.take(images)), atol=1e-12)
