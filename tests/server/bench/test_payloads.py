"""Requests of the toy: golden tensors, and JPEG files of its test split."""

from pathlib import Path

import pytest

from protos import images
from protos.errors import IntegrityError
from protos.manifest import Variant, from_json
from protos.repository import GOLDEN, MANIFEST
from protos.tensors import decode_request
from protos.v1 import inference_pb2 as pb
from server.bench import payloads
from tests.support import toy


@pytest.fixture
def variant(repository: Path) -> Variant:
    return from_json((repository / toy.MODEL / "fp32-onnxruntime" / MANIFEST).read_text())


def test_tensors_are_the_golden_inputs_one_row_each(repository: Path, variant: Variant) -> None:
    golden = toy.images(4, seed=1)
    rows = payloads.rows(repository, variant, "tensor")
    assert [row.tolist() for row in rows] == [golden[i : i + 1].tolist() for i in range(4)]


def test_files_are_the_images_of_the_test_split(repository: Path, variant: Variant) -> None:
    rows = payloads.rows(repository, variant, "jpeg")
    assert [row.shape for row in rows] == [(1,)] * 12
    assert {images.size_of(row[0], "file") for row in rows} == {(4, 4)}
    assert rows[0][0].startswith(b"\xff\xd8")


def test_a_request_names_the_variant_as_its_server_does(repository: Path, variant: Variant) -> None:
    rows = payloads.rows(repository, variant, "jpeg")[:2]
    requests = [pb.ModelInferRequest.FromString(each) for each in payloads.requests(variant, "1", rows)]
    assert [(each.model_name, each.model_version) for each in requests] == [(toy.MODEL, "1")] * 2
    assert [decode_request(each)["input"].tolist() for each in requests] == [row.tolist() for row in rows]


def test_a_repository_without_golden_inputs_is_one_clear_line(tmp_path: Path, variant: Variant) -> None:
    with pytest.raises(IntegrityError, match=GOLDEN):
        payloads.rows(tmp_path, variant, "tensor")
