"""The requests that servers are measured with: one row each, as a tensor or as the JPEG file that the server reads."""

import io
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from protos.manifest import Variant
from protos.repository import load_evaluation_set, load_golden
from protos.tensors import Array, encode_request

Form = Literal["tensor", "jpeg"]
MOST = 32
"""Requests of one form."""


def rows(repository: Path, variant: Variant, form: Form) -> list[Array]:
    """Returns inputs of one row each: golden ones, or images of the test split as files; raises `IntegrityError`."""
    if form == "tensor":
        return [
            row[None] for row in load_golden(repository, variant.model, variant).inputs[variant.inputs[0].name][:MOST]
        ]
    images = load_evaluation_set(repository, variant.model, variant.task).images[:MOST]
    files = [image if isinstance(image, bytes) else _jpeg(image) for image in images]
    return [np.array([file], np.object_) for file in files]


def requests(variant: Variant, version: str, inputs: list[Array]) -> list[bytes]:
    """Returns one serialized request for each input; `version` is the server's name for the variant."""
    name = variant.inputs[0].name
    return [encode_request(variant.model, version, {name: each}).SerializeToString() for each in inputs]


def _jpeg(pixels: Array) -> bytes:
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=95)
    return file.getvalue()
