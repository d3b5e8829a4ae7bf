"""Wire tensors: exact bytes, and one clear error for each way in which a request can contradict itself."""

from collections.abc import Callable

import numpy as np
import pytest

from protos.errors import InvalidInputError
from protos.manifest import TensorSpec
from protos.tensors import check, decode_request, decode_response, encode_request, encode_response, to_raw
from protos.v1 import inference_pb2 as pb

SPECS = (TensorSpec("image", "FP32", (-1, 2, 3)),)


def request(datatype: str, shape: list[int], raw: bytes | None = None, **contents: object) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest()
    tensor = message.inputs.add(name="image", datatype=datatype, shape=shape)
    if raw is not None:
        message.raw_input_contents.append(raw)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return message


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])
def test_every_numeric_datatype_survives_the_wire(dtype: str) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    decoded = decode_request(encode_request("m", "v", {"image": array}))["image"]
    assert decoded.dtype == array.dtype
    np.testing.assert_array_equal(decoded, array)


def test_raw_contents_are_little_endian_and_row_major() -> None:
    assert to_raw(np.array([[1, 2], [3, 4]], ">i2").T) == bytes([1, 0, 3, 0, 2, 0, 4, 0])


def test_decoding_raw_contents_copies_nothing() -> None:
    raw = np.arange(6, dtype=np.float32).tobytes()
    assert not decode_request(request("FP32", [1, 2, 3], raw))["image"].flags.owndata


def test_bytes_elements_carry_their_lengths() -> None:
    array = np.empty(2, np.object_)
    array[:] = [b"", b"abc"]
    assert to_raw(array) == b"\0\0\0\0\3\0\0\0abc"
    assert decode_request(encode_request("m", "", {"image": array}))["image"].tolist() == [b"", b"abc"]


def test_typed_contents_are_accepted() -> None:
    decoded = decode_request(request("UINT8", [1, 3], uint_contents=[7, 8, 9]))["image"]
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == [[7, 8, 9]]


def test_a_response_names_the_variant_that_answered() -> None:
    response = encode_response("m", "int8-openvino", {"logits": np.float32([[1, 2]])}, "42")
    assert (response.model_name, response.model_version, response.id) == ("m", "int8-openvino", "42")
    assert decode_response(response)["logits"].tolist() == [[1, 2]]


BAD = {
    "no inputs": (pb.ModelInferRequest(), "got no tensors"),
    "one byte too few": (request("FP32", [1, 2, 3], bytes(23)), "got 23 bytes, expected 24"),
    "one byte too many": (request("FP32", [1, 2, 3], bytes(25)), "got 25 bytes, expected 24"),
    "negative dimension": (request("FP32", [-1, 2, 3], bytes(24)), r"got shape \[-1, 2, 3\]"),
    "huge dimensions": (request("FP32", [2**62, 2**62], bytes(24)), "got 24 bytes, expected 8507"),
    "huge but empty": (request("FP32", [0, 2**62, 2**62], b""), "which is too large"),
    "rank beyond NumPy": (request("FP32", [0] * 100, b""), "got rank 100, expected at most 64"),
    "unknown datatype": (request("FP8", [1], b"1"), "got datatype 'FP8'"),
    "typed values too few": (request("FP32", [1, 2, 3], fp32_contents=[1.0]), "got 1 values, expected 6"),
    "typed of another type": (request("FP32", [1], int_contents=[1]), "got int_contents, expected fp32_contents"),
    "value out of range": (request("UINT8", [1], uint_contents=[256]), "UINT8 cannot hold"),
    "FP16 typed": (request("FP16", [1], fp32_contents=[1.0]), "expected raw contents"),
    "raw and typed": (request("FP32", [1], bytes(4), fp32_contents=[1.0]), "got raw and typed contents"),
    "BYTES cut": (request("BYTES", [1], b"\4\0\0\0abc"), "end inside a BYTES element"),
    "BYTES too many": (request("BYTES", [1], b"\0\0\0\0" * 2), "more than the 1 BYTES elements of its shape"),
    "BYTES length cut": (request("BYTES", [2], b"\0\0\0\0\0"), "end inside a BYTES element"),
    "BYTES count": (request("BYTES", [2], b"\1\0\0\0a"), "got 1 BYTES elements, expected 2"),
}


@pytest.mark.parametrize(("message", "text"), BAD.values(), ids=BAD.keys())
def test_a_contradiction_is_named(message: pb.ModelInferRequest, text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        decode_request(message)


def test_an_empty_message_of_typed_contents_is_none() -> None:
    message = request("FP32", [1], np.float32(7).tobytes())
    message.inputs[0].contents.SetInParent()
    assert decode_request(message)["image"].tolist() == [7.0]


def test_a_name_that_comes_twice_is_named() -> None:
    message = request("FP32", [1], bytes(4))
    message.inputs.append(message.inputs[0])
    message.raw_input_contents.append(bytes(4))
    with pytest.raises(InvalidInputError, match="'image': got it twice"):
        decode_request(message)


def test_raw_contents_must_be_one_for_each_input() -> None:
    message = request("FP32", [1], bytes(4))
    message.raw_input_contents.append(bytes(4))
    with pytest.raises(InvalidInputError, match=r"got 2 raw contents for 1 tensors \['image'\]"):
        decode_request(message)


def test_check_counts_the_rows() -> None:
    assert check(encode_request("m", "", {"image": np.zeros((5, 2, 3), np.float32)}), SPECS, max_batch=8) == 5


def renamed(message: pb.ModelInferRequest) -> None:
    message.inputs[0].name = "picture"


def doubled(message: pb.ModelInferRequest) -> None:
    message.inputs.append(message.inputs[0])


def crowded(message: pb.ModelInferRequest) -> None:
    for index in range(1000):
        message.inputs.add(name=str(index), datatype="FP32")


def typed(datatype: str) -> Callable[[pb.ModelInferRequest], None]:
    return lambda message: setattr(message.inputs[0], "datatype", datatype)


def shaped(*shape: int) -> Callable[[pb.ModelInferRequest], None]:
    return lambda message: message.inputs[0].shape.__setitem__(slice(None), shape)


MISFITS = {
    "no inputs": (lambda m: m.ClearField("inputs"), "got no tensors"),
    "name": (renamed, r"got inputs \['picture'\], expected \['image'\]"),
    "name twice": (doubled, "'image': got it twice"),
    "too many": (crowded, r"got inputs \['0', 'image'\] and others, expected \['image'\]"),
    "unknown datatype": (typed("FP8"), "got datatype 'FP8', expected one of BOOL"),
    "datatype": (typed("FP64"), "got datatype FP64, expected FP32"),
    "no rank": (shaped(), r"got shape \[\] of rank 0, expected rank 3"),
    "rank": (shaped(1, 6), "rank 2, expected rank 3"),
    "rank beyond NumPy": (shaped(*[1] * 100), "got rank 100, expected at most 64"),
    "dimension": (shaped(1, 2, 4), r"got shape \[1, 2, 4\], expected \[-1, 2, 3\]"),
    "negative dimension": (shaped(-1, 2, 3), r"got shape \[-1, 2, 3\], expected no negative dimension"),
    "no rows": (shaped(0, 2, 3), "got batch 0, expected 1 to 8"),
    "too many rows": (shaped(9, 2, 3), "got batch 9, expected 1 to 8"),
    "huge batch": (shaped(2**62, 2, 3), "got batch 4611686018427387904, expected 1 to 8"),
}


@pytest.mark.parametrize(("change", "text"), MISFITS.values(), ids=MISFITS.keys())
def test_a_header_that_the_model_does_not_take_is_named_whatever_the_contents(
    change: Callable[[pb.ModelInferRequest], None], text: str
) -> None:
    message = request("FP32", [1, 2, 3], b"contents of no tensor")
    change(message)
    with pytest.raises(InvalidInputError, match=text):
        check(message, SPECS, max_batch=8)


def test_inputs_with_different_numbers_of_rows_are_named() -> None:
    specs = (TensorSpec("a", "FP32", (-1, 1)), TensorSpec("b", "FP32", (-1, 1)))
    message = encode_request("m", "", {"a": np.zeros((1, 1), np.float32), "b": np.zeros((2, 1), np.float32)})
    with pytest.raises(InvalidInputError, match=r"got rows \{'a': 1, 'b': 2\}, expected one number of rows"):
        check(message, specs, max_batch=8)
