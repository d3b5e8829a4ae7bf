"""The task of detection: answers, what is checked of them, and how they are judged and compared."""

import io

import numpy as np
import pytest
from PIL import Image

from protos.manifest import Decoding, Preprocessing
from protos.tasks.boxes import Detections, Truth
from protos.tasks.detection import AP_MOST, Detection, decoded
from protos.tasks.task import Array

TASK = Detection()
HOW = Preprocessing((64, 64), (0.5,) * 3, (0.5,) * 3, "NCHW", "letterbox")
WIDER = ("easy", "medium", "hard")


def truth(settings: tuple[str, ...] = WIDER) -> dict[str, Array]:
    """Three images with one object, none and two."""
    boxes = np.array([[0, 0, 10, 10], [20, 0, 40, 40], [60, 0, 90, 40]], np.float32)
    there = Truth(
        counts=np.array([1, 0, 2]),
        boxes=boxes,
        classes=np.zeros(3, np.int64),
        counting=np.ones((3, len(settings)), np.bool_),
        areas=np.full(3, 900, np.float32),
        keypoints=np.zeros((3, 0), np.float32),
    )
    return {**there.arrays(), "settings": np.array(settings)}


def answers(images: tuple[int, ...] = (1, 0, 2)) -> dict[str, Array]:
    """Boxes where the objects are."""
    rows = np.arange(3)[: sum(images)]
    found = Detections(
        counts=np.array(images),
        boxes=truth()["boxes"][rows],
        classes=np.zeros(len(rows), np.int64),
        scores=np.array([0.9, 0.8, 0.7], np.float32)[rows],
        keypoints=np.zeros((len(rows), 0), np.float32),
    )
    return found.arrays()


def test_a_server_gives_key_points_where_the_detector_has_some() -> None:
    names = ["num_detections", "boxes", "scores", "classes"]
    assert [spec.name for spec in decoded(Decoding("scrfd"))] == names
    specs = decoded(Decoding("scrfd", max_detections=7, keypoints=5))
    assert [spec.name for spec in specs] == [*names, "keypoints"]
    assert [spec.shape for spec in specs] == [(-1, 1), (-1, 7, 4), (-1, 7), (-1, 7), (-1, 7, 10)]


def test_answers_hold_unsure_boxes_and_more_of_them_than_are_served() -> None:
    """Average precision is not that of the thresholds that a server uses."""
    rows = np.tile(np.array([8, 4, 16, 12, 0.5, 0], np.float32), (1, 150, 1))
    rows[0, :, 4] = np.linspace(1, 0.0, 150)
    outputs = {"o": rows}
    pixels = np.zeros((1, 128, 96, 3), np.uint8)
    found = TASK.answers(outputs, pixels, HOW, Decoding("detections", max_detections=1))
    assert found["counts"].tolist() == [(rows[0, :, 4] >= np.float32(0.02)).sum()] == [147]
    assert found["boxes"][0].tolist() == [16, 8, 32, 24]
    assert AP_MOST > 150


def test_answers_are_in_the_pixels_of_each_file() -> None:
    files = np.empty(2, np.object_)
    for index, size in enumerate([(96, 128), (64, 32)]):
        Image.new("RGB", size).save(buffer := io.BytesIO(), "PNG")
        files[index] = buffer.getvalue()
    outputs = {"o": np.tile(np.array([8, 4, 16, 12, 0.5, 0], np.float32), (2, 1, 1))}
    found = TASK.answers(outputs, files, HOW, Decoding("detections"))
    assert found["boxes"].tolist() == [[16, 8, 32, 24], [8, 4, 16, 12]]


def test_images_are_counted_with_those_in_which_nothing_was_found() -> None:
    assert TASK.images(answers()) == 3


def test_answers_and_truth_are_taken_image_by_image() -> None:
    rows = np.array([2, 1])
    there, found = TASK.take(truth(), rows), TASK.take(answers(), rows)
    assert there["counts"].tolist() == found["counts"].tolist() == [2, 0]
    assert there["boxes"].tolist() == found["boxes"].tolist() == truth()["boxes"][1:].tolist()
    assert there["settings"].tolist() == [*WIDER]
    TASK.check(there, found, 2)


def test_what_belongs_together_passes_the_check() -> None:
    TASK.check(truth(), answers(), 3)
    TASK.check(truth(("all",)), answers((0, 0, 0)), 3)


@pytest.mark.parametrize(
    ("there", "found", "images", "complaint"),
    [
        (truth(), answers(), 4, "truth: got boxes of 3 images .* expected 4"),
        (truth(), answers((1, 0)), 3, "reference: got boxes of 2 images"),
        ({**truth(), "areas": np.ones(2)}, answers(), 3, "truth: got .*'areas': 2"),
        (truth(), {**answers(), "counts": np.array([1, 0, 1])}, 3, "reference: got .*'boxes': 3"),
        ({**truth(), "settings": np.array(["all"])}, answers(), 3, r"truth: got settings \['all'\]"),
        ({**truth(), "counting": np.zeros((3, 3), np.bool_)}, answers(), 3, "truth: got no object that counts"),
    ],
)
def test_what_does_not_belong_together_is_named(
    there: dict[str, Array], found: dict[str, Array], images: int, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        TASK.check(there, found, images)


def test_the_settings_say_which_average_precision_it_is() -> None:
    assert TASK.scores(answers(), truth()) == {"ap": 1, "ap_easy": 1, "ap_medium": 1, "ap_hard": 1}
    assert TASK.scores(answers(), truth(("all",))) == {"ap": 1, "ap50": 1, "ap75": 1, "ap_small": 1}
    assert next(iter(TASK.scores(answers(), truth()))) == TASK.metric


def test_a_comparison_counts_objects_both_ways() -> None:
    two, other = answers((1, 0, 1)), TASK.take(answers(), np.array([1, 1, 2]))
    compared = TASK.compare(two, other, truth())
    assert (compared.lost, compared.gained, compared.agreement) == (1, 1, 0.5)
    assert compared.drop_interval is not None
    assert compared.drop_interval[0] < 0 < compared.drop_interval[1]
    assert compared.interval is not None
    assert compared.interval[0] < TASK.scores(two, truth())["ap"] < compared.interval[1]


def test_a_detector_beside_itself_has_lost_nothing() -> None:
    compared = TASK.compare(answers(), answers(), truth())
    assert (compared.lost, compared.gained, compared.agreement, compared.drop_interval) == (0, 0, 1, (0, 0))


def test_the_golden_error_is_beside_the_largest_value_of_each_output() -> None:
    expected = {"scores": np.array([0.5, 0.1]), "boxes": np.array([-400.0, 100.0]), "none": np.zeros((0, 4))}
    outputs = {"scores": np.array([0.5, 0.15]), "boxes": np.array([-400.0, 60.0]), "none": np.zeros((0, 4))}
    assert TASK.golden_error(outputs, expected) == pytest.approx(0.1)
    assert TASK.golden_error(expected, expected) == 0


@pytest.mark.parametrize("name", ["first", "second"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_golden_error_is_not_finite_where_an_output_is_not(name: str, bad: float) -> None:
    expected = {"first": np.ones(3), "second": np.ones(3)}
    assert not np.isfinite(TASK.golden_error({**expected, name: np.array([1, bad, 1])}, expected))
