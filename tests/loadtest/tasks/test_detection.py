"""Detection over the wire: what is asked for, how answers become boxes, which objects flip and how they are drawn."""

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from loadtest.tasks.detection import Detection, ObjectFlip
from protos.errors import InvalidInputError
from protos.manifest import Decoding, TensorSpec, Variant
from protos.repository import EvaluationSet, scan_model
from protos.tasks import detection as contract
from protos.tasks.boxes import Detections, Truth
from protos.tensors import Array, decode_request
from tests.support import toy

TASK = Detection()
FACE, OTHER, LARGE = (10.0, 10.0, 30.0, 30.0), (40.0, 40.0, 60.0, 60.0), (0.0, 0.0, 90.0, 70.0)
SHIFTED = (12.0, 10.0, 32.0, 30.0)  # 360 of 440 pixels in common with FACE
AWAY = (28.0, 10.0, 48.0, 30.0)  # 40 of 760


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Variant:
    (entry,) = scan_model(toy.repository(tmp_path_factory.mktemp("models"), ("onnxruntime",)), toy.MODEL)
    assert entry.variant
    decoding = Decoding("scrfd", iou_threshold=0.45, keypoints=5)
    inputs = (TensorSpec("input.1", "FP32", (-1, 3, 64, 96)),)
    return replace(entry.variant, task="detection", decoding=decoding, inputs=inputs)


def found(*images: list[tuple[tuple[float, ...], float]]) -> dict[str, Array]:
    """What a detector answers: a box and a score for each thing, in each image."""
    boxes = [box for image in images for box, _ in image]
    return Detections(
        counts=np.array([len(image) for image in images]),
        boxes=corners(boxes),
        classes=np.zeros(len(boxes), np.int64),
        scores=np.array([score for image in images for _, score in image], np.float32),
        keypoints=np.zeros((len(boxes), 0), np.float32),
    ).arrays()


def corners(boxes: list[tuple[float, ...]]) -> NDArray[np.float32]:
    return np.array(boxes, np.float32).reshape(-1, 4)


def split(reference: dict[str, Array]) -> EvaluationSet:
    """Two images: a face, one that does not count and a third; and one large face."""
    boxes = corners([FACE, OTHER, AWAY, LARGE])
    counting = np.array([[True], [False], [True], [True]])
    points = np.zeros((4, 0), np.float32)
    truth = Truth(np.array([3, 1]), boxes, np.zeros(4, np.int64), counting, np.ones(4, np.float32), points)
    files = np.empty(2, np.object_)
    files[:] = [png(96, 72), png(200, 100)]
    return EvaluationSet("detection", files, truth.arrays(), reference)


def png(width: int, height: int) -> bytes:
    Image.new("RGB", (width, height), "black").save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def test_all_boxes_of_the_files_are_asked_for(manifest: Variant) -> None:
    images = split(found([], [])).images
    request = TASK.request(manifest, images)
    parameters = {name: request.parameters[name] for name in sorted(request.parameters)}
    assert [*parameters] == ["iou_threshold", "max_detections", "score_threshold"]
    assert parameters["iou_threshold"].double_param == 0.45
    assert parameters["score_threshold"].double_param == contract.AP_SCORE
    assert parameters["max_detections"].int64_param == contract.AP_MOST
    assert decode_request(request)["input.1"].tolist() == images.tolist()
    assert request.inputs[0].datatype == "BYTES"


def test_the_answer_has_room_for_them(manifest: Variant) -> None:
    shapes = {spec.name: spec.shape for spec in TASK.answered(manifest)}
    assert shapes["boxes"] == (-1, contract.AP_MOST, 4)
    assert shapes["keypoints"] == (-1, contract.AP_MOST, 10)


def test_the_decoded_outputs_are_those_that_nobody_need_name() -> None:
    declared = {"num_detections": (-1, 1), "boxes": (-1, 100, 4), "scores": (-1, 100), "classes": (-1, 100)}
    assert TASK.unasked(declared | {"score_8": (-1, 12800, 1)}) == declared


def outputs(counts: list[int], room: int) -> dict[str, Array]:
    """Decoded outputs whose boxes count up from 1; what is beyond the counts is rubbish."""
    boxes = np.arange(1, len(counts) * room * 4 + 1, dtype=np.float32).reshape(len(counts), room, 4)
    return {
        "num_detections": np.array(counts, np.int32)[:, None],
        "boxes": boxes,
        "scores": boxes[:, :, 0] / 100,
        "classes": boxes[:, :, 0].astype(np.int32),
    }


def test_boxes_beyond_the_count_of_an_image_are_none(manifest: Variant) -> None:
    answers = TASK.answers(manifest, outputs([1, 0, 2], 3), np.zeros(3, np.object_))
    assert answers["counts"].tolist() == [1, 0, 2]
    assert answers["boxes"][:, 0].tolist() == [1, 25, 29]
    assert answers["classes"].tolist() == [1, 25, 29]
    assert (answers["keypoints"].shape, answers["classes"].dtype) == ((3, 0), np.int64)


@pytest.mark.parametrize("count", [3, -1])
def test_an_image_that_fills_the_room_may_have_had_more(manifest: Variant, count: int) -> None:
    with pytest.raises(InvalidInputError, match=r"'num_detections': got .*, expected fewer than 3"):
        TASK.answers(manifest, outputs([1, count], 3), np.zeros(2, np.object_))


def test_objects_that_only_one_of_the_two_finds_are_flips_with_the_boxes_of_both() -> None:
    before = found([(FACE, 0.9), (OTHER, 0.9)], [(AWAY, 0.8)])
    now = found([(AWAY, 0.9), (OTHER, 0.3), (FACE, 0.4)], [(LARGE, 0.5)])
    flips = TASK.flips(now, split(before), np.array([4, 7]))
    assert flips == [
        ObjectFlip(4, 0, FACE, lost=True, fp32=FACE, variant=AWAY),
        ObjectFlip(4, 0, AWAY, lost=False, fp32=FACE, variant=AWAY),
        ObjectFlip(7, 0, LARGE, lost=False, fp32=AWAY, variant=LARGE),
    ]
    assert [flip.kind for flip in flips] == ["lost", "gained", "gained"]


def test_a_box_that_moves_a_little_loses_nothing() -> None:
    assert TASK.flips(found([(SHIFTED, 0.7)], []), split(found([(FACE, 0.9)], [])), np.arange(2)) == []


def test_a_box_of_another_class_does_not_find_an_object() -> None:
    other = found([(FACE, 0.9)], [])
    other["classes"][:] = 1
    (flip,) = TASK.flips(other, split(found([(FACE, 0.9)], [])), np.arange(2))
    assert (flip.lost, flip.variant) == (True, None)


def colors(picture: Image.Image) -> set[tuple[int, ...]]:
    return {color for _, color in picture.getcolors(picture.width * picture.height) or ()}  # type: ignore[misc]


WHITE, BLUE, ORANGE, BLACK = (255, 255, 255), (46, 144, 250), (247, 144, 9), (0, 0, 0)


def test_a_picture_is_the_image_around_the_object_with_all_three_boxes() -> None:
    picture = TASK.draw(ObjectFlip(0, 0, FACE, True, SHIFTED, AWAY), png(96, 72))
    assert max(picture.size) == TASK.side
    assert {WHITE, BLUE, ORANGE, BLACK} <= colors(picture)
    scale = picture.width / 68  # from the image's edge to 48 pixels right of the object's centre
    assert picture.getpixel((round(10 * scale), round(20 * scale))) == WHITE


def test_a_box_that_neither_has_is_not_drawn() -> None:
    assert not {BLUE, ORANGE} & colors(TASK.draw(ObjectFlip(0, 0, FACE, True, None, None), png(96, 72)))


def test_an_object_outside_of_its_image_is_no_error() -> None:
    assert TASK.draw(ObjectFlip(0, 0, (500.0, 500.0, 510.0, 510.0), True, None, FACE), png(20, 10)).size > (0, 0)
