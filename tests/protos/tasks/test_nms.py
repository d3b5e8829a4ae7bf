"""Suppression: the best box of a class stays, and OpenCV and NumPy agree to the last index."""

import importlib.util

import numpy as np
import pytest
from numpy.typing import NDArray

from protos.tasks import nms as module
from protos.tasks.nms import BLOCK, Backend, by_numpy, by_opencv, nms

needs_opencv = pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="OpenCV is optional")
BACKENDS = [by_numpy, pytest.param(by_opencv, marks=needs_opencv)]


def boxes(*corners: tuple[float, float, float, float]) -> NDArray[np.float32]:
    return np.array(corners, np.float32).reshape(-1, 4)


def stay(corners: NDArray[np.float32], scores: list[float], classes: list[int], threshold: float = 0.4) -> list[int]:
    return nms(corners, np.array(scores, np.float32), np.array(classes, np.int64), threshold).tolist()


@needs_opencv
@pytest.mark.parametrize("count", [1, 2, BLOCK, BLOCK + 1, 400])
@pytest.mark.parametrize("whole", [True, False])
def test_both_implementations_give_the_same_indices(count: int, whole: bool) -> None:
    """Whole numbers as corners make many IoUs that are exactly a threshold; float32 has 0.45 and 0.7 a little below."""
    for seed in range(12):
        random = np.random.default_rng(seed)
        corners = random.uniform(0, 40, (count, 2))
        made = np.concatenate([corners, corners + random.uniform(1, 30, (count, 2))], axis=1)
        made = (made.round() if whole else made).astype(np.float32)
        made[1::7] = made[::7][: len(made[1::7])]  # the same box twice
        for threshold in (0.0, 0.4, 0.45, 0.5, 0.7, 1.0):
            assert by_opencv(made, threshold).tolist() == by_numpy(made, threshold).tolist()


@needs_opencv
def test_opencv_is_taken_where_it_is_installed() -> None:
    assert module.backend() is by_opencv


@pytest.mark.parametrize("implementation", BACKENDS)
def test_only_more_than_the_threshold_suppresses(implementation: Backend) -> None:
    for width, threshold in ((5, 0.5), (7, 0.7), (4, 0.4)):
        pair = boxes((0, 0, 10, 4), (0, 0, width, 4))
        assert implementation(pair, threshold).tolist() == [0, 1]
        assert implementation(pair, threshold - 0.001).tolist() == [0]


@pytest.mark.parametrize("implementation", BACKENDS)
def test_what_is_suppressed_suppresses_nothing(implementation: Backend) -> None:
    chain = boxes(*((2 * i, 0, 2 * i + 6, 1) for i in range(2 * BLOCK)))  # IoU 1/2 with the next, 1/5 with its next
    assert implementation(chain, 0.4).tolist() == [*range(0, 2 * BLOCK, 2)]


def test_boxes_of_different_classes_do_not_meet() -> None:
    same = boxes((0, 0, 4, 4), (0, 0, 4, 4), (0, 0, 4, 4))
    assert stay(same, [0.5, 0.9, 0.7], [1, 3, 1]) == [1, 2]


def test_equal_scores_keep_their_order() -> None:
    assert stay(boxes((9, 9, 10, 10), (0, 0, 4, 4), (0, 0, 4, 4), (5, 5, 6, 6)), [0.5, 0.5, 0.5, 0.9], [0] * 4) == [
        3,
        0,
        1,
    ]


def test_boxes_without_area_go_and_suppress_nothing() -> None:
    flat = boxes((2, 2, 2, 5), (3, 0, 1, 4), (1, 1, 1, 1), (0, 0, 4, 4))
    assert stay(flat, [0.9, 0.8, 0.7, 0.6], [0] * 4) == [3]


def test_of_no_boxes_none_stay() -> None:
    assert stay(boxes(), [], []) == []
