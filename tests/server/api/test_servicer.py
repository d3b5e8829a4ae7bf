"""The protocol's calls on a real server: metadata, readiness, inference, and everything that does not fit."""

from collections.abc import Callable

import grpc
import numpy as np
import pytest

from protos.tensors import decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.support import toy
from tests.support.serving import ServerProcess, connect

NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT
VARIANTS = ["fp32-onnxruntime", "fp32-openvino"]


def request(rows: int = 2, variant: str = "") -> pb.ModelInferRequest:
    return encode_request("toy", variant, {"input": toy.images(rows)}, "an id")


def typed(rows: int = 2) -> pb.ModelInferRequest:
    changed = request(rows)
    changed.inputs[0].contents.fp32_contents.extend(np.frombuffer(changed.raw_input_contents[0], np.float32))
    changed.ClearField("raw_input_contents")
    return changed


def assert_answers(stub: GRPCInferenceServiceStub) -> None:
    response = stub.ModelInfer(request(), timeout=10)
    np.testing.assert_allclose(decode_response(response)["logits"], toy.answer(toy.images(2)), rtol=1e-5)


def test_the_server_is_live_and_ready(stub: GRPCInferenceServiceStub) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest(), timeout=10).live
    assert stub.ServerReady(pb.ServerReadyRequest(), timeout=10).ready


def test_server_metadata_lists_no_extension_that_does_not_work_and_the_door(
    stub: GRPCInferenceServiceStub, front: str
) -> None:
    metadata = stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=10)
    assert metadata.name == "paretoserve"
    assert metadata.version
    native = ["native_front"] if front == "native" else []
    assert list(metadata.extensions) == [
        "classification",
        "model_configuration",
        "statistics",
        "streaming",
        *native,
    ]


@pytest.mark.parametrize(
    ("version", "platform"), [("", "onnxruntime"), ("fp32-onnxruntime", "onnxruntime"), ("fp32-openvino", "openvino")]
)
def test_model_metadata_lists_all_variants_whichever_is_asked_for(
    stub: GRPCInferenceServiceStub, version: str, platform: str
) -> None:
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="toy", version=version), timeout=10)
    tensor = pb.ModelMetadataResponse.TensorMetadata
    assert metadata == pb.ModelMetadataResponse(
        name="toy",
        versions=VARIANTS,
        platform=platform,
        inputs=[tensor(name="input", datatype="FP32", shape=[-1, 3, 4, 4])],
        outputs=[tensor(name="logits", datatype="FP32", shape=[-1, 3])],
    )


@pytest.mark.parametrize("version", ["", *VARIANTS])
def test_each_variant_is_ready(stub: GRPCInferenceServiceStub, version: str) -> None:
    assert stub.ModelReady(pb.ModelReadyRequest(name="toy", version=version), timeout=10).ready


@pytest.mark.parametrize(("name", "version"), [("nope", ""), ("toy", "nope"), ("", "")])
@pytest.mark.parametrize("call", ["ModelReady", "ModelMetadata"])
def test_what_does_not_exist_is_not_found(stub: GRPCInferenceServiceStub, call: str, name: str, version: str) -> None:
    message = {"ModelReady": pb.ModelReadyRequest, "ModelMetadata": pb.ModelMetadataRequest}[call]
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, call)(message(name=name, version=version), timeout=10)
    assert caught.value.code() == NOT_FOUND


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize(
    ("version", "answered"), [("", VARIANTS[0]), (VARIANTS[0], VARIANTS[0]), (VARIANTS[1], VARIANTS[1])]
)
def test_each_variant_answers_rightly_and_names_itself(
    stub: GRPCInferenceServiceStub, version: str, answered: str, rows: int
) -> None:
    response = stub.ModelInfer(request(rows, version), timeout=10)
    assert (response.model_name, response.model_version, response.id) == ("toy", answered, "an id")
    outputs = decode_response(response)
    assert list(outputs) == ["logits"]
    np.testing.assert_allclose(outputs["logits"], toy.answer(toy.images(rows)), rtol=1e-5)


def test_typed_contents_answer_as_raw_ones_do(stub: GRPCInferenceServiceStub) -> None:
    assert stub.ModelInfer(typed(), timeout=10) == stub.ModelInfer(request(), timeout=10)


def test_a_requested_output_is_answered(stub: GRPCInferenceServiceStub) -> None:
    asked = request()
    asked.outputs.add(name="logits")
    assert stub.ModelInfer(asked, timeout=10) == stub.ModelInfer(request(), timeout=10)


def test_unknown_parameters_are_ignored(stub: GRPCInferenceServiceStub) -> None:
    asked = request()
    asked.parameters["priority"].int64_param = 1
    asked.inputs[0].parameters["binary_data_size"].int64_param = 384
    asked.outputs.add(name="logits").parameters["binary_data"].bool_param = True
    assert stub.ModelInfer(asked, timeout=10) == stub.ModelInfer(request(), timeout=10)


Change = Callable[[pb.ModelInferRequest], object]


def shaped(*shape: int) -> Change:
    """Says another shape of the same bytes."""
    return lambda message: message.inputs[0].shape.__setitem__(slice(None), shape)


def rows(count: int) -> Change:
    """Holds `count` rows, said rightly."""
    return lambda message: message.CopyFrom(request(count))


def tensor(array: np.ndarray) -> Change:
    """Holds another array, said rightly."""
    return lambda message: message.CopyFrom(encode_request("toy", "", {"input": array}))


def twice(message: pb.ModelInferRequest) -> None:
    message.inputs.append(message.inputs[0])
    message.raw_input_contents.append(message.raw_input_contents[0])


def mixed(message: pb.ModelInferRequest) -> None:
    message.inputs[0].contents.fp32_contents.extend([0.0] * 96)


def shared(message: pb.ModelInferRequest) -> None:
    """As tritonclient says that its input lies in shared memory."""
    parameters = message.inputs[0].parameters
    parameters["shared_memory_region"].string_param = "a region"
    parameters["shared_memory_byte_size"].int64_param = 384
    message.ClearField("raw_input_contents")


def typed_with(change: Change) -> Change:
    def apply(message: pb.ModelInferRequest) -> None:
        message.CopyFrom(typed())
        change(message)

    return apply


BAD = {
    "unknown model": (lambda m: setattr(m, "model_name", "nope"), NOT_FOUND, ["'nope'", "['toy']"]),
    "empty model": (lambda m: setattr(m, "model_name", ""), NOT_FOUND, ["''", "['toy']"]),
    "path as model": (lambda m: setattr(m, "model_name", "../toy"), NOT_FOUND, ["'../toy'"]),
    "unknown variant": (lambda m: setattr(m, "model_version", "nope"), NOT_FOUND, ["'toy'", "'nope'", *VARIANTS]),
    "path as variant": (lambda m: setattr(m, "model_version", "../toy/fp32-openvino"), NOT_FOUND, ["'../toy/"]),
    "triton's version": (lambda m: setattr(m, "model_version", "1"), NOT_FOUND, ["'1'", *VARIANTS]),
    "a very long name": (lambda m: setattr(m, "model_name", "x" * 100_000), NOT_FOUND, ["xxx"]),
    "wrong name": (lambda m: setattr(m.inputs[0], "name", "image"), INVALID, ["['image']", "expected ['input']"]),
    "a very long input name": (lambda m: setattr(m.inputs[0], "name", "x" * 100_000), INVALID, ["xxx"]),
    "no inputs": (lambda m: m.ClearField("inputs"), INVALID, ["got no tensors"]),
    "one input too many": (
        lambda m: (twice(m), setattr(m.inputs[1], "name", "other")),
        INVALID,
        ["got inputs ['input', 'other']", "expected ['input']"],
    ),
    "four inputs too many": (
        lambda m: [m.inputs.add(name=name, datatype="FP32") for name in "dcba"],
        INVALID,
        ["got inputs ['d', 'input'] and others", "expected ['input']"],
    ),
    "one name twice": (twice, INVALID, ["'input': got it twice"]),
    "wrong datatype": (tensor(toy.images(2).astype(np.float64)), INVALID, ["'input'", "FP64", "expected FP32"]),
    "integers": (tensor(toy.images(2).astype(np.int32)), INVALID, ["'input'", "INT32", "expected FP32"]),
    "unknown datatype": (lambda m: setattr(m.inputs[0], "datatype", "FP8"), INVALID, ["'input'", "'FP8'", "FP32"]),
    "empty datatype": (lambda m: setattr(m.inputs[0], "datatype", ""), INVALID, ["'input'", "''", "FP32"]),
    "bytes that are no BYTES": (
        lambda m: setattr(m.inputs[0], "datatype", "BYTES"),
        INVALID,
        ["'input'", "rank 4", "expected rank 1 as in [-1]"],
    ),
    "rank too low": (shaped(2, 48), INVALID, ["'input'", "[2, 48] of rank 2", "rank 4 as in [-1, 3, 4, 4]"]),
    "rank too high": (shaped(1, 2, 3, 4, 4), INVALID, ["'input'", "rank 5", "expected rank 4"]),
    "no shape": (shaped(), INVALID, ["'input'", "[] of rank 0", "rank 4 as in [-1, 3, 4, 4]"]),
    "rank beyond NumPy's": (shaped(*[1] * 65), INVALID, ["'input'", "rank 65", "at most 64"]),
    "a hundred thousand dimensions": (shaped(*[3] * 100_000), INVALID, ["'input'", "rank 100000", "at most 64"]),
    "wrong dimension": (shaped(2, 4, 3, 4), INVALID, ["'input'", "got shape [2, 4, 3, 4]", "expected [-1, 3, 4, 4]"]),
    "negative dimension": (shaped(-2, 3, 4, 4), INVALID, ["'input'", "[-2, 3, 4, 4]", "no negative dimension"]),
    "free dimension": (shaped(-1, 3, 4, 4), INVALID, ["'input'", "[-1, 3, 4, 4]", "no negative dimension"]),
    "huge dimension": (shaped(2**62, 3, 4, 4), INVALID, ["'input'", f"got batch {2**62}", "expected 1 to 4"]),
    "dimensions that overflow": (
        shaped(2**62, 2**62, 2, 2),
        INVALID,
        ["'input'", f"got shape [{2**62}, {2**62}, 2, 2]", "expected [-1, 3, 4, 4]"],
    ),
    "one byte too few": (
        lambda m: m.raw_input_contents.__setitem__(0, m.raw_input_contents[0][:-1]),
        INVALID,
        ["'input'", "got 383 bytes", "expected 384"],
    ),
    "one byte too many": (
        lambda m: m.raw_input_contents.__setitem__(0, m.raw_input_contents[0] + b"\0"),
        INVALID,
        ["'input'", "got 385 bytes", "expected 384"],
    ),
    "no contents": (lambda m: m.ClearField("raw_input_contents"), INVALID, ["'input'", "got 0 values", "96"]),
    "two raw contents for one input": (
        lambda m: m.raw_input_contents.append(b""),
        INVALID,
        ["got 2 raw contents for 1 tensors ['input']"],
    ),
    "raw and typed together": (mixed, INVALID, ["'input'", "raw and typed contents"]),
    "one value too few": (
        typed_with(lambda m: m.inputs[0].contents.fp32_contents.pop()),
        INVALID,
        ["'input'", "got 95 values", "expected 96"],
    ),
    "contents of another type": (
        typed_with(lambda m: m.inputs[0].contents.int_contents.append(1)),
        INVALID,
        ["'input'", "got int_contents", "expected fp32_contents"],
    ),
    "no rows": (rows(0), INVALID, ["'input'", "got batch 0", "expected 1 to 4"]),
    "no rows of huge images": (
        lambda m: (shaped(0, 2**62, 2**62, 4)(m), m.raw_input_contents.__setitem__(0, b"")),
        INVALID,
        ["'input'", f"got shape [0, {2**62}, {2**62}, 4]", "expected [-1, 3, 4, 4]"],
    ),
    "one row too many": (rows(5), INVALID, ["'input'", "got batch 5", "expected 1 to 4"]),
    "unknown output": (lambda m: m.outputs.add(name="boxes"), INVALID, ["'boxes'", "expected one of ['logits']"]),
    "one output twice": (
        lambda m: [m.outputs.add(name="logits"), m.outputs.add(name="logits")],
        INVALID,
        ["got 2 outputs", "at most one for each of ['logits']"],
    ),
    "no classes": (
        lambda m: setattr(m.outputs.add(name="logits").parameters["classification"], "int64_param", 0),
        INVALID,
        ["'logits'", "'classification'", "an int64 of at least 1"],
    ),
    "fewer than no classes": (
        lambda m: setattr(m.outputs.add(name="logits").parameters["classification"], "int64_param", -(2**63)),
        INVALID,
        ["'logits'", "'classification'", "an int64 of at least 1"],
    ),
    "a word of classes": (
        lambda m: setattr(m.outputs.add(name="logits").parameters["classification"], "string_param", "3"),
        INVALID,
        ["'logits'", "'classification'", "an int64 of at least 1"],
    ),
    "classes of nothing": (
        lambda m: m.outputs.add(name="logits").parameters["classification"].SetInParent(),
        INVALID,
        ["'logits'", "'classification'", "an int64 of at least 1"],
    ),
    "classes of an unknown output": (
        lambda m: setattr(m.outputs.add(name="boxes").parameters["classification"], "int64_param", 1),
        INVALID,
        ["'boxes'", "expected one of ['logits']"],
    ),
    "shared memory in": (
        shared,
        INVALID,
        ["'input'", "got shared memory, which is not supported", "expected raw or typed contents"],
    ),
    "images in shared memory": (
        lambda m: (shared(m), setattr(m.inputs[0], "datatype", "UINT8")),
        INVALID,
        ["'input'", "got shared memory, which is not supported", "expected raw or typed contents"],
    ),
    "shared memory out": (
        lambda m: setattr(m.outputs.add(name="logits").parameters["shared_memory_region"], "string_param", "x"),
        INVALID,
        ["'logits'", "got shared memory, which is not supported"],
    ),
    "message over the limit": (rows(1000), grpc.StatusCode.RESOURCE_EXHAUSTED, ["131072"]),
}


@pytest.mark.parametrize(("change", "code", "fragments"), BAD.values(), ids=BAD.keys())
def test_a_request_that_does_not_fit_is_told_why_and_the_server_goes_on(
    stub: GRPCInferenceServiceStub, change: Change, code: grpc.StatusCode, fragments: list[str]
) -> None:
    bad = request()
    change(bad)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(bad, timeout=10)
    assert (caught.value.code(), [f for f in fragments if f not in caught.value.details()]) == (code, [])
    assert_answers(stub)


def test_contents_are_not_decoded_before_the_model_is_known_to_take_them(
    stub: GRPCInferenceServiceStub,
) -> None:
    cut = b"\4\0\0\0abc"  # decoding would say that it ends inside an element
    for name, datatype, shape, text in [
        ("image", "BYTES", [1, 3, 4, 4], "got inputs ['image']"),
        ("input", "BYTES", [1, 3, 4, 4], "of rank 4"),
        ("input", "BYTES", [5], "got batch 5"),
        ("input", "FP64", [1, 3, 4, 4], "got datatype FP64"),
        ("input", "FP32", [1, 3, 4], "of rank 3"),
        ("input", "FP32", [1, 3, 4, 5], "got shape [1, 3, 4, 5]"),
        ("input", "FP32", [5, 3, 4, 4], "got batch 5"),
    ]:
        bad = pb.ModelInferRequest(model_name="toy", raw_input_contents=[cut])
        bad.inputs.add(name=name, datatype=datatype, shape=shape)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(bad, timeout=10)
        assert (caught.value.code(), text in caught.value.details()) == (INVALID, True)


def test_bytes_that_are_no_message_are_an_invalid_argument(
    server: ServerProcess, stub: GRPCInferenceServiceStub
) -> None:
    with connect(server.grpc_address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff\xff", timeout=10)
    assert caught.value.code() == INVALID
    assert_answers(stub)


def test_an_unknown_method_is_unimplemented(server: ServerProcess, stub: GRPCInferenceServiceStub) -> None:
    with connect(server.grpc_address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/TraceSetting")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert_answers(stub)


def test_nothing_of_all_this_was_a_fault_of_the_server(server: ServerProcess) -> None:
    assert "Traceback" not in server.log
    assert {value for (name, labels), value in server.metrics().items() if is_fault(name, labels)} == {0}


def is_fault(name: str, labels: tuple[tuple[str, str], ...]) -> bool:
    return name.endswith("_total") and bool({("code", "INTERNAL"), ("grpc_code", "INTERNAL")} & set(labels))
