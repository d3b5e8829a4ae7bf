"""Requests made ahead of the load, and what their answers must look like.

A payload is the serialized request for one variant and one input, so that sending one costs no encoding.
Inputs are the model's golden ones where the repository holds them: real images, as the tensors that the model
takes, or as the pixels or the JPEG files that our server makes tensors of. A model that is not in the repository
(a foreign server's) gets random tensors of the shapes that its metadata declares.

An answer is checked as far as that is cheap: the variant that answered, names and shapes of the outputs,
bytes in each. Whether the numbers are right is not checked here.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from loadtest.plan import Form
from protos.errors import IntegrityError, UsageError
from protos.manifest import Preprocessing
from protos.repository import GOLDEN, load_golden, scan
from protos.tensors import DTYPES, MAX_RANK, Array, encode_request
from protos.v1 import inference_pb2 as pb

Source = Literal["golden", "synthetic"]

SYNTHETIC_INPUTS = 8
"""Different random inputs made for a model without golden ones."""

MOST_ELEMENTS = 2**24
"""Elements of one made-up row, over all inputs: FP32 that many fill the largest message that is sent."""

DEFAULT_VARIANT = "(default)"
"""How the only variant of a server without versions is called in results; the wire has an empty version."""


@dataclass(frozen=True)
class Payload:
    """One serialized request and what its answer must look like."""

    variant: str
    request: bytes
    rows: int
    outputs: dict[str, tuple[int, ...]]
    """Shape of each output as the metadata declares it, -1 for a free dimension."""
    label: str = ""
    """What it is called in results, where that is not the variant's name."""

    @property
    def name(self) -> str:
        """What it is called in results."""
        return self.label or self.variant

    def fault(self, response: pb.ModelInferResponse) -> str | None:
        """What is wrong with an answer, or None."""
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
    """The `model_version` that asks for a variant."""
    return "" if variant == DEFAULT_VARIANT else variant


def make_inputs(
    model: str, metadata: pb.ModelMetadataResponse, repository: Path, seed: int, rows: int = 1, form: Form = "tensor"
) -> Inputs:
    """Inputs of `rows` rows each for a model: golden ones of the repository if it has the model, else synthetic.

    `UsageError` where golden inputs are there but damaged or not the ones that the server's model takes, where
    the metadata leaves open what a valid input is, and where images are asked for and there are none.
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
    made = _FORMS[form](golden, repository, model)
    chosen = (np.arange(first, first + rows) % len(golden) for first in range(len(golden)))
    return Inputs("golden", [{metadata.inputs[0].name: made[rows_of_one]} for rows_of_one in chosen])


def _tensors(golden: Array, repository: Path, model: str) -> Array:
    return golden


def _pixels(golden: Array, repository: Path, model: str) -> Array:
    """uint8 (N, H, W, 3): what the manifest's preprocessing made the golden inputs (N, 3, H, W) of."""
    how = _preprocessing(repository, model)
    if golden.ndim != 4 or golden.shape[1] != len(how.mean):
        raise UsageError(f"--form: golden inputs of '{model}' have shape {list(golden.shape)}, which are no images")
    mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (how.mean, how.std))
    return ((golden * std + mean) * 255).round().clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def _jpeg(golden: Array, repository: Path, model: str) -> Array:
    """Files, (N) of bytes."""
    files = np.empty(len(golden), np.object_)
    for i, pixels in enumerate(_pixels(golden, repository, model)):
        Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=95)
        files[i] = file.getvalue()
    return files


_FORMS: dict[Form, Callable[[Array, Path, str], Array]] = {"tensor": _tensors, "pixels": _pixels, "jpeg": _jpeg}


def _preprocessing(repository: Path, model: str) -> Preprocessing:
    for entry in scan(repository):
        if entry.model == model and entry.variant:
            return entry.variant.preprocessing
    raise UsageError(f"--form: no variant of '{model}' in '{repository}' says how its inputs are made of images")


def make_payloads(
    model: str, variant: str, metadata: pb.ModelMetadataResponse, inputs: Inputs, label: str = ""
) -> list[Payload]:
    """One payload for each input."""
    outputs = {output.name: tuple(output.shape) for output in metadata.outputs}
    requests = ((encode_request(model, wire_version(variant), tensors), tensors) for tensors in inputs.tensors)
    return [
        Payload(variant, request.SerializeToString(), len(next(iter(tensors.values()))), outputs, label)
        for request, tensors in requests
    ]


def _synthetic(metadata: pb.ModelMetadataResponse, random: np.random.Generator, rows: int) -> dict[str, Array]:
    if not metadata.inputs:
        raise UsageError(
            f"the metadata of '{metadata.name}' declares no inputs: a repository with golden inputs is needed"
        )
    shapes = {tensor.name: _shape(tensor.name, tensor.shape, rows) for tensor in metadata.inputs}
    if (elements := sum(map(math.prod, shapes.values()))) > MOST_ELEMENTS:
        raise UsageError(f"an input of '{metadata.name}' has {elements} elements, expected at most {MOST_ELEMENTS}")
    return {t.name: _random(t.name, t.datatype, shapes[t.name], random) for t in metadata.inputs}


def _shape(name: str, shape: Sequence[int], rows: int) -> tuple[int, ...]:
    if len(shape) > MAX_RANK or min(shape, default=0) < -1:
        raise UsageError(f"input '{name}': the shape {list(shape[:MAX_RANK])} is not one that a tensor can have")
    if -1 in shape[1:]:
        raise UsageError(
            f"input '{name}': shape {list(shape)} leaves more than the batch open, which random data cannot fill:"
            " a repository with golden inputs is needed"
        )
    if rows > 1 and shape[0] != -1:
        raise UsageError(f"input '{name}': shape {list(shape)} has no free batch, which {rows} rows need")
    return tuple(rows if dim == -1 else dim for dim in shape)


def _random(name: str, datatype: str, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Values that any model accepts: 0..1 for floats, 0..255 for bytes, 0 or 1 for what may be an index."""
    if datatype not in DTYPES:
        raise UsageError(f"input '{name}': datatype '{datatype}' is not one that random data can be made for")
    dtype = DTYPES[datatype]
    if dtype == np.object_:
        texts = np.empty(shape, np.object_)
        texts[...] = b"text"
        return texts
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
