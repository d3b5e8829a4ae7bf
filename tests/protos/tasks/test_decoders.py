"""Decoders: each convention of outputs gives boxes that were worked out by hand, and what does not fit is named."""

import numpy as np
import pytest
from numpy.typing import NDArray

from protos.tasks.boxes import Array
from protos.tasks.decoders import DECODERS, Candidates

SIZE = (32, 64)
"""Height and width of the input: SCRFD has 4 x 8, 2 x 4 and 1 x 2 positions."""


def decoded(name: str, outputs: dict[str, Array], keypoints: int = 0, threshold: float = 0.5) -> Candidates:
    return DECODERS[name](outputs, SIZE, keypoints, np.float32(threshold))


def facts(found: Candidates) -> list[tuple[int, int, float, list[float]]]:
    """Image, class, score and corners of each box."""
    columns = (found.images, found.classes, found.scores.astype(float).round(4), found.boxes)
    return [*zip(*(column.tolist() for column in columns), strict=True)]


def floats(*values: object) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def scrfd_outputs(batch: int = 2, keypoints: int = 0) -> dict[str, Array]:
    widths = {"score": 1, "bbox": 4, **({"kps": 2 * keypoints} if keypoints else {})}
    return {
        f"{kind}_{stride}": np.zeros((batch, 2 * (32 // stride) * (64 // stride), width), np.float32)
        for kind, width in widths.items()
        for stride in (8, 16, 32)
    }


def test_scrfd_counts_by_row_column_and_anchor_without_half_a_pixel() -> None:
    outputs = scrfd_outputs()
    outputs["score_8"][1, 2 * (8 * 3 + 5) + 1] = 0.75  # y 3, x 5: the centre is (40, 24)
    outputs["bbox_8"][1, 2 * (8 * 3 + 5) + 1] = 1, 2, 0.5, 0.25
    outputs["score_32"][0, 3] = 0.5  # y 0, x 1, second box: (32, 0)
    outputs["bbox_32"][0, 3] = 1, 1, 1, 1
    found = decoded("scrfd", outputs)
    assert facts(found) == [(1, 0, 0.75, [32, 8, 44, 26]), (0, 0, 0.5, [0, -32, 64, 32])]
    assert (found.batch, found.points.shape, found.suppressed) == (2, (2, 0), False)


def test_scrfd_has_key_points_in_strides_from_the_centre() -> None:
    outputs = scrfd_outputs(keypoints=2)
    outputs["score_16"][0, 2 * (4 * 1 + 2)] = 0.9  # (32, 16)
    outputs["kps_16"][0, 2 * (4 * 1 + 2)] = 1, -1, 0.5, 0
    assert decoded("scrfd", outputs, keypoints=2).points.tolist() == [[48, 0, 40, 16]]


def test_scrfd_is_told_by_shapes_where_names_do_not_say() -> None:
    outputs = scrfd_outputs(batch=1, keypoints=5)
    outputs["score_16"][0, 4], outputs["bbox_16"][0, 4] = 0.9, 1
    unnamed = {str(index): output[0] for index, output in enumerate(reversed(outputs.values()))}
    assert facts(decoded("scrfd", unnamed, keypoints=5)) == [(0, 0, 0.9, [16, -16, 48, 16])]


def test_ultralytics_has_candidates_last_and_key_points_behind_the_scores() -> None:
    output = np.zeros((2, 4 + 2 + 3 * 2, 3), np.float32)
    output[1, :, 2] = 10, 20, 4, 8, 0.25, 0.75, 1, 2, 0.9, 3, 4, 0.9
    found = decoded("ultralytics", {"output0": output}, keypoints=2)
    assert facts(found) == [(1, 1, 0.75, [8, 16, 12, 24])]
    assert found.points.tolist() == [[1, 2, 3, 4]]


def test_each_class_with_a_high_score_makes_a_box_of_its_own() -> None:
    output = floats([10], [20], [4], [8], [0.5], [0.4], [0.6])  # one image, without a batch
    assert [fact[1] for fact in facts(decoded("ultralytics", {"o": output}))] == [0, 2]


def test_yolov5_multiplies_by_the_probability_of_any_object() -> None:
    rows = floats([[10, 20, 4, 8, 0.8, 0.5, 1], [10, 20, 4, 8, 0.4, 1, 1]])
    assert facts(decoded("yolov5", {"o": rows})) == [(0, 1, 0.8, [8, 16, 12, 24])]


@pytest.mark.parametrize(
    ("decoder", "corners", "expected"),
    [
        ("boxes-scores", (8, 4, 16, 12), [(1, 0, 0.75, [8, 4, 16, 12]), (1, 1, 0.5, [8, 4, 16, 12])]),
        ("boxes-scores-normalized", (0.125, 0.25, 0.5, 1), [(1, 0, 0.75, [8, 8, 32, 32]), (1, 1, 0.5, [8, 8, 32, 32])]),
        ("ssd", (0.125, 0.25, 0.5, 1), [(1, 0, 0.5, [8, 8, 32, 32])]),
    ],
)
def test_boxes_and_scores_in_two_outputs(decoder: str, corners: tuple[float, ...], expected: object) -> None:
    boxes, scores = np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 2), np.float32)
    boxes[1, 2], scores[1, 2] = corners, (0.75, 0.5)
    assert facts(decoded(decoder, {"scores": scores, "boxes": boxes})) == expected


def test_scores_of_one_class_and_boxes_with_a_class_dimension_fit() -> None:
    boxes, scores = floats([[[1, 2, 3, 4]], [[5, 6, 7, 8]]])[0], floats([0.2, 0.9])[0]
    assert facts(decoded("boxes-scores", {"boxes": boxes[None], "confs": scores[None]})) == [(0, 0, 0.9, [5, 6, 7, 8])]
    assert facts(decoded("boxes-scores", {"a": scores, "b": boxes[:, 0]})) == [(0, 0, 0.9, [5, 6, 7, 8])]


def test_boxes_that_the_network_chose_are_told_by_words_in_names() -> None:
    outputs = {
        "num_dets": np.array([[1], [2]], np.int32),
        "det_boxes": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "det_scores": floats([0.9, 0.9, 0.9], [0.8, 0.4, 0.9]),
        "det_classes": np.array([[3, 3, 3], [4, 4, 4]], np.int32),
    }
    found = decoded("detections", outputs)
    assert facts(found) == [(0, 3, 0.9, [0, 1, 2, 3]), (1, 4, 0.8, [12, 13, 14, 15])]
    assert (found.suppressed, found.classes.dtype) == (True, np.int64)


def test_boxes_that_the_network_chose_for_one_image_have_no_batch() -> None:
    outputs = {"boxes": floats([1, 2, 3, 4]), "labels": np.array([7]), "scores": floats(0.9)}
    assert facts(decoded("detections", outputs)) == [(0, 7, 0.9, [1, 2, 3, 4])]


def test_one_output_of_chosen_boxes_may_hold_whole_numbers() -> None:
    rows = np.array([[[1, 2, 3, 4, 1, 7], [0, 0, 0, 0, 0, 0]]], np.int64)
    assert facts(decoded("detections", {"o": rows})) == [(0, 7, 1, [1, 2, 3, 4])]


def test_a_score_that_is_not_a_number_makes_no_box() -> None:
    assert facts(decoded("ultralytics", {"o": np.full((1, 6, 3), np.nan, np.float32)}, threshold=-np.inf)) == []


@pytest.mark.parametrize("decoder", [*DECODERS])
def test_outputs_of_no_image_hold_no_box(decoder: str) -> None:
    outputs: dict[str, dict[str, Array]] = {
        "scrfd": scrfd_outputs(batch=0),
        "ultralytics": {"o": np.zeros((0, 6, 3), np.float32)},
        "yolov5": {"o": np.zeros((0, 3, 6), np.float32)},
        "detections": {"o": np.zeros((0, 3, 6), np.float32)},
    }
    pair = {"boxes": np.zeros((0, 3, 4), np.float32), "scores": np.zeros((0, 3, 2), np.float32)}
    assert decoded(decoder, outputs.get(decoder, pair)).batch == 0


@pytest.mark.parametrize("decoder", [*DECODERS])
def test_outputs_that_do_not_fit_are_named_with_what_was_expected(decoder: str) -> None:
    with pytest.raises(ValueError, match=rf"^decoder '{decoder}': got outputs logits \[2, 5\], expected .+"):
        decoded(decoder, {"logits": np.zeros((2, 5), np.float32)})


@pytest.mark.parametrize("decoder", [name for name in DECODERS if name not in ("scrfd", "ultralytics")])
def test_key_points_are_refused_where_outputs_hold_none(decoder: str) -> None:
    pair = {"boxes": np.zeros((1, 3, 4), np.float32), "scores": np.zeros((1, 3, 2), np.float32)}
    outputs: dict[str, Array] = {"o": np.zeros((1, 3, 6), np.float32)} if decoder in ("yolov5", "detections") else pair
    with pytest.raises(ValueError, match=f"decoder '{decoder}': got 5 key points, expected 0"):
        decoded(decoder, outputs, keypoints=5)


@pytest.mark.parametrize("missing", ["score_16", "bbox_8", "kps_32"])
def test_scrfd_needs_all_outputs_of_all_levels(missing: str) -> None:
    outputs = scrfd_outputs(keypoints=5)
    del outputs[missing]
    with pytest.raises(ValueError, match=rf"expected .*{missing}.* for 32 x 64 pixels and 5 key points"):
        decoded("scrfd", outputs, keypoints=5)


def test_scrfd_refuses_levels_of_another_batch_or_size() -> None:
    for shape in ((1, 64, 4), (2, 60, 4), (2, 64, 5), (2, 2, 64, 4)):
        with pytest.raises(ValueError, match="bbox_8"):
            decoded("scrfd", {**scrfd_outputs(), "bbox_8": np.zeros(shape, np.float32)})
