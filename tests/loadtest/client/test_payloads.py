"""Requests made ahead, inputs for models of any server, and what counts as a wrong answer."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loadtest.client.payloads import (
    DEFAULT_VARIANT,
    MOST_FILES,
    SYNTHETIC_INPUTS,
    Inputs,
    Payload,
    form_of,
    make_inputs,
    make_payloads,
    wire_version,
)
from protos.errors import UsageError
from protos.repository import EvaluationSet, GoldenSet, load_golden, save_evaluation_set, save_golden
from protos.tensors import decode_request
from protos.v1 import inference_pb2 as pb
from tests.support import toy
from tests.support.loadtest.foreign import metadata


def toy_metadata(shape: tuple[int, ...] = (-1, 3, 4, 4)) -> pb.ModelMetadataResponse:
    response = pb.ModelMetadataResponse(name="toy")
    response.inputs.add(name="input", datatype="FP32", shape=shape)
    response.outputs.add(name="logits", datatype="FP32", shape=[-1, 3])
    return response


def golden(root: Path) -> np.ndarray:
    images = toy.images(3)
    save_golden(root, "toy", GoldenSet({"input": images}, {"logits": toy.answer(images)}))
    return images


def test_golden_inputs_go_one_row_at_a_time(tmp_path: Path) -> None:
    images = golden(tmp_path)
    inputs = make_inputs("toy", toy_metadata(), tmp_path, seed=0)
    assert inputs.source == "golden"
    assert [list(tensors) for tensors in inputs.tensors] == [["input"]] * 3
    np.testing.assert_array_equal(np.concatenate([tensors["input"] for tensors in inputs.tensors]), images)


def test_requests_of_several_rows_begin_at_each_golden_input_in_turn(tmp_path: Path) -> None:
    images = golden(tmp_path)
    inputs = make_inputs("toy", toy_metadata(), tmp_path, seed=0, rows=2)
    assert [len(tensors["input"]) for tensors in inputs.tensors] == [2, 2, 2]
    np.testing.assert_array_equal(inputs.tensors[2]["input"], images[[2, 0]])
    assert {payload.rows for payload in make_payloads("toy", "v", toy_metadata(), inputs)} == {2}


def test_pixels_and_files_are_what_preprocessing_makes_the_golden_inputs_of(tmp_path: Path) -> None:
    root = toy.repository(tmp_path)
    exact = load_golden(root, "toy").inputs["input"]
    (pixels, *_) = make_inputs("toy", toy_metadata(), root, seed=0, form="pixels").tensors
    assert (pixels["input"].dtype, pixels["input"].shape) == (np.uint8, (1, 4, 4, 3))
    np.testing.assert_array_equal(pixels["input"][0], (exact[0].transpose(1, 2, 0) * 255).round())
    (files, *_) = make_inputs("toy", toy_metadata(), root, seed=0, form="jpeg").tensors
    with Image.open(io.BytesIO(files["input"][0])) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (4, 4), "RGB")


def png(height: int, width: int) -> bytes:
    Image.new("RGB", (width, height), "red").save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def with_files(root: Path, *files: bytes) -> Path:
    """The toy model, its test split replaced by files."""
    labels = np.zeros(len(files), np.int64)
    images = np.empty(len(files), np.object_)
    images[:] = files
    toy.repository(root, ("onnxruntime",))
    save_evaluation_set(
        root, "toy", EvaluationSet("classification", images, {"labels": labels}, {"best": labels[:, None]})
    )
    return root


def test_a_network_that_takes_pixels_is_sent_those_of_the_golden_inputs(tmp_path: Path) -> None:
    root = toy.repository(tmp_path)
    toy.publish_pixels(root)
    exact, asked = load_golden(root, "toy").inputs["input"], pb.ModelMetadataResponse(name="toy")
    asked.inputs.add(name="input", datatype="UINT8", shape=[-1, 4, 4, 3])
    for form in (None, "pixels"):
        tensors = make_inputs("toy", asked, root, seed=0, form=form).tensors
        sent = np.concatenate([each["input"] for each in tensors])
        assert sent.dtype == np.uint8
        np.testing.assert_array_equal(sent, (exact * 255).round().transpose(0, 2, 3, 1))


def test_files_of_the_test_split_go_as_they_are_and_in_their_own_sizes(tmp_path: Path) -> None:
    files = [png(4, 4), png(8, 6), png(5, 9)]
    root = with_files(tmp_path, *files)
    sent = [each["input"].tolist() for each in make_inputs("toy", toy_metadata(), root, 0, 2, "jpeg").tensors]
    assert sent == [files[:2], files[1:], [files[2], files[0]]]
    pixels = [each["input"] for each in make_inputs("toy", toy_metadata(), root, 0, form="pixels").tensors]
    assert [(each.dtype, each.shape) for each in pixels] == [
        (np.uint8, (1, 4, 4, 3)),
        (np.uint8, (1, 8, 6, 3)),
        (np.uint8, (1, 5, 9, 3)),
    ]


def test_pixels_of_several_sizes_do_not_fit_into_one_request(tmp_path: Path) -> None:
    root = with_files(tmp_path, png(4, 4), png(8, 6))
    with pytest.raises(UsageError, match="--form: 'pixels' of 2 sizes in one request, expected 'jpeg', or one row"):
        make_inputs("toy", toy_metadata(), root, 0, rows=2, form="pixels")


def test_of_many_files_some_are_sent(tmp_path: Path) -> None:
    root = with_files(tmp_path, *(png(1, width) for width in range(1, 101)))
    inputs = make_inputs("toy", toy_metadata(), root, 0, form="jpeg")
    assert len(inputs.tensors) == MOST_FILES
    assert [inputs.tensors[i]["input"][0] for i in (0, -1)] == [png(1, 1), png(1, 100)]


def detector_metadata() -> pb.ModelMetadataResponse:
    response = toy_metadata()
    del response.outputs[:]
    for name in ("num_detections", "boxes", "scores", "classes", "score_8"):
        response.outputs.add(name=name, datatype="FP32", shape=[-1, 3])
    return response


def test_a_detector_with_images_is_sent_files_and_one_without_random_tensors(tmp_path: Path) -> None:
    assert form_of(None, "toy", detector_metadata(), tmp_path) == "tensor"
    golden(tmp_path)
    assert form_of(None, "toy", detector_metadata(), tmp_path) == "jpeg"
    assert form_of(None, "toy", toy_metadata(), tmp_path) == "tensor"
    assert form_of("pixels", "toy", detector_metadata(), tmp_path) == "pixels"


def test_a_detector_s_answer_has_the_outputs_that_nobody_named() -> None:
    (payload,) = make_payloads("toy", "v", detector_metadata(), Inputs("golden", [{"input": toy.images(1)}]))
    assert [*payload.outputs] == ["num_detections", "boxes", "scores", "classes"]


def test_images_of_a_model_that_is_not_in_the_repository_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--form: 'jpeg' needs golden inputs of 'toy'"):
        make_inputs("toy", toy_metadata(), tmp_path, seed=0, form="jpeg")


def test_random_inputs_have_as_many_rows_as_asked_for(tmp_path: Path) -> None:
    assert make_inputs("foreign", metadata(), tmp_path, 0, rows=3).tensors[0]["pixels"].shape == (3, 3, 2)
    fixed = toy_metadata((1, 3, 4, 4))
    with pytest.raises(UsageError, match=r"shape \[1, 3, 4, 4\] has no free batch, which 3 rows need"):
        make_inputs("toy", fixed, tmp_path, 0, rows=3)


def test_golden_inputs_of_another_shape_are_refused(tmp_path: Path) -> None:
    golden(tmp_path)
    with pytest.raises(UsageError, match=r"shape \[3, 3, 4, 4\], but the server's 'toy' takes"):
        make_inputs("toy", toy_metadata((-1, 3, 8, 8)), tmp_path, seed=0)


def test_damaged_golden_inputs_are_refused(tmp_path: Path) -> None:
    golden(tmp_path)
    (tmp_path / "toy" / "golden.npz").write_bytes(b"not a zip")
    with pytest.raises(UsageError, match=r"'golden.npz' of model 'toy' cannot be read"):
        make_inputs("toy", toy_metadata(), tmp_path, seed=0)


def test_a_model_without_golden_inputs_gets_random_ones_as_its_metadata_says(tmp_path: Path) -> None:
    inputs = make_inputs("foreign", metadata(), tmp_path, seed=0)
    assert inputs.source == "synthetic"
    assert len(inputs.tensors) == SYNTHETIC_INPUTS
    pixels, ids = inputs.tensors[0]["pixels"], inputs.tensors[0]["ids"]
    assert (pixels.shape, pixels.dtype, ids.shape, ids.dtype) == ((1, 3, 2), np.float32, (1, 5), np.int64)
    assert set(ids.ravel()) <= {0, 1}


def test_random_inputs_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    first, again, other = (
        make_inputs("foreign", metadata(), tmp_path, seed).tensors[0]["pixels"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "INT32", "FP16", "FP64", "BYTES"])
def test_random_inputs_can_be_sent_for_every_kind_of_datatype(datatype: str, tmp_path: Path) -> None:
    response = pb.ModelMetadataResponse(name="m")
    response.inputs.add(name="x", datatype=datatype, shape=[-1, 2])
    inputs = make_inputs("m", response, tmp_path, seed=0)
    (payload, *_) = make_payloads("m", "v", response, inputs)
    request = pb.ModelInferRequest.FromString(payload.request)
    assert request.inputs[0].datatype == datatype
    assert decode_request(request)["x"].shape == (1, 2)


@pytest.mark.parametrize(
    ("datatype", "shape", "message"),
    [
        ("FP32", [-1, 3, -1, -1], "leaves more than the batch open"),
        ("BF16", [-1, 3], "datatype 'BF16' is not one that random data can be made for"),
        ("FP32", [-1, -7], r"the shape \[-1, -7\] is not one that a tensor can have"),
        ("FP32", [1] * 65, r"is not one that a tensor can have"),
        ("FP32", [-1, 2**24 + 1], "an input of 'm' has 16777217 elements, expected at most 16777216"),
    ],
)
def test_what_metadata_leaves_open_is_refused_not_guessed(
    datatype: str, shape: list[int], message: str, tmp_path: Path
) -> None:
    response = pb.ModelMetadataResponse(name="m")
    response.inputs.add(name="x", datatype=datatype, shape=shape)
    with pytest.raises(UsageError, match=message):
        make_inputs("m", response, tmp_path, seed=0)


def test_metadata_without_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="declares no inputs"):
        make_inputs("m", pb.ModelMetadataResponse(name="m"), tmp_path, seed=0)


def test_golden_inputs_for_metadata_without_inputs_are_refused(tmp_path: Path) -> None:
    golden(tmp_path)
    with pytest.raises(UsageError, match=r"but the server's 'toy' takes \[\]"):
        make_inputs("toy", pb.ModelMetadataResponse(name="toy"), tmp_path, seed=0)


def test_a_payload_is_the_request_as_it_goes_out() -> None:
    images = toy.images(1)
    (payload,) = make_payloads("toy", "int8-openvino", toy_metadata(), Inputs("golden", [{"input": images}]))
    request = pb.ModelInferRequest.FromString(payload.request)
    assert (request.model_name, request.model_version) == ("toy", "int8-openvino")
    np.testing.assert_array_equal(decode_request(request)["input"], images)


def test_a_server_without_versions_is_asked_for_none() -> None:
    assert (wire_version(DEFAULT_VARIANT), wire_version("int8")) == ("", "int8")


def response(version: str = "v", shape: tuple[int, ...] = (1, 3), size: int = 12) -> pb.ModelInferResponse:
    answer = pb.ModelInferResponse(model_name="m", model_version=version)
    answer.outputs.add(name="logits", datatype="FP32", shape=shape)
    answer.raw_output_contents.append(bytes(size))
    return answer


PAYLOAD = Payload("v", b"", 1, {"logits": (-1, 3)})


def test_the_asked_rows_of_the_asked_variant_are_a_right_answer() -> None:
    assert PAYLOAD.fault(response()) is None


def test_any_version_is_right_where_none_was_asked_for() -> None:
    assert Payload(DEFAULT_VARIANT, b"", 1, {"logits": (-1, 3)}).fault(response("17")) is None


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (response(version="w"), "variant 'w' answered, expected 'v'"),
        (response(shape=(2, 3), size=24), "output 'logits': got shape [2, 3], expected [-1, 3], rows 1"),
        (response(shape=(1, 4), size=16), "output 'logits': got shape [1, 4], expected [-1, 3], rows 1"),
        (response(shape=(3,)), "output 'logits': got shape [3], expected [-1, 3], rows 1"),
        (response(size=8), "output 'logits': got 8 bytes, expected FP32 [1, 3]"),
        (pb.ModelInferResponse(model_version="v"), "got outputs [], expected ['logits']"),
    ],
)
def test_a_wrong_answer_is_told_from_a_right_one(answer: pb.ModelInferResponse, fault: str) -> None:
    assert PAYLOAD.fault(answer) == fault


def test_missing_raw_contents_are_a_wrong_answer() -> None:
    answer = response()
    answer.outputs.add(name="boxes", datatype="FP32", shape=[1, 4])
    payload = Payload("v", b"", 1, {"logits": (-1, 3), "boxes": (-1, 4)})
    assert payload.fault(answer) == "got 1 raw contents, expected one for each of 2 outputs"
