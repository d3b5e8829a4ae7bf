"""Manifests: what is written is what is read, and nothing is half-understood."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protos.errors import ManifestError
from protos.manifest import TensorSpec, from_json, to_json
from tests.support import toy


@pytest.fixture
def text(tmp_path: Path) -> str:
    return (toy.publish_variant(tmp_path, "onnxruntime") / "manifest.json").read_text()


def test_json_goes_both_ways(text: str) -> None:
    assert to_json(from_json(text)) == text


def test_what_was_not_measured_is_absent(text: str) -> None:
    assert "latency" not in json.loads(text)
    assert from_json(text).latency is None


def _set(data: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        data = data[parent]
    data[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 1, "manifest has schema 1, expected 2"),
        ("runtime", "tensorrt", "manifest.runtime: got 'tensorrt', expected one of pytorch"),
        ("network.macs", "3", "manifest.network.macs: got '3', expected int"),
        ("network.flops", 3, "manifest.network: unknown key 'flops'"),
        ("quality", {"metric": "top1"}, "manifest.quality: 'value' is missing"),
        ("preprocessing.resize", [1, 2, 3], "manifest.preprocessing.resize: got 3 values, expected 2"),
        ("entry", "other.onnx", "'other.onnx' is not among its files"),
        ("labels", "red", "manifest.labels: got 'red'"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(text: str, path: str, value: object, message: str) -> None:
    data = json.loads(text)
    _set(data, path, value)
    with pytest.raises(ManifestError, match=message):
        from_json(json.dumps(data))


@pytest.mark.parametrize("bad", ["", "{", "[]", "null", '{"schema": null}'])
def test_what_is_no_manifest_is_an_error(bad: str) -> None:
    with pytest.raises(ManifestError):
        from_json(bad)


@pytest.mark.parametrize(
    ("shapes", "joins"),
    [([(-1, 3)], True), ([(1, 3)], False), ([(-1, 3, -1)], False), ([(-1, 3), (-1,)], True), ([(-1, 3), (4,)], False)],
)
def test_requests_can_be_joined_where_the_batch_is_the_only_free_dimension(
    text: str, shapes: list[tuple[int, ...]], joins: bool
) -> None:
    inputs = tuple(TensorSpec(f"input{index}", "FP32", shape) for index, shape in enumerate(shapes))
    assert replace(from_json(text), inputs=inputs).joins_requests == joins


def test_requests_cannot_be_joined_where_the_batch_has_a_limit(text: str) -> None:
    assert not replace(from_json(text), max_batch=4).joins_requests
