"""Requests made ahead of the load, and what their answers must look like.

A payload is the serialized request for one variant and one input, so that sending one costs no encoding. Inputs are
the model's golden ones where the repository holds them: real images, as tensors, pixels or JPEG files. Where its test
split holds files, pixels and files are those: images of several sizes, from the emptiest to the fullest. Another model
(a foreign server's) gets random tensors of the shapes that its metadata declares.

An answer is checked as far as that is cheap: its variant, the names and shapes of its outputs, the bytes in each.
Whether the numbers are right is not checked here.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from loadtest.plan import Form
from loadtest.tasks.table import TASKS, task_of
from protos import images
from protos.errors import IntegrityError, UsageError
from protos.manifest import TaskName
from protos.repository import GOLDEN, TEST, load_evaluation_set, load_golden, scan_model
from protos.tensors import DTYPES, MAX_RANK, Array, encode_request
from protos.v1 import inference_pb2 as pb

Source = Literal["golden", "synthetic"]
Row = Array | bytes
"""One row of an input: a part of a tensor, pixels, or a file."""

SYNTHETIC_INPUTS = 8
"""A model without golden inputs gets this many random ones."""

MOST_FILES = 32
"""Of a test split of files, so many are sent in turn."""

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
    outputs: Mapping[str, tuple[int, ...]]
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


def form_of(form: Form | None, model: str, metadata: pb.ModelMetadataResponse, repository: Path) -> Form:
    """Returns how a row is sent: as asked for, or as the model's task has it where the repository has images for it."""
    if form is not None or not (repository / model / GOLDEN).is_file():
        return form or "tensor"
    return TASKS[task_of(metadata)].form


def make_inputs(
    model: str, metadata: pb.ModelMetadataResponse, repository: Path, seed: int, rows: int = 1, form: Form | None = None
) -> Inputs:
    """Makes inputs of `rows` rows each for a model: golden ones if the repository has the model, else synthetic.

    Raises `UsageError` where golden inputs are damaged, missing or unfit, or the metadata says too little.
    """
    form = form_of(form, model, metadata, repository)
    if not (repository / model / GOLDEN).is_file():
        if form != "tensor":
            raise UsageError(f"--form: '{form}' needs golden inputs of '{model}' in '{repository}': images")
        random = np.random.default_rng(seed)
        return Inputs("synthetic", [_synthetic(metadata, random, rows) for _ in range(SYNTHETIC_INPUTS)])
    tensors, task = _golden(model, metadata, repository), task_of(metadata)
    golden: dict[str, Sequence[Row]] = {name: list(array) for name, array in tensors.items()}
    if form != "tensor":
        golden = {name: _images(form, array, repository, model, task) for name, array in tensors.items()}
    count = len(next(iter(golden.values())))
    turns = [[at % count for at in range(first, first + rows)] for first in range(count)]
    return Inputs(
        "golden", [{name: _batch([each[i] for i in turn]) for name, each in golden.items()} for turn in turns]
    )


def _batch(rows: Sequence[Row]) -> Array:
    """Returns rows as one array."""
    if isinstance(rows[0], bytes):
        files = np.empty(len(rows), np.object_)
        files[:] = rows
        return files
    if len(sizes := {np.shape(row) for row in rows}) > 1:
        raise UsageError(
            f"--form: 'pixels' of {len(sizes)} sizes in one request, expected 'jpeg', or one row a request"
        )
    return np.stack(rows)


def _images(form: Form, golden: Array, repository: Path, model: str, task: TaskName) -> Sequence[Row]:
    """Returns images as uint8 pixels (H, W, 3) or as files: those of the test split, or what golden inputs were."""
    try:
        test = load_evaluation_set(repository, model, task)
    except IntegrityError:
        test = None
    if test is None or test.images.dtype != np.object_:
        return _golden_images(form, golden, repository, model)
    by_objects = np.argsort(TASKS[task].objects(test), kind="stable")
    chosen = by_objects[np.linspace(0, len(test) - 1, min(len(test), MOST_FILES)).round().astype(np.int64)]
    files: Sequence[bytes] = test.images[chosen].tolist()
    return files if form == "jpeg" else [np.asarray(images.read(file, f"'{TEST}' of '{model}'")) for file in files]


def _golden(model: str, metadata: pb.ModelMetadataResponse, repository: Path) -> dict[str, Array]:
    """Returns the golden inputs by the names that the server has for them."""
    try:
        golden = load_golden(repository, model).inputs
    except IntegrityError as error:
        raise UsageError(str(error)) from error
    declared = {tensor.name: tuple(tensor.shape) for tensor in metadata.inputs}
    if len(golden) == len(declared) == 1:
        (array,) = golden.values()
        takes_pixels = metadata.inputs[0].datatype == "UINT8"
        golden = dict.fromkeys(declared, _pixels(array, repository, model) if takes_pixels else array)
    if golden.keys() != declared.keys() or not all(_fits(a.shape, declared[n], len(a)) for n, a in golden.items()):
        shapes = ", ".join(str(list(array.shape)) for array in golden.values())
        raise UsageError(
            f"golden inputs in '{repository / model}' have shape {shapes},"
            f" but the server's '{model}' takes {[(each.name, list(each.shape)) for each in metadata.inputs]}"
        )
    return golden


def _golden_images(form: Form, golden: Array, repository: Path, model: str) -> Sequence[Row]:
    """Returns the images that golden inputs are, or were made of."""
    pixels = golden if golden.dtype == np.uint8 else _pixels(golden, repository, model)
    return list(pixels) if form == "pixels" else [_jpeg(each) for each in pixels]


def _pixels(golden: Array, repository: Path, model: str) -> Array:
    """Returns the pixels uint8 (N, H, W, 3) that the manifest's preprocessing made golden inputs (N, 3, H, W) of."""
    variants = (entry.variant for entry in scan_model(repository, model) if entry.variant)
    how = next((v.preprocessing for v in variants if v.golden is not None and not v.golden.own), None)
    if how is None:
        raise UsageError(f"--form: no variant of '{model}' in '{repository}' says how its inputs are made of images")
    if golden.ndim != 4 or golden.shape[1] != len(how.mean):
        raise UsageError(f"--form: golden inputs of '{model}' have shape {list(golden.shape)}, which are no images")
    mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (how.mean, how.std))
    scaled = ((golden * std + mean) * 255).round().clip(0, 255)
    pixels: Array = np.ascontiguousarray(scaled.astype(np.uint8).transpose(0, 2, 3, 1))
    return pixels


def _jpeg(pixels: Array) -> bytes:
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=95)
    return file.getvalue()


def make_payloads(
    model: str, variant: str, metadata: pb.ModelMetadataResponse, inputs: Inputs, label: str = ""
) -> list[Payload]:
    """Makes one payload for each input."""
    outputs, payloads = outputs_of(metadata), []
    for tensors in inputs.tensors:
        request = encode_request(model, wire_version(variant), tensors).SerializeToString()
        payloads.append(Payload(variant, request, len(next(iter(tensors.values()))), outputs, label))
    return payloads


def outputs_of(metadata: pb.ModelMetadataResponse) -> Mapping[str, tuple[int, ...]]:
    """Returns the shapes, by name, of the outputs that a request gets which names none."""
    return TASKS[task_of(metadata)].unasked({output.name: tuple(output.shape) for output in metadata.outputs})


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
