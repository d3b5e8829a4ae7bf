"""Accuracy of a detector over the wire: AP from the boxes that a server sends, and the objects that flip."""

import io
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from loadtest.measure.accuracy import Accuracy, Check, check_accuracy, prepare
from loadtest.report.flips import gallery
from protos.errors import UsageError
from protos.manifest import Decoding, Quality, from_json, to_json
from protos.repository import EvaluationSet, save_evaluation_set
from protos.tasks.boxes import Detections, Truth
from protos.tasks.detection import AP_MOST
from protos.tasks.table import TASKS
from protos.tensors import Array, decode_request, encode_response
from protos.v1 import inference_pb2 as pb
from tests.support import toy
from tests.support.loadtest.cells import cell, results
from tests.support.loadtest.foreign import Answer, foreign

VARIANT = "fp32-onnxruntime"
COUNTS = np.array([0, 1, 2, 3, 1])
"""Annotated objects of each image."""
MISSED = 3
"""The object that the variant does not find, in the image at 3."""
PLACE = 4


def boxes_of(image: int) -> Array:
    """The objects of an image, side by side."""
    left = 20 * np.arange(COUNTS[image], dtype=np.float32)[:, None]
    return np.concatenate([left, left * 0, left + 16, left * 0 + 12], axis=1)


def detections(scores: Array) -> Detections:
    boxes = np.concatenate([boxes_of(image) for image in range(len(COUNTS))])
    return Detections(COUNTS, boxes, np.zeros(7, np.int64), scores, np.zeros((7, 0), np.float32))


REFERENCE = detections(np.linspace(0.95, 0.65, 7, dtype=np.float32))
SERVED = detections(np.where(np.arange(7) == PLACE, 0.3, REFERENCE.scores).astype(np.float32))
FILES = np.empty(5, np.object_)
for at in range(5):
    Image.new("RGB", (80 + at, 40), "gray").save(stream := io.BytesIO(), "PNG")
    FILES[at] = stream.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector's manifest and test split; its artifact is the toy's and never runs."""
    folder = toy.repository(tmp_path_factory.mktemp("models"), ("onnxruntime",))
    counting, points = np.ones((7, 1), np.bool_), np.zeros((7, 0), np.float32)
    truth = Truth(COUNTS, REFERENCE.boxes, REFERENCE.classes, counting, np.full(7, 192, np.float32), points)
    test = EvaluationSet("detection", FILES, {**truth.arrays(), "settings": np.array(["hard"])}, REFERENCE.arrays())
    save_evaluation_set(folder, toy.MODEL, test)
    fp32, ap = (TASKS["detection"].scores(each.arrays(), test.truth)["ap"] for each in (REFERENCE, SERVED))
    path = folder / toy.MODEL / VARIANT / "manifest.json"
    quality = Quality("ap", ap, "toy", 5, parent=fp32, fp32=fp32, agreement=1.0)
    decoding = Decoding("scrfd", max_detections=10)
    path.write_text(to_json(replace(from_json(path.read_text()), task="detection", decoding=decoding, quality=quality)))
    return folder


@pytest.fixture(scope="module")
def check(root: Path) -> Check:
    return prepare(root, toy.MODEL, {VARIANT: metadata()})[VARIANT]


def metadata() -> pb.ModelMetadataResponse:
    response = pb.ModelMetadataResponse(name=toy.MODEL)
    response.inputs.add(name="input", datatype="FP32", shape=[-1, 3, 4, 4])
    for name, datatype, shape in (
        ("num_detections", "INT32", [1]),
        ("boxes", "FP32", [10, 4]),
        ("scores", "FP32", [10]),
        ("classes", "INT32", [10]),
        ("logits", "FP32", [3]),
    ):
        response.outputs.add(name=name, datatype=datatype, shape=[-1, *shape])
    return response


def served(request: pb.ModelInferRequest, _: grpc.ServicerContext) -> pb.ModelInferResponse:
    """The right answer, as wide as the request has it, with every box that is asked for."""
    files = decode_request(request)["input"].tolist()
    answer = SERVED.take(np.array([FILES.tolist().index(file) for file in files]))
    room = request.parameters["max_detections"].int64_param
    chosen = np.arange(room) < answer.counts[:, None]
    boxes, scores = np.zeros((*chosen.shape, 4), np.float32), np.zeros(chosen.shape, np.float32)
    boxes[chosen], scores[chosen] = answer.boxes, answer.scores
    counts = answer.counts[:, None].astype(np.int32)
    outputs = {"num_detections": counts, "boxes": boxes, "scores": scores, "classes": np.zeros(chosen.shape, np.int32)}
    return encode_response(toy.MODEL, request.model_version, outputs)


def full(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
    response = served(request, context)
    response.raw_output_contents[0] = np.full(len(response.raw_output_contents[0]) // 4, AP_MOST, np.int32).tobytes()
    return response


def asked(answer: Answer, check: Check) -> Accuracy:
    with foreign(answer=answer) as server:
        return check_accuracy(server.address, check, 2, 2, 20.0)


def test_ap_of_the_served_boxes_is_the_manifest_s_and_the_lost_object_is_drawn(root: Path, check: Check) -> None:
    found = asked(served, check)
    assert found.first_failure is None
    assert found.holds
    assert (found.samples, found.metric, found.quality) == (5, "ap", check.quality)
    (flip,) = found.flips
    assert (flip.index, flip.kind, found.lost, found.gained) == (MISSED, "lost", 1, 0)
    assert found.drop_interval
    run = results(cell("int8-x"))
    shown = gallery(replace(run, plan=replace(run.plan, repository=root), accuracy=(found,)))
    assert [*shown.images] == [flip.picture]
    assert shown.images[flip.picture].startswith("data:image/jpeg;base64,")
    assert shown.caption(flip) == ("red", "")


def test_ap_may_differ_by_a_millionth(check: Check) -> None:
    for off, differs in ((0.9e-6, False), (1.1e-6, True)):
        assert asked(served, replace(check, quality=check.quality + off)).differs == differs


def test_an_image_with_as_many_boxes_as_there_is_room_for_fails(check: Check) -> None:
    found = asked(full, check)
    assert found.failures == {"WRONG_ANSWER": 3}
    assert f"'num_detections': got {AP_MOST}, expected fewer than {AP_MOST}" in str(found.first_failure)


def test_a_server_without_decoded_outputs_is_refused(root: Path) -> None:
    raw = metadata()
    del raw.outputs[:4]
    with pytest.raises(UsageError, match="gives 'logits' FP32"):
        prepare(root, toy.MODEL, {VARIANT: raw})
