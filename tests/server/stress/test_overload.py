"""More than a variant can do: the queue stays bounded, what does not fit is told at once, and it recovers."""

import asyncio
import math
import threading
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.tensors import encode_request
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.server.stress import overload
from tests.support import toy
from tests.support.server.connection import Client
from tests.support.server.standins import Gate, host, running
from tests.support.serving import eventually

REQUEST = encode_request("toy", "", {"input": toy.images(1)})
QUEUE = 8


class Paced(Gate):
    """Executes once for each permit: a capacity that the test decides on."""

    def __init__(self) -> None:
        super().__init__()
        self.permits = threading.Semaphore(0)

    def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert self.permits.acquire(timeout=60)
        self.calls.append(len(inputs["input"]))
        return {"logits": inputs["input"]}


def test_three_times_the_capacity_for_a_while_and_then_all_is_well_again(repository: Path) -> None:
    async def ask(client: Client) -> str:
        try:
            await client.stub.ModelInfer(REQUEST, timeout=120)
        except grpc.aio.AioRpcError as error:
            pushback = dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms", "")
            assert int(pushback) >= 1
            return error.code().name
        return "OK"

    async def run() -> None:
        runtime, outcomes, deepest = Paced(), Counter[str](), 0
        async with running(repository) as server, grpc.aio.insecure_channel(server.grpc_address) as channel:
            host(server, runtime, QUEUE)
            client = Client(server, channel)
            client.stub = GRPCInferenceServiceStub(channel)
            health = health_pb2_grpc.HealthStub(channel)
            calls: list[asyncio.Task[str]] = []
            for step in range(100):  # three come while one is executed
                calls += [asyncio.create_task(ask(client)) for _ in range(3)]
                runtime.permits.release()
                await eventually(lambda step=step: len(runtime.calls) == step + 1)
                deepest = max(deepest, client.depth())
                if step % 10 == 0:
                    answer = await health.Check(health_pb2.HealthCheckRequest(service="toy"), timeout=30)
                    assert answer.status == health_pb2.HealthCheckResponse.SERVING
            await eventually(lambda: sum(not call.done() for call in calls) <= QUEUE + 1)  # none is on its way still
            runtime.permits.release(1000)
            outcomes.update(await asyncio.gather(*calls))
            assert deepest <= QUEUE
            assert set(outcomes) == {"OK", "RESOURCE_EXHAUSTED"}
            assert 100 <= outcomes["OK"] <= 100 + QUEUE + 1  # what was executed, what waited, what ran
            refused = outcomes["RESOURCE_EXHAUSTED"]
            assert client.sample("pareto_rejected_total", reason="queue_full") == refused
            assert client.sample("pareto_requests_total", code="RESOURCE_EXHAUSTED") == refused
            assert client.sample("pareto_requests_total", code="OK") == outcomes["OK"] == len(runtime.calls)
            assert client.sample("pareto_queue_depth") == client.sample("pareto_inflight_requests") == 0
            assert [await ask(client) for _ in range(50)] == ["OK"] * 50  # and it takes all again

    asyncio.run(run())


def test_a_saturated_variant_does_not_starve_another(repository: Path) -> None:
    async def run() -> None:
        runtime = Paced()
        async with running(repository) as server, grpc.aio.insecure_channel(server.grpc_address) as channel:
            host(server, runtime, QUEUE)
            client = Client(server, channel)
            hot = [asyncio.create_task(client.stub.ModelInfer(REQUEST, timeout=60).code()) for _ in range(3 * QUEUE)]
            await eventually(lambda: client.depth() == QUEUE)
            other = encode_request("toy", "fp32-openvino", {"input": toy.images(1)})
            for _ in range(20):
                assert (await client.stub.ModelInfer(other, timeout=30)).model_version == "fp32-openvino"
            runtime.permits.release(1000)
            told = Counter(code.name for code in await asyncio.gather(*hot))
            assert set(told) == {"OK", "RESOURCE_EXHAUSTED"}
            assert told["OK"] >= QUEUE

    asyncio.run(run())


def test_an_open_loop_at_three_times_the_capacity_waits_for_nothing_but_the_queue(tmp_path: Path) -> None:
    found = overload.overload(toy.repository(tmp_path, ("onnxruntime",)), seconds=5.0)
    during = found.overload
    assert during.codes.keys() == {"OK", "RESOURCE_EXHAUSTED"}
    assert min(map(int, during.pushbacks)) >= 1  # each of the refused was told when to come again
    pace = during.seconds / during.codes["OK"]
    assert found.queue_mean <= overload.QUEUE * pace * 1.2  # Little's law, whatever the machine does meanwhile
    assert during.percentile(99) <= 5 * (overload.QUEUE + 2 * overload.ROWS) * pace
    assert not found.memory.grows, found.memory
    assert max(found.health) < math.inf
    assert (found.before.codes.keys(), found.after.codes.keys()) == ({"OK"}, {"OK"})
