"""Clients that vanish with calls in flight: their calls end and are counted, and take no answer from anyone else."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from hyperframe.frame import RstStreamFrame

from protos.tensors import decode_response, encode_request
from tests.support import toy
from tests.support.server.connection import Client
from tests.support.server.http2 import Connection, Error, call, pack
from tests.support.server.standins import Gate, host, running
from tests.support.serving import eventually

CALLS = 100
STREAMS = range(1, 2 * CALLS, 2)
COMPANIONS = 3

WAYS: dict[str, Callable[[Connection], None]] = {
    "closes": Connection.close,
    "is cut off": lambda client: client.close(abruptly=True),
    "resets every call": lambda client: client.send(pack(*(RstStreamFrame(n, Error.CANCEL) for n in STREAMS))),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_calls_of_a_client_that_vanishes_end_and_nobody_elses(repository: Path, front: str, way: str) -> None:
    async def run() -> None:
        async with (
            running(repository, front=front) as server,
            grpc.aio.insecure_channel(server.grpc_address) as channel,
            asyncio.timeout(120),
        ):
            gate, client = Gate(), Client(server, channel)
            engine = host(server, gate, queue_size=2 * CALLS)
            vanishing = await asyncio.to_thread(Connection, server.grpc_address)
            await asyncio.to_thread(vanishing.send, pack(*(frame for stream in STREAMS for frame in call(stream))))
            await eventually(engine.depth, CALLS - 1)  # one is executed
            images = [toy.images(1, seed) for seed in range(COMPANIONS)]
            requests = [encode_request("toy", "", {"input": image}) for image in images]
            answers = [asyncio.ensure_future(client.stub.ModelInfer(request, timeout=60)) for request in requests]
            await eventually(engine.depth, CALLS - 1 + COMPANIONS)

            await asyncio.to_thread(WAYS[way], vanishing)
            await eventually(engine.depth, COMPANIONS)
            await client.wait_for("pareto_requests_total", CALLS, code="CANCELLED")
            await client.wait_for("pareto_inflight_requests", COMPANIONS)
            assert client.sample("pareto_rejected_total", reason="cancelled") == CALLS - 1
            assert not gate.open.is_set()

            gate.open.set()
            for image, answer in zip(images, await asyncio.gather(*answers), strict=True):
                assert (decode_response(answer)["logits"] == image).all()
            assert gate.calls == [1] * (1 + COMPANIONS)
            await client.wait_for("pareto_inflight_requests", 0)
            await client.wait_for("pareto_requests_total", COMPANIONS, code="OK")
            await asyncio.to_thread(vanishing.close)

    asyncio.run(run())
