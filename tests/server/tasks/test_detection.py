"""Boxes from a real server: exact in the pixels of each image, as each request asks, whatever else is in the batch."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from protos.tensors import Array, decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from server.tasks.answer_threads import AnswerThreads
from tests.support import toy_detector
from tests.support.server.connection import connected
from tests.support.serving import eventually, serving

CANCELLED, RESOURCE_EXHAUSTED = grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED
DECODED = ["num_detections", "boxes", "scores", "classes", "keypoints"]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_detector.repository(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="module")
def stub(detector: Path, front: str) -> Iterator[GRPCInferenceServiceStub]:
    with serving(detector) as server, server.stub() as stub:
        yield stub


def scene(height: int, width: int, *cells: tuple[int, int, int, int], colour: tuple[int, ...] = (255, 0, 0)) -> Array:
    """A black image with rectangles (x1, y1, x2, y2) in a colour."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in cells:
        pixels[y1:y2, x1:x2] = colour
    return pixels


def files(*images: Array, form: str = "PNG") -> Array:
    array = np.empty(len(images), np.object_)
    for index, pixels in enumerate(images):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, form)
        array[index] = stream.getvalue()
    return array


Parameters = dict[str, float]


def request(array: Array, names: tuple[str, ...] = (), **parameters: float) -> pb.ModelInferRequest:
    message = encode_request("detector", "", {"input": array}, "an id")
    for name in names:
        message.outputs.add(name=name)
    for name, value in parameters.items():
        field = "int64_param" if isinstance(value, int) else "double_param"
        setattr(message.parameters[name], field, value)
    return message


def ask(stub: GRPCInferenceServiceStub, message: pb.ModelInferRequest) -> dict[str, Array]:
    return decode_response(stub.ModelInfer(message, timeout=30))


def boxes(outputs: dict[str, Array], image: int = 0) -> list[list[float]]:
    """The boxes that are filled; the others have to be zero."""
    count = outputs["num_detections"][image, 0]
    assert not any(outputs[name][image, count:].any() for name in DECODED[1:])
    filled: list[list[float]] = outputs["boxes"][image, :count].tolist()
    return filled


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_boxes_of_a_file_are_in_its_own_pixels(stub: GRPCInferenceServiceStub, form: str) -> None:
    answer = ask(stub, request(files(scene(64, 128, (32, 16, 48, 32)), form=form)))  # half as large in the input
    assert boxes(answer) == [[32, 16, 48, 32]]
    assert answer["keypoints"][0, 0].tolist() == [40, 24]
    assert {name: (array.dtype.str, array.shape) for name, array in answer.items()} == {
        "num_detections": ("<i4", (1, 1)),
        "boxes": ("<f4", (1, 5, 4)),
        "scores": ("<f4", (1, 5)),
        "classes": ("<i4", (1, 5)),
        "keypoints": ("<f4", (1, 5, 2)),
    }


def test_boxes_of_pixels_and_of_a_tensor_are_in_the_pixels_of_each(stub: GRPCInferenceServiceStub) -> None:
    pixels = scene(128, 128, (32, 16, 48, 32))
    assert boxes(ask(stub, request(pixels[None]))) == [[32, 16, 48, 32]]
    tensor = scene(64, 64, (16, 8, 24, 16)).transpose(2, 0, 1)[None].astype(np.float32) / 255
    assert boxes(ask(stub, request(tensor))) == [[16, 8, 24, 16]]


def test_a_box_ends_where_the_image_does(stub: GRPCInferenceServiceStub) -> None:
    image = files(scene(100, 128, (0, 96, 16, 100)))  # the cell reaches into the padding
    assert boxes(ask(stub, request(image, score_threshold=0.15))) == [[0, 96, 16, 100]]


def test_files_of_different_sizes_in_one_request_have_boxes_of_their_own(stub: GRPCInferenceServiceStub) -> None:
    images = files(scene(64, 128, (32, 16, 48, 32)), scene(64, 64), scene(256, 128, (32, 64, 64, 96), (0, 0, 32, 32)))
    answer = ask(stub, request(images))
    assert answer["num_detections"].tolist() == [[1], [0], [2]]
    assert boxes(answer, 0) == [[32, 16, 48, 32]]
    assert boxes(answer, 1) == []
    assert sorted(boxes(answer, 2)) == [[0, 0, 32, 32], [32, 64, 64, 96]]


CELLS = scene(64, 64, (0, 0, 8, 8), colour=(255, 204, 0))
CELLS[8:16, 8:16] = (153, 0, 0)
"""A cell with both of its boxes, of scores 1 and 0.8, and one with a box of 0.6."""


@pytest.mark.parametrize(
    ("parameters", "scores"),
    [
        ({}, [1, 0.6]),
        ({"score_threshold": 0.7}, [1]),
        ({"score_threshold": 1}, [1]),
        ({"iou_threshold": 0.6}, [1, 0.8, 0.6]),
        ({"iou_threshold": 1, "max_detections": 2}, [1, 0.8]),
        ({"max_detections": 1}, [1]),
        ({"score_threshold": 0, "max_detections": 1500}, [1, 0.6] + [0] * 82),
    ],
)
def test_a_request_has_thresholds_of_its_own(
    stub: GRPCInferenceServiceStub, parameters: Parameters, scores: list[float]
) -> None:
    answer = ask(stub, request(CELLS[None], **parameters))
    most = int(parameters.get("max_detections", 5))
    assert answer["boxes"].shape == (1, most, 4)
    np.testing.assert_allclose(answer["scores"][0, : len(scores)], scores[:most], atol=1e-6)
    assert answer["num_detections"].tolist() == [[min(most, len(scores))]]


def test_raw_outputs_are_answered_by_name_in_the_order_of_the_request(stub: GRPCInferenceServiceStub) -> None:
    tensor = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    names = ("score_8", "num_detections", "bbox_32")
    answer = ask(stub, request(tensor, names))
    assert list(answer) == [*names]
    for name in ("score_8", "bbox_32"):
        np.testing.assert_allclose(answer[name], toy_detector.raw(tensor)[name], rtol=1e-5)
    alone = ask(stub, request(tensor, ("score_8",)))
    np.testing.assert_array_equal(alone["score_8"], answer["score_8"])


BAD = {
    "a score over 1": ({"score_threshold": 1.5}, "parameter 'score_threshold': got 1.5 as double_param"),
    "a score that is no number": ({"score_threshold": float("nan")}, "got nan as double_param"),
    "a negative overlap": (
        {"iou_threshold": -0.1},
        "'iou_threshold': got -0.1 as double_param, expected a double_param",
    ),
    "two as a score": ({"score_threshold": 2}, "got 2 as int64_param, expected a double_param from 0 to 1"),
    "no boxes": (
        {"max_detections": 0},
        "'max_detections': got 0 as int64_param, expected an int64_param from 1 to 5000",
    ),
    "too many boxes": ({"max_detections": 5001}, "'max_detections': got 5001 as int64_param"),
    "half a box": ({"max_detections": 1.5}, "'max_detections': got 1.5 as double_param, expected an int64_param"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_parameter_that_does_not_fit_is_an_invalid_argument(stub: GRPCInferenceServiceStub, case: str) -> None:
    parameters, text = BAD[case]
    refused(stub, request(CELLS[None], **parameters), text)


def test_outputs_that_do_not_fit_are_an_invalid_argument(stub: GRPCInferenceServiceStub) -> None:
    refused(stub, request(CELLS[None], ("logits",)), "got output 'logits', expected one of ['num_detections', 'boxes',")
    classes = request(CELLS[None], ("boxes",))
    classes.outputs[0].parameters["classification"].int64_param = 3
    refused(stub, classes, "output 'boxes': got parameter 'classification', expected none")
    word = request(CELLS[None])
    word.parameters["score_threshold"].string_param = "0.5"
    refused(stub, word, "parameter 'score_threshold': got '0.5' as string_param")
    elsewhere = request(CELLS[None], ("boxes",))
    elsewhere.outputs[0].parameters["shared_memory_region"].string_param = "x"
    refused(stub, elsewhere, "output 'boxes': got shared memory, which is not supported")


def refused(stub: GRPCInferenceServiceStub, message: pb.ModelInferRequest, text: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message, timeout=30)
    assert (caught.value.code(), text in caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_the_metadata_lists_decoded_outputs_then_raw_ones(stub: GRPCInferenceServiceStub) -> None:
    outputs = stub.ModelMetadata(pb.ModelMetadataRequest(name="detector"), timeout=10).outputs
    assert [spec.name for spec in outputs] == [*DECODED, *(spec.name for spec in toy_detector.RAW)]
    assert [list(spec.shape) for spec in outputs[:6]] == [
        [-1, 1],
        [-1, 5, 4],
        [-1, 5],
        [-1, 5],
        [-1, 5, 2],
        [-1, 128, 1],
    ]
    config = stub.ModelConfig(pb.ModelConfigRequest(name="detector"), timeout=10).config
    assert [output.name for output in config.output] == [spec.name for spec in outputs]


@pytest.mark.usefixtures("front")
def test_requests_of_different_sizes_share_a_batch_and_each_gets_its_own_boxes(detector: Path) -> None:
    async def run() -> None:
        async with connected(detector) as client:
            hosted, slots = client.server.registry.find("detector", ""), client.server.registry._slots
            assert hosted.engine is not None
            sides = [64 * (1 + index % 4) for index in range(24)]
            with ExitStack() as held:
                for _ in range(client.server.application.plan.slots):
                    held.enter_context(slots)  # all of them wait, so that they are executed together
                calls = [asyncio.create_task(one(client.stub, side)) for side in sides]
                await eventually(hosted.engine.depth, len(calls))
            assert await asyncio.gather(*calls) == [[[side / 8, 0, side / 4, side / 8]] for side in sides]
            stats = hosted.metrics.statistics.message("detector", hosted.entry.name)
            assert [batch.batch_size for batch in stats.batch_stats] == [8, 16]
            assert (stats.inference_stats.success.count, stats.inference_stats.compute_output.ns > 0) == (24, True)

    async def one(stub: GRPCInferenceServiceStub, side: int) -> list[list[float]]:
        image = files(scene(side, side, (side // 8, 0, side // 4, side // 8)))
        return boxes(decode_response(await stub.ModelInfer(request(image), timeout=30)))

    asyncio.run(run())


def test_a_stream_answers_with_boxes(stub: GRPCInferenceServiceStub) -> None:
    answers = stub.ModelStreamInfer(iter([request(CELLS[None]), request(CELLS[None], max_detections=1)]), timeout=30)
    counts = [decode_response(answer.infer_response)["boxes"].shape for answer in answers]
    assert sorted(counts) == [(1, 1, 4), (1, 5, 4)]


@pytest.mark.usefixtures("front")
def test_a_request_is_refused_before_its_execution_while_too_many_boxes_are_made(detector: Path) -> None:
    async def run() -> None:
        async with connected(detector, queue_size=1) as client:
            answers = client.server.application.answers
            async with held_up(answers, answers._room):
                assert await client.stub.ModelInfer(request(CELLS[None]), timeout=30).code() == RESOURCE_EXHAUSTED
                assert client.sample("pareto_rejected_total", model="detector", reason="queue_full") == 1
                assert client.sample("pareto_batch_rows_count", model="detector") == 0
                raw = client.stub.ModelInfer(request(CELLS[None], ("score_8",)), timeout=30)
                assert await raw.code() == grpc.StatusCode.OK  # it needs no boxes
            assert await client.stub.ModelInfer(request(CELLS[None]), timeout=30).code() == grpc.StatusCode.OK

    asyncio.run(run())


@pytest.mark.usefixtures("front")
@pytest.mark.parametrize(("timeout", "code"), [(30, CANCELLED), (2, grpc.StatusCode.DEADLINE_EXCEEDED)])
def test_a_caller_that_leaves_while_boxes_are_made_hurts_nobody(
    detector: Path, timeout: float, code: grpc.StatusCode
) -> None:
    async def run() -> None:
        async with connected(detector) as client:
            answers, slots = client.server.application.answers, client.server.application.plan.slots
            async with held_up(answers, slots):
                leaver = client.stub.ModelInfer(request(CELLS[None]), timeout=timeout)
                await eventually(lambda: answers._under_way, slots + 1)
                stayer = client.stub.ModelInfer(request(CELLS[None], max_detections=1), timeout=30)
                await eventually(lambda: answers._under_way, slots + 2)
                if code == CANCELLED:
                    leaver.cancel()
                assert await leaver.code() == code
                await client.wait_for("pareto_requests_total", model="detector", code=code.name)
            assert decode_response(await stayer)["num_detections"].tolist() == [[1]]

    asyncio.run(run())


@asynccontextmanager
async def held_up(answers: AnswerThreads, count: int) -> AsyncIterator[None]:
    """Keeps the threads busy, with `count` answers, during the block."""
    release = threading.Event()
    held = [asyncio.create_task(answers.run(release.wait, 30)) for _ in range(count)]
    await asyncio.sleep(0)
    try:
        yield
    finally:
        release.set()
        await asyncio.gather(*held)
