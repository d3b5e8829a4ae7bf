"""From raw outputs to an answer: boxes in the pixels of each image as it was sent."""

from dataclasses import replace

import numpy as np
import pytest

from protos.manifest import Decoding, Preprocessing
from protos.tasks.boxes import Array, Detections
from protos.tasks.detect import detect

LETTERBOX = Preprocessing((64, 64), (0.5,) * 3, (0.5,) * 3, "NCHW", "letterbox")
DECODING = Decoding("detections", score_threshold=0.5)
"""Rows of corners, score and class: what comes out is what went in, apart from what `detect` does."""


def rows(*images: list[tuple[float, ...]]) -> dict[str, Array]:
    """The one output [N, n, 6], filled with boxes of score 0."""
    longest = max(len(image) for image in images)
    return {"o": np.array([image + [(0.0,) * 6] * (longest - len(image)) for image in images], np.float32)}


def answered(
    outputs: dict[str, Array], sizes: list[tuple[int, int]] | None, decoding: Decoding = DECODING
) -> Detections:
    return detect(outputs, decoding, LETTERBOX, None if sizes is None else np.array(sizes, np.int64).reshape(-1, 2))


def suppressible(corners: list[tuple[float, ...]], scores: list[float]) -> tuple[dict[str, Array], Decoding]:
    outputs: dict[str, Array] = {"boxes": np.array([corners], np.float32), "scores": np.array([scores], np.float32)}
    return outputs, replace(DECODING, decoder="boxes-scores")


def test_each_image_gets_boxes_in_its_own_pixels() -> None:
    box = (8.0, 4.0, 16.0, 12.0, 0.75, 2.0)
    found = answered(rows([box], [box], [box]), [(128, 96), (32, 64), (64, 64)])
    assert found.boxes.tolist() == [[16, 8, 32, 24], [8, 4, 16, 12], [8, 4, 16, 12]]
    assert (found.counts.tolist(), found.classes.tolist()) == ([1, 1, 1], [2, 2, 2])


def test_a_stretched_image_has_a_scale_for_each_side() -> None:
    outputs, stretched = rows([(8, 4, 16, 12, 0.75, 0)]), replace(LETTERBOX, fit="stretch")
    assert detect(outputs, DECODING, stretched, np.array([[32, 128]])).boxes.tolist() == [[16, 2, 32, 6]]


def test_the_scale_is_that_of_the_whole_pixels_that_an_image_fills() -> None:
    """An image of 3 x 100 fills 2 rows of 64: its lower edge is at 2, not at 1.92."""
    found = answered(rows([(0, 0, 64, 2, 0.75, 0)]), [(3, 100)])
    assert found.boxes.tolist() == [[0, 0, 100, 3]]


def test_without_sizes_boxes_are_in_pixels_of_the_input() -> None:
    assert answered(rows([(8, 4, 16, 99, 0.75, 0)]), None).boxes.tolist() == [[8, 4, 16, 64]]


def test_boxes_are_cut_to_the_image_and_left_out_where_nothing_of_them_is_in_it() -> None:
    inside, below = (-9.0, 30.0, 70.0, 50.0, 0.75, 0.0), (0.0, 33.0, 9.0, 50.0, 0.75, 0.0)
    found = answered(rows([inside, below]), [(32, 64)])
    assert found.boxes.tolist() == [[0, 30, 64, 32]]


def test_key_points_are_cut_to_the_image_too() -> None:
    output = np.array([[[8], [8], [8], [8], [0.75], [-3], [9], [1], [70], [70], [1]]], np.float32)
    found = answered({"o": output}, [(128, 128)], replace(DECODING, decoder="ultralytics", keypoints=2))
    assert (found.boxes.tolist(), found.keypoints.tolist()) == ([[8, 8, 24, 24]], [[0, 18, 128, 128]])


def test_the_score_threshold_is_inclusive_in_single_precision() -> None:
    found = answered(rows([(0, 0, 9, 9, 0.7, 0), (0, 0, 9, 9, 0.69, 0)]), None, replace(DECODING, score_threshold=0.7))
    assert found.scores.tolist() == [np.float32(0.7)]


def test_the_best_boxes_stay_where_there_are_too_many() -> None:
    many = [(0.0, 0.0, 9.0, 9.0, score, 0.0) for score in (0.6, 0.9, 0.7, 0.8)]
    found = answered(rows(many, many[:1]), None, replace(DECODING, max_detections=2))
    assert (found.counts.tolist(), found.scores.tolist()) == ([2, 1], [*np.float32([0.9, 0.8]), np.float32(0.6)])


def test_boxes_that_overlap_by_more_than_the_threshold_are_suppressed() -> None:
    outputs, decoding = suppressible([(0, 0, 4, 4), (0, 0, 4, 2)], [0.75, 0.875])
    for threshold, scores in ((0.5, [0.875, 0.75]), (0.4, [0.875])):
        found = answered(outputs, None, replace(decoding, iou_threshold=threshold))
        assert found.scores.tolist() == scores


def test_what_the_network_has_suppressed_stays_as_it_is() -> None:
    same = [(0.0, 0.0, 9.0, 9.0, 0.9, 0.0)] * 2
    assert answered(rows(same), None).counts.tolist() == [2]


def test_boxes_of_one_image_do_not_suppress_those_of_another() -> None:
    outputs, decoding = suppressible([(0, 0, 9, 9)], [0.9])
    both = {name: np.concatenate([array, array]) for name, array in outputs.items()}
    assert answered(both, None, decoding).counts.tolist() == [1, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 3, 4])
def test_a_box_with_a_corner_or_score_that_is_not_finite_is_left_out(bad: float, place: int) -> None:
    corrupt = [1.0, 1.0, 9.0, 9.0, 0.9, 0.0]
    corrupt[place] = bad
    found = answered(rows([tuple(corrupt), (0, 0, 4, 4, 0.8, 0)]), [(64, 64)])
    assert found.boxes.tolist() == [[0, 0, 4, 4]]


def test_images_in_which_nothing_was_found_have_no_boxes() -> None:
    found = answered(rows([(0, 0, 9, 9, 0.1, 0)], []), [(10, 20), (20, 10)])
    assert (found.counts.tolist(), found.boxes.shape, found.keypoints.shape) == ([0, 0], (0, 4), (0, 0))


def test_no_image_has_no_answer() -> None:
    found = answered({"o": np.zeros((0, 3, 6), np.float32)}, [])
    assert (found.counts.tolist(), found.boxes.shape, found.counts.dtype) == ([], (0, 4), np.int64)


def test_outputs_of_another_number_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="decoder 'detections': got outputs of 1 images, expected 2"):
        answered(rows([(0, 0, 9, 9, 0.9, 0)]), [(64, 64), (64, 64)])
