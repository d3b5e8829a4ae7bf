"""Requests that nobody would think of: any message is answered, none is a fault of the server.

hypothesis builds ModelInferRequests near to valid ones (a right request with parts replaced), raw bytes on the
wire, and images with bytes changed. Each has to end with a code that is for what came, and the server has to
answer rightly afterwards. The examples are the same in each run, so that a failure is one for everybody.
"""

import io
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from protos.tensors import DTYPES, decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.support import toy
from tests.support.serving import ServerProcess, connect

EXPECTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,  # a message over the limit
}

bounded = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def through(front: str) -> pytest.MarkDecorator:
    """One door: what is made of a message that could be read is the same code behind both."""
    return pytest.mark.parametrize("front", [front], indirect=True)


def png() -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def jpeg() -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


PNG, JPEG = png(), jpeg()


@pytest.fixture(autouse=True)
def fine_afterwards(server: ServerProcess, stub: GRPCInferenceServiceStub) -> Iterator[None]:
    """After each test the server answers rightly, has logged no fault and counted none."""
    yield
    request = encode_request("toy", "", {"input": toy.images(2)})
    answer = decode_response(stub.ModelInfer(request, timeout=30))["logits"]
    np.testing.assert_allclose(answer, toy.answer(toy.images(2)), rtol=1e-5)
    assert "Traceback" not in server.log
    faults = [key for key, value in server.metrics().items() if value and {("code", "INTERNAL")} & set(key[1])]
    assert [key for key in faults if key[0].endswith("_total")] == []


def code(stub: GRPCInferenceServiceStub, request: pb.ModelInferRequest) -> grpc.StatusCode:
    try:
        stub.ModelInfer(request, timeout=30)
    except grpc.RpcError as error:
        ended: grpc.StatusCode = error.code()
        return ended
    return grpc.StatusCode.OK


names = st.sampled_from(["toy", "input", "logits", "", "fp32-onnxruntime", "../toy", "/etc/passwd", "\0"]) | st.text(
    max_size=20
)
datatypes = st.sampled_from([*DTYPES, "", "BF16", "fp32"])
dims = st.sampled_from([0, 1, 2, 3, 4, 5, 32, 48, -1, 2**31, 2**62, -(2**63), 2**63 - 1])
shapes = (
    st.lists(dims, max_size=6)
    | st.sampled_from([[1, 3, 4, 4], [2, 3, 4, 4], [1, 4, 4, 3], [1, 9, 7, 3], [1], [2], [1, 1], [2, 1]])
    | st.just([1] * 70)
)
prefixed = st.sampled_from([PNG, JPEG, b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]).map(
    lambda content: len(content).to_bytes(4, "little") + content
)
raw = (
    st.binary(max_size=64)
    | st.sampled_from([bytes(48), bytes(192), bytes(384), b"\xff" * 192, np.full(48, np.nan, "<f4").tobytes()])
    | st.lists(prefixed, max_size=3).map(b"".join)
)


@st.composite
def parameters(draw: st.DrawFn) -> dict[str, pb.InferParameter]:
    value = draw(
        st.builds(pb.InferParameter, int64_param=st.integers(-(2**63), 2**63 - 1))
        | st.builds(pb.InferParameter, string_param=st.text(max_size=5))
        | st.builds(pb.InferParameter, bool_param=st.booleans())
        | st.builds(pb.InferParameter, double_param=st.floats())
        | st.just(pb.InferParameter())
    )
    return {draw(st.sampled_from(["classification", "shared_memory_region", "binary_data", ""])): value}


contents = st.builds(
    pb.InferTensorContents,
    fp32_contents=st.lists(st.floats(width=32), max_size=4) | st.just([0.5] * 48),
    uint_contents=st.lists(st.integers(0, 2**32 - 1), max_size=3) | st.just([7] * 48),
    bytes_contents=st.lists(st.sampled_from([PNG, JPEG, b""]) | st.binary(max_size=9), max_size=3),
    bool_contents=st.lists(st.booleans(), max_size=2),
    int64_contents=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2),
    fp64_contents=st.lists(st.floats(), max_size=2),
)
inputs = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=st.just("input") | names,
    datatype=st.sampled_from(["FP32", "UINT8", "BYTES"]) | datatypes,
    shape=shapes,
    parameters=st.just({}) | parameters(),
    contents=st.none() | contents,
)
outputs = st.builds(
    pb.ModelInferRequest.InferRequestedOutputTensor,
    name=st.just("logits") | names,
    parameters=st.just({}) | parameters(),
)
requests = st.builds(
    pb.ModelInferRequest,
    model_name=st.just("toy") | names,
    model_version=st.just("") | names,
    id=st.text(max_size=10),
    parameters=st.just({}) | parameters(),
    inputs=st.lists(inputs, max_size=3),
    outputs=st.lists(outputs, max_size=2),
    raw_input_contents=st.lists(raw, max_size=3),
)


@through("grpcio")
@bounded
@given(request=requests)
def test_any_request_is_answered_with_a_code_for_what_came(
    stub: GRPCInferenceServiceStub, request: pb.ModelInferRequest
) -> None:
    assert code(stub, request) in EXPECTED


def elements(*contents: bytes) -> np.ndarray:
    array = np.empty(len(contents), np.object_)
    array[:] = contents
    return array


BASES = [
    encode_request("toy", "", {"input": array})
    for array in (toy.images(1), toy.images(4), np.zeros((2, 9, 7, 3), np.uint8), elements(PNG, JPEG), elements(PNG))
]


@st.composite
def nearly_right(draw: st.DrawFn) -> pb.ModelInferRequest:
    """A right request, raw or typed, of which up to two parts are replaced."""
    request = pb.ModelInferRequest()
    request.CopyFrom(draw(st.sampled_from(BASES)))
    (tensor,) = request.inputs
    for part in draw(st.lists(st.sampled_from(PARTS), max_size=2)):
        if part == "name":
            tensor.name = draw(names)
        elif part == "model":
            request.model_name, request.model_version = draw(st.tuples(names, names))
        elif part == "datatype":
            tensor.datatype = draw(datatypes)
        elif part == "shape":
            tensor.shape[:] = draw(shapes)
        elif part == "dimension" and tensor.shape:
            tensor.shape[draw(st.integers(0, len(tensor.shape) - 1))] = draw(dims)
        elif part == "raw":
            request.raw_input_contents[:] = draw(st.lists(raw, max_size=2))
        elif part == "contents":
            tensor.contents.CopyFrom(draw(contents))
        elif part == "typed":
            request.ClearField("raw_input_contents")
            tensor.contents.CopyFrom(draw(contents))
        elif part == "parameters":
            tensor.parameters["shared_memory_region"].CopyFrom(pb.InferParameter(string_param=draw(st.text())))
        elif part == "outputs":
            request.outputs.extend(draw(st.lists(outputs, min_size=1, max_size=2)))
        elif part == "inputs":
            request.inputs.append(draw(inputs))
    return request


PARTS = ["name", "model", "datatype", "shape", "dimension", "dimension", "raw", "contents", "typed", "parameters"]
PARTS += ["outputs", "outputs", "inputs"]


@through("native")
@bounded
@given(request=nearly_right())
def test_any_request_that_is_nearly_right_is_too(stub: GRPCInferenceServiceStub, request: pb.ModelInferRequest) -> None:
    assert code(stub, request) in EXPECTED


@bounded
@given(message=st.binary(max_size=300))
def test_any_bytes_in_the_place_of_a_message_are_too(server: ServerProcess, message: bytes) -> None:
    with connect(server.grpc_address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer").future(message, timeout=30)
        assert call.code() in EXPECTED


@through("grpcio")
@bounded
@given(
    content=st.sampled_from([PNG, JPEG]),
    changes=st.lists(st.tuples(st.integers(2, 900), st.integers(0, 255)), min_size=1, max_size=3),
    cut=st.just(10_000) | st.integers(1, 900),
)
def test_a_damaged_image_is_read_or_refused(
    stub: GRPCInferenceServiceStub, content: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(content)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    ended = code(stub, encode_request("toy", "", {"input": elements(bytes(damaged[:cut]))}))
    assert ended in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
