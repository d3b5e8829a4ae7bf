"""Calls that end early, engines that fail, streams: a real server in this process, asked over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from server.lifecycle import Server
from tests.support import toy
from tests.support.server import doors
from tests.support.server.connection import Client, connected
from tests.support.server.standins import Faulty, Gate, host, one_row_too_few, raising, running
from tests.support.serving import eventually

pytestmark = pytest.mark.usefixtures("front")

REQUEST = encode_request("toy", "", {"input": toy.images(1)}, "id-17")


def scenario(repository: Path, play: Callable[[Client], Awaitable[None]]) -> None:
    """Plays against a server in this process."""

    async def run() -> None:
        async with connected(repository) as client:
            await play(client)

    asyncio.run(run())


@asynccontextmanager
async def busy(client: Client, queue_size: int = 8) -> AsyncIterator[Gate]:
    """The default variant is busy with one request during the block; that one is answered after it."""
    gate = Gate()
    host(client.server, gate, queue_size)
    call = client.stub.ModelInfer(REQUEST, timeout=60)
    await eventually(gate.entered.is_set)
    try:
        yield gate
    finally:
        gate.open.set()
        await call


async def code_of(call: Awaitable[pb.ModelInferResponse]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def test_a_full_queue_is_resource_exhausted_while_the_engine_is_still_busy(repository: Path, front: str) -> None:
    async def play(client: Client) -> None:
        async with busy(client, queue_size=1) as gate:
            waiting = client.stub.ModelInfer(REQUEST, timeout=60)
            await eventually(lambda: client.depth() == 1)
            refused = client.stub.ModelInfer(REQUEST, timeout=60)
            code, text = await code_of(refused)
            told = ("grpc-retry-pushback-ms", "1") in list(await refused.trailing_metadata())
            assert told == doors.expected("pushback", front)
            assert (code, not gate.open.is_set()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
            assert "queue is full" in text
            assert client.sample("pareto_rejected_total", reason="queue_full") == 1
            assert client.sample("pareto_queue_depth") == 1
            assert client.sample("pareto_inflight_requests") == 2
        await waiting
        assert client.sample("pareto_requests_total", code="RESOURCE_EXHAUSTED") == 1
        assert client.sample("pareto_requests_total", code="OK") == 2
        assert client.sample("pareto_inflight_requests") == 0

    scenario(repository, play)


def test_health_and_metadata_answer_while_the_queue_is_full(repository: Path) -> None:
    async def play(client: Client) -> None:
        async with busy(client, queue_size=1):
            waiting = client.stub.ModelInfer(REQUEST, timeout=60)
            await eventually(lambda: client.depth() == 1)
            assert (await client.stub.ModelMetadata(pb.ModelMetadataRequest(name="toy"), timeout=30)).name == "toy"
            health = health_pb2_grpc.HealthStub(client.channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(service="toy"), timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        await waiting

    scenario(repository, play)


def test_a_deadline_that_passes_in_the_queue_is_counted_as_such_and_never_executed(repository: Path) -> None:
    async def play(client: Client) -> None:
        async with busy(client) as gate:
            call = client.stub.ModelInfer(REQUEST, timeout=2)
            await eventually(lambda: client.depth(), 1)
            code, _ = await code_of(call)
            assert code == grpc.StatusCode.DEADLINE_EXCEEDED
            await client.wait_for("pareto_requests_total", code="DEADLINE_EXCEEDED")
        await client.wait_for("pareto_rejected_total", reason="expired")
        assert gate.calls == [1]
        assert client.sample("pareto_requests_total", code="OK") == 1
        assert client.sample("pareto_requests_total", code="CANCELLED") == 0

    scenario(repository, play)


def test_a_deadline_that_passes_while_it_is_executed_is_counted_as_such_and_hurts_no_other(repository: Path) -> None:
    async def play(client: Client) -> None:
        gate = Gate()
        host(client.server, gate)
        call = client.stub.ModelInfer(REQUEST, timeout=1)
        await eventually(gate.entered.is_set)
        code, _ = await code_of(call)
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        await client.wait_for("pareto_requests_total", code="DEADLINE_EXCEEDED")
        gate.open.set()
        assert (await client.stub.ModelInfer(REQUEST, timeout=30)).id == "id-17"
        assert gate.calls == [1, 1]
        assert client.sample("pareto_requests_total", code="OK") == 1
        assert client.sample("pareto_rejected_total", reason="expired") == 0

    scenario(repository, play)


def test_a_call_cancelled_in_the_queue_is_counted_as_such_and_never_executed(repository: Path) -> None:
    async def play(client: Client) -> None:
        async with busy(client) as gate:
            call = client.stub.ModelInfer(REQUEST, timeout=60)
            await eventually(lambda: client.depth() == 1)
            call.cancel()
            await client.wait_for("pareto_requests_total", code="CANCELLED")
        await client.wait_for("pareto_rejected_total", reason="cancelled")
        assert gate.calls == [1]
        assert client.sample("pareto_requests_total", code="DEADLINE_EXCEEDED") == 0

    scenario(repository, play)


@pytest.mark.parametrize("outcome", [raising, one_row_too_few])
def test_a_fault_inside_an_engine_is_internal_and_neutral_and_logged_with_the_id(
    repository: Path, outcome: Callable[[], dict[str, np.ndarray]], caplog: pytest.LogCaptureFixture
) -> None:
    async def play(client: Client) -> None:
        host(client.server, Faulty(outcome))
        answer = await code_of(client.stub.ModelInfer(REQUEST, timeout=30))
        assert answer == (grpc.StatusCode.INTERNAL, "engine failed")
        assert client.sample("pareto_requests_total", code="INTERNAL") == 1
        other = encode_request("toy", "fp32-openvino", {"input": toy.images(1)})
        assert (await client.stub.ModelInfer(other, timeout=30)).model_version == "fp32-openvino"

    scenario(repository, play)
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (line.getMessage(), line.fields) == ("ModelInfer failed", {"request_id": "id-17"})
    assert {raising: "secret of /home/someone", one_row_too_few: "expected 1 rows"}[outcome] in caplog.text


def test_a_fault_of_the_server_itself_is_internal_and_neutral(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(client: Client) -> None:
        host(client.server, Faulty(lambda: {"other": np.zeros((1, 3), np.float32)}))
        answer = await code_of(client.stub.ModelInfer(REQUEST, timeout=30))
        assert answer == (grpc.StatusCode.INTERNAL, "internal error")

    scenario(repository, play)
    assert "KeyError: 'logits'" in caplog.text


def test_every_method_is_counted_by_its_code(repository: Path) -> None:
    async def play(client: Client) -> None:
        await client.stub.ModelInfer(REQUEST, timeout=30)
        await client.stub.ServerLive(pb.ServerLiveRequest(), timeout=30)
        await code_of(client.stub.ModelMetadata(pb.ModelMetadataRequest(name="nope"), timeout=30))
        health = health_pb2_grpc.HealthStub(client.channel)
        await code_of(health.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=30))
        handled = {
            tuple(label for _, label in labels): value
            for (name, labels), value in client.page().items()
            if name == "grpc_server_handled_total"
        }
        assert handled == {
            ("OK", "ModelInfer", "inference.GRPCInferenceService", "unary"): 1,
            ("OK", "ServerLive", "inference.GRPCInferenceService", "unary"): 1,
            ("NOT_FOUND", "ModelMetadata", "inference.GRPCInferenceService", "unary"): 1,
            ("NOT_FOUND", "Check", "grpc.health.v1.Health", "unary"): 1,
        }

    scenario(repository, play)


def test_reflection_names_the_services(repository: Path) -> None:
    async def play(client: Client) -> None:
        async def ask() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")

        stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
        (answer,) = [message async for message in stub.ServerReflectionInfo(ask(), timeout=30)]
        assert {service.name for service in answer.list_services_response.service} == {
            "inference.GRPCInferenceService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }

    scenario(repository, play)


def test_a_stream_that_a_client_holds_open_does_not_hold_up_the_end(repository: Path) -> None:
    async def run() -> None:
        async with running(repository, drain_timeout=3600) as server:
            channel = grpc.aio.insecure_channel(server.grpc_address)
            request = health_pb2.HealthCheckRequest(service="toy")
            watch = health_pb2_grpc.HealthStub(channel).Watch(request)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await watch.code() == grpc.StatusCode.UNAVAILABLE
        await channel.close()

    asyncio.run(run())


def test_a_request_that_is_under_way_when_the_server_stops_is_answered(repository: Path) -> None:
    async def run() -> None:
        gate = Gate()
        async with running(repository) as server:
            host(server, gate)
            channel = grpc.aio.insecure_channel(server.grpc_address)
            stub = GRPCInferenceServiceStub(channel)
            calls = [stub.ModelInfer(REQUEST, timeout=60) for _ in range(3)]
            await eventually(gate.entered.is_set)
            opening = asyncio.create_task(open_when_draining(server, gate))
        assert [(await call).id for call in calls] == ["id-17"] * 3
        assert gate.closed
        await opening
        await channel.close()

    async def open_when_draining(server: Server, gate: Gate) -> None:
        await eventually(lambda: server.registry.draining)
        gate.open.set()

    asyncio.run(run())
