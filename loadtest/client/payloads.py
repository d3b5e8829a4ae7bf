"""Requests made ahead of the load, and what their answers must look like.

A payload is the serialized request for one variant and one input, so that sending one costs no encoding. Inputs are
the model's golden ones where the repository holds them: real images, as tensors, pixels or JPEG files. Another model
(a foreign server's) gets random tensors of the shapes that its metadata declares.

An answer is checked as far as that is cheap: its variant, the names and shapes of its outputs, the bytes in each.
Whether the numbers are right is not checked here.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from loadtest.plan import Form
from protos.errors import IntegrityError, UsageError
from protos.repository import GOLDEN, load_golden, scan_model
from protos.tensors import DTYPES, MAX_RANK, Array, encode_request
from protos.v1 import inference_pb2 as pb

Source = Literal["golden", "synthetic"]

SYNTHETIC_INPUTS = 8
"""A model without golden inputs gets this many random ones."""

MOST_ELEMENTS = 2**24
"""Most elements of one random input: as FP32 they fill the largest message that is sent."""

DEFAULT_VARIANT = "(default)"
"""Name in results of the only variant of a server without versions. Requests for it have an empty version."""


@dataclass(frozen=True)
class Payload:
    """One serialized request and what its answer must look like."""

    variant: str
    request: bytes
    rows: int
    outputs: dict[str, tuple[int, ...]]
    """Shape of each output as the metadata declares it, -1 for a free dimension."""
    label: str = ""
    """Name in results, where that is not the variant's."""

    @property
    def name(self) -> str:
        """Returns the name in results."""
        return self.label or self.variant

    def fault(self, response: pb.ModelInferResponse) -> str | None:
        """Returns what is wrong with an answer, or None."""
        if self.variant not in (response.model_version, DEFAULT_VARIANT):
            return f"variant '{response.model_version}' answered, expected '{self.variant}'"
        if (names := {output.name for output in response.outputs}) != self.outputs.keys():
            return f"got outputs {sorted(names)}, expected {sorted(self.outputs)}"
        raw = response.raw_output_contents
        if raw and len(raw) != len(response.outputs):
            return f"got {len(raw)} raw contents, expected one for each of {len(response.outputs)} outputs"
        for index, output in enumerate(response.outputs):
            shape, declared = tuple(output.shape), self.outputs[output.name]
            if not _fits(shape, declared, self.rows):
                return f"output '{output.name}': got shape {list(shape)}, expected {list(declared)}, rows {self.rows}"
            if raw and not _filled(output.datatype, shape, raw[index]):
                return f"output '{output.name}': got {len(raw[index])} bytes, expected {output.datatype} {list(shape)}"
        return None


@dataclass(frozen=True)
class Inputs:
    """Inputs by name, one dictionary for each request, and where they come from."""

    source: Source
    tensors: list[dict[str, Array]]


def wire_version(variant: str) -> str:
    """Returns the `model_version` that asks for a variant."""
    return "" if variant == DEFAULT_VARIANT else variant


def make_inputs(
    model: str, metadata: pb.ModelMetadataResponse, repository: Path, seed: int, rows: int = 1, form: Form = "tensor"
) -> Inputs:
    """Makes inputs of `rows` rows each for a model: golden ones if the repository has the model, else synthetic.

    Raises `UsageError` where golden inputs are damaged, missing or unfit, or the metadata says too little.
    """
    if not (repository / model / GOLDEN).is_file():
        if form != "tensor":
            raise UsageError(f"--form: '{form}' needs golden inputs of '{model}' in '{repository}': images")
        random = np.random.default_rng(seed)
        return Inputs("synthetic", [_synthetic(metadata, random, rows) for _ in range(SYNTHETIC_INPUTS)])
    try:
        golden = load_golden(repository, model).inputs
    except IntegrityError as error:
        raise UsageError(str(error)) from error
    if len(metadata.inputs) != 1 or not _fits(golden.shape, tuple(metadata.inputs[0].shape), len(golden)):
        raise UsageError(
            f"golden inputs in '{repository / model}' have shape {list(golden.shape)},"
            f" but the server's '{model}' takes {[(each.name, list(each.shape)) for each in metadata.inputs]}"
        )
    made = golden if form == "tensor" else _images(form, golden, repository, model)
    chosen = (np.arange(first, first + rows) % len(golden) for first in range(len(golden)))
    return Inputs("golden", [{metadata.inputs[0].name: made[rows_of_one]} for rows_of_one in chosen])


def _images(form: Form, golden: Array, repository: Path, model: str) -> Array:
    """Returns the images that the manifest's preprocessing made the golden inputs (N, 3, H, W) of.

    They are uint8 pixels (N, H, W, 3), or JPEG files (N) of bytes.
    """
    how = next((entry.variant.preprocessing for entry in scan_model(repository, model) if entry.variant), None)
    if how is None:
        raise UsageError(f"--form: no variant of '{model}' in '{repository}' says how its inputs are made of images")
    if golden.ndim != 4 or golden.shape[1] != len(how.mean):
        raise UsageError(f"--form: golden inputs of '{model}' have shape {list(golden.shape)}, which are no images")
    mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (how.mean, how.std))
    pixels = ((golden * std + mean) * 255).round().clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    if form == "pixels":
        return pixels
    files = np.empty(len(pixels), np.object_)
    for i, each in enumerate(pixels):
        Image.fromarray(each).save(file := io.BytesIO(), "JPEG", quality=95)
        files[i] = file.getvalue()
    return files


def make_payloads(
    model: str, variant: str, metadata: pb.ModelMetadataResponse, inputs: Inputs, label: str = ""
) -> list[Payload]:
    """Makes one payload for each input."""
    outputs, payloads = {output.name: tuple(output.shape) for output in metadata.outputs}, []
    for tensors in inputs.tensors:
        request = encode_request(model, wire_version(variant), tensors).SerializeToString()
        payloads.append(Payload(variant, request, len(next(iter(tensors.values()))), outputs, label))
    return payloads


def _synthetic(metadata: pb.ModelMetadataResponse, random: np.random.Generator, rows: int) -> dict[str, Array]:
    if not metadata.inputs:
        raise UsageError(f"the metadata of '{metadata.name}' declares no inputs: golden inputs are needed")
    shapes = {tensor.name: _shape(tensor.name, tensor.shape, rows) for tensor in metadata.inputs}
    if (elements := sum(map(math.prod, shapes.values()))) > MOST_ELEMENTS:
        raise UsageError(f"an input of '{metadata.name}' has {elements} elements, expected at most {MOST_ELEMENTS}")
    return {t.name: _random(t.name, t.datatype, shapes[t.name], random) for t in metadata.inputs}


def _shape(name: str, shape: Sequence[int], rows: int) -> tuple[int, ...]:
    if len(shape) > MAX_RANK or min(shape, default=0) < -1:
        raise UsageError(f"input '{name}': the shape {list(shape[:MAX_RANK])} is not one that a tensor can have")
    if -1 in shape[1:]:
        raise UsageError(
            f"input '{name}': shape {list(shape)} leaves more than the batch open: golden inputs are needed"
        )
    if rows > 1 and shape[0] != -1:
        raise UsageError(f"input '{name}': shape {list(shape)} has no free batch, which {rows} rows need")
    return tuple(rows if dim == -1 else dim for dim in shape)


def _random(name: str, datatype: str, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Returns values that any model accepts: 0..1 for floats, 0..255 for bytes, 0 or 1 for what may be an index."""
    if datatype not in DTYPES:
        raise UsageError(f"input '{name}': datatype '{datatype}' is not one that random data can be made for")
    dtype = DTYPES[datatype]
    if dtype == np.object_:
        return np.full(shape, b"text", np.object_)
    if dtype.kind == "f":
        return random.random(shape).astype(dtype)
    return random.integers(0, 256 if datatype == "UINT8" else 2, shape).astype(dtype)


def _fits(shape: tuple[int, ...], declared: tuple[int, ...], rows: int) -> bool:
    """Whether `shape` is the declared one, with `rows` in place of a free first dimension."""
    if len(shape) != len(declared):
        return False
    wanted = (rows, *declared[1:]) if declared and declared[0] == -1 else declared
    return all(want in (-1, got) for got, want in zip(shape, wanted, strict=True))


def _filled(datatype: str, shape: tuple[int, ...], raw: bytes) -> bool:
    dtype = DTYPES.get(datatype)
    return dtype is None or dtype == np.object_ or len(raw) == math.prod(shape) * dtype.itemsize
