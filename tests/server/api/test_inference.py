"""A request whose engine is replaced between its check and its queue goes to the successor, where that is alike."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protos.errors import UnavailableError
from protos.tensors import decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from server.execution.engine import answered
from server.observability.request_record import RequestRecord
from tests.support import toy
from tests.support.server.standins import Unhurried, running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository to be altered."""
    return toy.repository(tmp_path / "models", ("onnxruntime",))


def test_a_request_that_was_checked_is_answered_by_the_engine_that_took_the_place_of_its_own(root: Path) -> None:
    async def run() -> None:
        async with running(root) as server:
            request = encode_request("toy", "", {"input": toy.images(2)}, "an id")
            checked = server.application.inference.check(request, RequestRecord(Unhurried()))
            toy.publish_variant(root, "onnxruntime", factor=3.0, tolerance=100.0)
            await server.application._sync.load("toy")
            answer = await answered(lambda reply: checked.submit(checked.inputs or {}, reply))
            response = checked.respond(answer)
            assert isinstance(response, pb.ModelInferResponse)
            assert (response.id, response.model_version) == ("an id", "fp32-onnxruntime")
            expected = 1.5 * toy.answer(toy.images(2))
            np.testing.assert_allclose(decode_response(response)["logits"], expected, rtol=1e-5)

    asyncio.run(run())


def test_a_successor_that_would_make_another_answer_of_it_is_not_asked(root: Path) -> None:
    async def run() -> None:
        async with running(root) as server:
            request = encode_request("toy", "", {"input": toy.images(1)})
            checked = server.application.inference.check(request, RequestRecord(Unhurried()))
            await server.registry.load(checked.hosted, checked.hosted.entry)
            engine, variant = checked.hosted.serving()
            other = replace(variant.preprocessing, mean=(0.5, 0.5, 0.5))
            checked.hosted.served = engine, replace(variant, preprocessing=other)
            with pytest.raises(UnavailableError, match="is another one now, which the request was not for"):
                await answered(lambda reply: checked.submit(checked.inputs or {}, reply))

    asyncio.run(run())


def test_a_request_whose_variant_was_unloaded_is_told_so(root: Path) -> None:
    async def run() -> None:
        async with running(root) as server:
            request = encode_request("toy", "", {"input": toy.images(1)})
            checked = server.application.inference.check(request, RequestRecord(Unhurried()))
            await server.registry.unload(checked.hosted)
            with pytest.raises(UnavailableError, match="variant 'toy/fp32-onnxruntime' is UNLOADED"):
                await answered(lambda reply: checked.submit(checked.inputs or {}, reply))

    asyncio.run(run())
