"""NumPy arrays to wire tensors and back, as the Open Inference Protocol lays them out.

Raw contents are little-endian, row-major buffers: decoding one is a view, not a copy. Clients may send typed contents
(`fp32_contents` and its kin) instead. `check` compares a request's headers (name, datatype, shape) with what a model
expects; `decode_request` compares its contents with the headers. Every `InvalidInputError` names the tensor, what it
got and what it expected.
Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_grpc.md
"""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protos.errors import InvalidInputError
from protos.manifest import TensorSpec
from protos.v1 import inference_pb2 as pb

Array = NDArray[Any]
Header = tuple[str, tuple[int, ...]]
"""Datatype and shape of one tensor, as the request says them."""
_Tensors = Sequence[pb.ModelInferRequest.InferInputTensor] | Sequence[pb.ModelInferResponse.InferOutputTensor]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    "BYTES": np.dtype(np.object_),
}
"""OIP datatype to NumPy dtype. BYTES is an object array of `bytes`."""

SHARED_MEMORY = "shared_memory_region"
"""The parameter with which Triton's clients say that a tensor's contents are, or shall be, elsewhere."""

MAX_RANK = 64
"""The most dimensions that NumPy can hold."""

_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}

CONTENTS_FIELD = {
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **{name: f"{name.lower()}_contents" for name in ("BOOL", "UINT64", "INT64", "FP32", "FP64", "BYTES")},
}
"""OIP datatype to the field of `InferTensorContents` that holds it; FP16 has none."""


def datatype_of(array: Array) -> str:
    """Returns the OIP datatype of an array; raises `TypeError` for a dtype that the protocol does not have."""
    try:
        return _DATATYPES.get(array.dtype) or _DATATYPES[array.dtype.newbyteorder("<")]
    except KeyError:
        raise TypeError(f"the Open Inference Protocol has no datatype for {array.dtype}") from None


def to_raw(array: Array) -> bytes:
    """Returns one tensor's raw contents: little-endian, row-major; BYTES elements with their lengths."""
    if array.dtype == np.object_:
        return b"".join(struct.pack("<I", len(item)) + item for item in array.ravel())
    if array.dtype not in _DATATYPES:  # big-endian
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.tobytes()


def decode_request(request: pb.ModelInferRequest) -> dict[str, Array]:
    """Returns the named inputs of a request, as read-only views of its bytes where its contents are raw.

    Raises `InvalidInputError` where its headers are not sound, or its contents do not fit them.
    """
    return _contents(request.inputs, _headers(request.inputs), request.raw_input_contents)


def decode_response(response: pb.ModelInferResponse) -> dict[str, Array]:
    """Returns the named outputs of a response; errors as in `decode_request`."""
    return _contents(response.outputs, _headers(response.outputs), response.raw_output_contents)


def encode_request(model: str, variant: str, inputs: dict[str, Array], request_id: str = "") -> pb.ModelInferRequest:
    """Returns a request with raw contents; an empty variant asks for the model's default."""
    request = pb.ModelInferRequest(model_name=model, model_version=variant, id=request_id)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        request.raw_input_contents.append(to_raw(array))
    return request


def encode_response(model: str, variant: str, outputs: dict[str, Array], request_id: str = "") -> pb.ModelInferResponse:
    """Returns a response with raw contents that names the variant which answered."""
    response = pb.ModelInferResponse(model_name=model, model_version=variant, id=request_id)
    for name, array in outputs.items():
        response.outputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        response.raw_output_contents.append(to_raw(array))
    return response


def check(request: pb.ModelInferRequest, specs: Sequence[TensorSpec], max_batch: int) -> int:
    """Returns the rows that a request says it holds; `InvalidInputError` where its inputs are not `specs`.

    Looks at the headers only, so that contents which the model does not take are never decoded: its cost grows with
    `specs`, not with the request. All inputs must have one number of rows, between 1 and `max_batch`.
    """
    return _check(request, specs, max_batch)[0]


def read(request: pb.ModelInferRequest, specs: Sequence[TensorSpec], max_batch: int) -> tuple[int, dict[str, Array]]:
    """Returns the rows and the named inputs of a request: `check`, then `decode_request`, reading the headers once."""
    rows, headers = _check(request, specs, max_batch)
    return rows, _contents(request.inputs, headers, request.raw_input_contents)


def _check(request: pb.ModelInferRequest, specs: Sequence[TensorSpec], max_batch: int) -> tuple[int, dict[str, Header]]:
    headers = _headers(request.inputs[: len(specs) + 1])  # one too many is enough to know
    expected = {spec.name: spec for spec in specs}
    if headers.keys() != expected.keys():
        more = " and others" if len(request.inputs) > len(headers) else ""
        raise InvalidInputError(f"got inputs {sorted(headers)}{more}, expected {sorted(expected)}")
    rows = {spec.name: _fitting_rows(spec, *headers[spec.name]) for spec in specs}
    batch = rows[specs[0].name]
    if len(rows) > 1 and len(set(rows.values())) != 1:
        raise InvalidInputError(f"got rows {rows}, expected one number of rows in all inputs")
    if not 1 <= batch <= max_batch:
        raise InvalidInputError(f"input '{specs[0].name}': got batch {batch}, expected 1 to {max_batch}")
    return batch, headers


def _fitting_rows(spec: TensorSpec, datatype: str, shape: tuple[int, ...]) -> int:
    if datatype != spec.datatype:
        raise InvalidInputError(f"input '{spec.name}': got datatype {datatype}, expected {spec.datatype}")
    if shape and shape[1:] == spec.shape[1:] and spec.shape[0] == -1:  # nearly always, and quickly found
        return shape[0]
    if len(shape) != len(spec.shape):
        raise InvalidInputError(
            f"input '{spec.name}': got shape {list(shape)} of rank {len(shape)},"
            f" expected rank {len(spec.shape)} as in {list(spec.shape)}"
        )
    if any(want not in (-1, got) for got, want in zip(shape, spec.shape, strict=True)):
        raise InvalidInputError(
            f"input '{spec.name}': got shape {list(shape)}, expected {list(spec.shape)} (-1 is free)"
        )
    return shape[0]


def _contents(tensors: _Tensors, headers: dict[str, Header], raw_contents: Sequence[bytes]) -> dict[str, Array]:
    if raw_contents:
        # An empty message is no contents: MLServer sends one beside the raw contents of each output.
        if typed := [t.name for t in tensors if t.HasField("contents") and t.contents.ByteSize()]:
            raise InvalidInputError(f"tensor '{typed[0]}': got raw and typed contents, expected one kind")
        if len(raw_contents) != len(tensors):
            raise InvalidInputError(
                f"got {len(raw_contents)} raw contents for {len(tensors)} tensors"
                f" {[tensor.name for tensor in tensors]}, expected one for each"
            )
        return {name: _from_raw(name, *headers[name], raw) for name, raw in zip(headers, raw_contents, strict=True)}
    return {tensor.name: _from_typed(tensor.name, *headers[tensor.name], tensor.contents) for tensor in tensors}


def _headers(tensors: _Tensors) -> dict[str, Header]:
    if not tensors:
        raise InvalidInputError("got no tensors, expected at least one")
    headers: dict[str, Header] = {}
    for tensor in tensors:
        name, datatype, dims = tensor.name, tensor.datatype, tensor.shape  # a field is not free to read
        if SHARED_MEMORY in tensor.parameters:
            raise InvalidInputError(
                f"tensor '{name}': got shared memory, which is not supported, expected raw or typed contents"
            )
        if name in headers:
            raise InvalidInputError(f"tensor '{name}': got it twice, expected once")
        if datatype not in DTYPES:
            raise InvalidInputError(f"tensor '{name}': got datatype '{datatype}', expected one of {', '.join(DTYPES)}")
        if (rank := len(dims)) > MAX_RANK:  # before they are read: a message has room for millions
            raise InvalidInputError(f"tensor '{name}': got rank {rank}, expected at most {MAX_RANK}")
        shape = tuple(dims[:])  # a copy is read faster than the field
        if shape and min(shape) < 0:
            raise InvalidInputError(f"tensor '{name}': got shape {list(shape)}, expected no negative dimension")
        headers[name] = datatype, shape
    return headers


def _from_raw(name: str, datatype: str, shape: tuple[int, ...], raw: bytes) -> Array:
    if datatype == "BYTES":
        return _bytes_array(name, shape, _split_bytes(name, raw, math.prod(shape)))
    dtype = DTYPES[datatype]
    expected = math.prod(shape) * dtype.itemsize  # Python integers: huge dimensions cannot overflow
    if len(raw) != expected:
        raise InvalidInputError(
            f"tensor '{name}': got {len(raw)} bytes, expected {expected} for {datatype} {list(shape)}"
        )
    return _reshape(name, np.frombuffer(raw, dtype), shape)


def _from_typed(name: str, datatype: str, shape: tuple[int, ...], contents: pb.InferTensorContents) -> Array:
    field = CONTENTS_FIELD.get(datatype)
    if field is None:
        raise InvalidInputError(f"tensor '{name}': {datatype} has no typed contents, expected raw contents")
    if foreign := [other.name for other, _ in contents.ListFields() if other.name != field]:
        raise InvalidInputError(f"tensor '{name}': got {foreign[0]}, expected {field} for {datatype}")
    values = getattr(contents, field)
    if datatype == "BYTES":
        return _bytes_array(name, shape, list(values))
    if len(values) != math.prod(shape):
        raise InvalidInputError(
            f"tensor '{name}': got {len(values)} values, expected {math.prod(shape)} for shape {list(shape)}"
        )
    wide = np.array(values)
    array = wide.astype(DTYPES[datatype])
    if array.dtype.kind in "iu" and (array != wide).any():
        raise InvalidInputError(f"tensor '{name}': got a value that {datatype} cannot hold")
    return _reshape(name, array, shape)


def _reshape(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    try:
        return array.reshape(shape)
    except ValueError:  # zero elements, but a rank or a dimension beyond what NumPy can hold
        raise InvalidInputError(f"tensor '{name}': got shape {list(shape)}, which is too large") from None


def _bytes_array(name: str, shape: tuple[int, ...], items: list[bytes]) -> Array:
    if len(items) != math.prod(shape):
        raise InvalidInputError(
            f"tensor '{name}': got {len(items)} BYTES elements, expected {math.prod(shape)} for shape {list(shape)}"
        )
    array = np.empty(len(items), np.object_)
    array[:] = items
    return _reshape(name, array, shape)


def _split_bytes(name: str, raw: bytes, count: int) -> list[bytes]:
    items: list[bytes] = []
    offset = 0
    while offset < len(raw):
        if len(items) == count:  # a message has room for millions of empty ones
            raise InvalidInputError(f"tensor '{name}': got more than the {count} BYTES elements of its shape")
        end = offset + 4
        length = int.from_bytes(raw[offset:end], "little")
        if end + length > len(raw):
            raise InvalidInputError(f"tensor '{name}': got {len(raw)} bytes, which end inside a BYTES element")
        items.append(raw[end : end + length])
        offset = end + length
    return items
