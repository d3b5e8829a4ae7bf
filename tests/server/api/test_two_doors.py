"""Through both doors the same calls have the same codes, texts and answers, and leave the same figures behind."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import grpc
import numpy as np

from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from tests.support import toy
from tests.support.server import doors
from tests.support.server.connection import Client, connected
from tests.support.server.standins import Faulty, Gate, host, raising
from tests.support.serving import eventually

SECOND = "fp32-openvino"
FIGURES = ("pareto_requests_total", "pareto_rejected_total", "grpc_server_handled_total", "pareto_batch_rows_sum")
PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")

Told = tuple[str, str, bytes]
"""Code, text and answer of a call."""


def request(rows: int = 1, variant: str = "", model: str = "toy") -> pb.ModelInferRequest:
    return encode_request(model, variant, {"input": toy.images(rows)}, "an id")


def classes(count: int) -> pb.ModelInferRequest:
    asked = request()
    asked.outputs.add(name="logits").parameters["classification"].int64_param = count
    return asked


PIXELS = encode_request("toy", "", {"input": np.full((2, 5, 7, 3), 9, np.uint8)})
NO_IMAGE = encode_request("toy", "", {"input": np.array([b"no image"], np.object_)})

ALONE = [
    *[request(rows) for rows in (1, 4, 0, 5, 2)],
    *[request(3, SECOND), request(1, "nope"), request(1, model="nope"), request(1, "../toy")],
    *[classes(2), classes(0), PIXELS, NO_IMAGE],
]
"""Calls that come one after the other."""


async def told(call: Awaitable[pb.ModelInferResponse]) -> Told:
    try:
        return "OK", "", (await call).SerializeToString(deterministic=True)
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or "", b""
    except asyncio.CancelledError:
        return "CANCELLED", "", b""


async def play(client: Client) -> list[Told]:
    """What is right and what is wrong, one by one; then a variant that is busy, full and left; then one that fails."""
    infer = client.stub.ModelInfer
    heard = [await told(infer(message, timeout=30)) for message in ALONE]
    noise = client.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    heard.append(await told(noise(b"\xff\xff", timeout=30)))

    gate = Gate()
    host(client.server, gate, queue_size=2)
    busy = infer(request(), timeout=60)
    await eventually(gate.entered.is_set)
    leaver, late = infer(request(), timeout=60), infer(request(), timeout=2)
    await eventually(client.depth, 2)
    heard.append(await told(infer(request(), timeout=60)))  # the queue is full
    leaver.cancel()
    heard += [await told(leaver), await told(late)]
    await client.wait_for("pareto_requests_total", code="DEADLINE_EXCEEDED")
    gate.open.set()
    heard.append(await told(busy))

    host(client.server, Faulty(raising))
    heard.append(await told(infer(request(), timeout=30)))
    heard.append(await told(infer(request(1, SECOND), timeout=30)))
    return heard


async def statistics(client: Client) -> dict[str, object]:
    """The counts of ModelStatistics, without their times."""
    answer = await client.stub.ModelStatistics(pb.ModelStatisticsRequest(), timeout=30)
    return {
        each.version: (
            {part: getattr(each.inference_stats, part).count for part in PARTS},
            (each.inference_count, each.execution_count),
            {batch.batch_size: batch.compute_infer.count for batch in each.batch_stats},
        )
        for each in answer.model_stats
    }


def test_one_script_of_calls_is_answered_and_counted_alike_through_both_doors(repository: Path) -> None:
    async def run(front: str) -> tuple[list[Told], dict[object, float], dict[str, object]]:
        async with connected(repository, front=front, max_rows=4) as client:
            heard = await play(client)
            counted = await statistics(client)
            page = {
                key: value for key, value in client.page().items() if key[0] in FIGURES or key[0].endswith("_count")
            }
            return heard, page, counted

    (heard, page, counted), others = (asyncio.run(run(front)) for front in doors.DOORS)
    assert [code for code, _, _ in heard] == [
        *["OK", "OK", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "OK"],
        *["OK", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND"],
        *["OK", "INVALID_ARGUMENT", "OK", "INVALID_ARGUMENT", "INVALID_ARGUMENT"],
        *["RESOURCE_EXHAUSTED", "CANCELLED", "DEADLINE_EXCEEDED", "OK", "INTERNAL", "OK"],
    ]
    assert others[0] == heard
    assert others[1] == page
    assert others[2] == counted
