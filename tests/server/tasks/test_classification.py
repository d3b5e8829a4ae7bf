"""Top-k answers in Triton's format."""

import asyncio
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from protos.manifest import TensorSpec, Variant
from protos.tensors import Array, decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from server.tasks.answer_threads import AnswerThreads
from server.tasks.classification import AT_ONCE, Classification
from tests.support import toy
from tests.support.server.standins import Record


def classes(values: Array, count: int, labels: tuple[str, ...] = ()) -> list[list[bytes]]:
    """The classes of each row of one output, which a request asks `count` of."""
    asked = pb.ModelInferRequest()
    asked.outputs.add(name="logits").parameters["classification"].int64_param = count
    specs = (TensorSpec("logits", "FP32", (-1, *values.shape[1:])),)
    variant = cast(Variant, SimpleNamespace(outputs=specs, labels=labels))
    threads = AnswerThreads(1, 1)

    async def run() -> dict[str, Array]:
        finish = Classification(threads).wanted(asked, variant, Record())
        assert finish is not None
        made = finish({"logits": values}, None)
        assert isinstance(made, dict) == (values.size <= AT_ONCE)
        return made if isinstance(made, dict) else await made

    try:
        rows: list[list[bytes]] = asyncio.run(run())["logits"].tolist()
    finally:
        threads.close()
    return rows


def test_each_class_is_value_index_and_label_the_largest_first() -> None:
    logits = np.float32([[0.1, 2.0, -1.5], [1e6, 0.0, 1e-7]])
    assert classes(logits, 2, ("red", "green", "blue")) == [
        [b"2.000000:1:green", b"0.100000:0:red"],
        [b"1000000.000000:0:red", b"0.000000:2:blue"],
    ]


def test_a_class_without_a_label_ends_after_its_index() -> None:
    assert classes(np.float32([[1, 2, 3]]), 3, ("red",)) == [[b"3.000000:2", b"2.000000:1", b"1.000000:0:red"]]


def test_more_classes_than_there_are_give_all() -> None:
    assert classes(np.float32([[1, 2]]), 2**62) == [[b"2.000000:1", b"1.000000:0"]]


def test_of_equal_values_the_lower_index_comes_first() -> None:
    assert classes(np.float32([[1, 1, 1]]), 2) == [[b"1.000000:0", b"1.000000:1"]]


def test_what_is_no_number_comes_last() -> None:
    values = np.float32([[np.nan, -np.inf, np.inf]])
    assert classes(values, 3) == [[b"inf:2", b"-inf:1", b"nan:0"]]


def test_outputs_of_more_dimensions_are_classified_over_all_of_them() -> None:
    assert classes(np.float32([[[1, 2], [4, 3]]]), 1) == [[b"4.000000:2"]]


def test_many_numbers_are_classified_alike_by_a_thread() -> None:
    values = np.random.default_rng(0).random((AT_ONCE // 100 + 1, 100), np.float32)
    assert classes(values, 3) == [row for part in values for row in classes(part[None], 3)]


@pytest.mark.parametrize(("count", "answered"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_a_server_answers_with_the_labels_of_the_manifest(
    stub: GRPCInferenceServiceStub, count: int, answered: int
) -> None:
    request = encode_request("toy", "", {"input": toy.images(2)})
    logits = decode_response(stub.ModelInfer(request, timeout=10))["logits"]
    request.outputs.add(name="logits").parameters["classification"].int64_param = count
    response = stub.ModelInfer(request, timeout=10)
    assert response.outputs[0] == pb.ModelInferResponse.InferOutputTensor(
        name="logits", datatype="BYTES", shape=[2, answered]
    )
    order = np.argsort(-logits, axis=1)[:, :count]
    assert decode_response(response)["logits"].tolist() == [
        [f"{row[index]:.6f}:{index}:{toy.LABELS[index]}".encode() for index in best]
        for row, best in zip(logits, order, strict=True)
    ]
