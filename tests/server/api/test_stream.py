"""ModelStreamInfer: a real server in this process, asked over real sockets."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos.tensors import decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from tests.support import toy
from tests.support.server.connection import Client, connected
from tests.support.server.standins import Faulty, Gate, host, raising
from tests.support.serving import eventually

pytestmark = pytest.mark.usefixtures("front")

VARIANTS = ("fp32-onnxruntime", "fp32-openvino")


def request(number: int, variant: str = "", rows: int = 1) -> pb.ModelInferRequest:
    """A request whose id is `number`, and whose answer no other has."""
    return encode_request("toy", variant, {"input": toy.images(rows, number)}, str(number))


def assert_right(response: pb.ModelInferResponse) -> None:
    logits = decode_response(response)["logits"]
    expected = toy.answer(toy.images(len(logits), int(response.id)))
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


async def exchange(client: Client, requests: Iterable[pb.ModelInferRequest]) -> list[pb.ModelStreamInferResponse]:
    """What one stream answers to `requests`, in its order; nothing is read before all are written."""
    stream = client.stub.ModelStreamInfer(timeout=120)
    writing = asyncio.create_task(write_all(stream, requests))
    answers = [answer async for answer in stream]
    await writing
    assert await stream.code() == grpc.StatusCode.OK
    return answers


async def write_all(
    stream: "grpc.aio.StreamStreamCall[pb.ModelInferRequest, pb.ModelStreamInferResponse]",
    requests: Iterable[pb.ModelInferRequest],
) -> None:
    for message in requests:
        await stream.write(message)
    await stream.done_writing()


def test_a_thousand_requests_for_two_variants_are_each_answered_once_and_rightly(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            requests = [request(number, VARIANTS[number % 2], rows=1 + number % 3) for number in range(1000)]
            answers = await exchange(client, requests)
            assert [answer.error_message for answer in answers] == [""] * 1000
            responses = {answer.infer_response.id: answer.infer_response for answer in answers}
            assert sorted(map(int, responses)) == list(range(1000))
            for response in responses.values():
                assert_right(response)
                assert response.model_version == VARIANTS[int(response.id) % 2]
            for variant in VARIANTS:
                assert client.sample("pareto_requests_total", variant=variant, code="OK") == 500
                assert client.sample("pareto_request_duration_seconds_count", variant=variant) == 500
                assert client.sample("pareto_inflight_requests", variant=variant) == 0

    asyncio.run(run())


def test_a_failed_request_is_told_by_its_id_and_the_stream_goes_on(repository: Path) -> None:
    def message(number: int) -> pb.ModelInferRequest:
        return {
            0: lambda: request(number),
            1: lambda: request(number, "nope"),
            2: lambda: request(number, rows=65),
            3: lambda: pb.ModelInferRequest(model_name="../toy", id=str(number)),
        }[number % 4]()

    async def run() -> None:
        async with connected(repository) as client:
            answers = await exchange(client, map(message, range(200)))
            assert sorted(int(answer.infer_response.id) for answer in answers) == list(range(200))
            for answer in answers:
                kind = int(answer.infer_response.id) % 4
                text = ("", "'nope'", "got batch 65, expected 1 to 64", "got model '../toy'")[kind]
                assert text in answer.error_message
                if kind == 0:
                    assert_right(answer.infer_response)
                else:
                    assert answer.infer_response == pb.ModelInferResponse(id=answer.infer_response.id)
            assert client.sample("pareto_requests_total", code="OK") == 50
            assert client.sample("pareto_requests_total", code="INVALID_ARGUMENT") == 50

    asyncio.run(run())


def test_bytes_that_are_no_message_are_an_error_and_the_stream_goes_on(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            call = client.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            stream = call(timeout=30)
            for raw in (b"\xff\xff\xff", request(7).SerializeToString()):
                await stream.write(raw)
            await stream.done_writing()
            answers = [pb.ModelStreamInferResponse.FromString(raw) async for raw in stream]
            texts = {answer.infer_response.id: answer.error_message for answer in answers}
            assert texts == {"": "the message is not the one that this method takes", "7": ""}

    asyncio.run(run())


def test_a_fault_inside_an_engine_is_neutral_and_logged_with_the_id(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            host(client.server, Faulty(raising))
            answers = await exchange(client, [request(17), request(18, VARIANTS[1])])
            texts = {answer.infer_response.id: answer.error_message for answer in answers}
            assert texts == {"17": "engine failed", "18": ""}
            assert client.sample("pareto_requests_total", code="INTERNAL") == 1

    asyncio.run(run())
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (line.getMessage(), line.fields) == ("ModelStreamInfer failed", {"request_id": "17"})
    assert "secret of /home/someone" in caplog.text


def test_an_answer_does_not_wait_for_those_of_earlier_requests(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            gate = Gate()
            host(client.server, gate)
            stream = client.stub.ModelStreamInfer(timeout=60)
            await stream.write(request(1))
            await stream.write(request(2, VARIANTS[1]))
            assert (await stream.read()).infer_response.id == "2"
            gate.open.set()
            assert (await stream.read()).infer_response.id == "1"
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF

    asyncio.run(run())


def test_no_more_is_read_while_the_stream_has_its_share_under_way(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository, stream_requests=4) as client:
            gate = Gate()
            host(client.server, gate)
            stream = client.stub.ModelStreamInfer(timeout=60)
            await write_all(stream, [request(number) for number in range(50)])  # all of it is on its way
            await client.wait_for("pareto_inflight_requests", 4)
            for _ in range(20):  # calls on the same connection, behind the messages
                await client.stub.ServerLive(pb.ServerLiveRequest(), timeout=30)
                assert client.sample("pareto_inflight_requests") == 4
            gate.open.set()
            answers = [answer.infer_response.id async for answer in stream]
            assert sorted(map(int, answers)) == list(range(50))
            assert sum(gate.calls) == 50

    asyncio.run(run())


def test_another_stream_and_unary_calls_go_on_while_one_stream_is_held(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository, stream_requests=1) as client:
            gate = Gate()
            host(client.server, gate)
            held = client.stub.ModelStreamInfer(timeout=60)
            await write_all(held, [request(number) for number in range(10)])
            await eventually(gate.entered.is_set)
            for answer in await exchange(client, [request(number, VARIANTS[1]) for number in range(10)]):
                assert_right(answer.infer_response)
            assert_right(await client.stub.ModelInfer(request(3, VARIANTS[1]), timeout=30))
            gate.open.set()
            assert len([answer async for answer in held]) == 10

    asyncio.run(run())


def test_a_cancelled_stream_gives_its_requests_up_and_hurts_no_other(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            gate = Gate()
            host(client.server, gate, queue_size=64)
            first = client.stub.ModelInfer(request(0), timeout=60)
            await eventually(gate.entered.is_set)
            cancelled, other = (client.stub.ModelStreamInfer(timeout=60) for _ in range(2))
            for number in range(20):
                await cancelled.write(request(number))
                await other.write(request(100 + number))
            await client.wait_for("pareto_inflight_requests", 41)
            cancelled.cancel()
            await client.wait_for("pareto_requests_total", 20, code="CANCELLED")
            await client.wait_for("pareto_rejected_total", 20, reason="cancelled")
            gate.open.set()
            await first
            await other.done_writing()
            answers = {answer.infer_response.id: answer async for answer in other}
            assert sorted(map(int, answers)) == list(range(100, 120))
            for name, answer in answers.items():  # the gate answers with what it was asked
                expected = toy.images(1, int(name))
                np.testing.assert_array_equal(decode_response(answer.infer_response)["logits"], expected)
            assert sum(gate.calls) == 21
            assert client.sample("pareto_inflight_requests") == 0

    asyncio.run(run())


def test_the_deadline_of_a_stream_is_that_of_its_requests(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            gate = Gate()
            host(client.server, gate)
            first = client.stub.ModelInfer(request(0), timeout=60)
            await eventually(gate.entered.is_set)
            stream = client.stub.ModelStreamInfer(timeout=1)
            await stream.write(request(1))
            await client.wait_for("pareto_inflight_requests", 2)
            assert await stream.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            await client.wait_for("pareto_requests_total", code="DEADLINE_EXCEEDED")
            gate.open.set()
            await first
            assert sum(gate.calls) == 1

    asyncio.run(run())


def test_what_was_read_is_answered_when_the_server_stops(repository: Path) -> None:
    async def run() -> None:
        gate = Gate()
        async with connected(repository) as client:
            host(client.server, gate)
            channel = grpc.aio.insecure_channel(client.server.grpc_address)
            stream = type(client.stub)(channel).ModelStreamInfer(timeout=60)
            idle = type(client.stub)(channel).ModelStreamInfer(timeout=60)
            for number in range(3):
                await stream.write(request(number))
            await client.wait_for("pareto_inflight_requests", 3)
            opening = asyncio.create_task(open_when_draining(client, gate))
        await opening
        answers = [(await stream.read()).infer_response.id for _ in range(3)]
        assert sorted(answers) == ["0", "1", "2"]
        assert [await stream.code(), await idle.code()] == [grpc.StatusCode.UNAVAILABLE] * 2
        await channel.close()

    async def open_when_draining(client: Client, gate: Gate) -> None:
        await eventually(lambda: client.server.registry.draining)
        gate.open.set()

    asyncio.run(run())


def test_a_stream_is_counted_once_by_its_code(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            await exchange(client, [request(1), request(2, "nope")])
            await eventually(lambda: handled(client), {("ModelStreamInfer", "OK"): 1})

    def handled(client: Client) -> dict[tuple[str, str], float]:
        return {
            (dict(labels)["grpc_method"], dict(labels)["grpc_code"]): value
            for (name, labels), value in client.page().items()
            if name == "grpc_server_handled_total"
        }

    asyncio.run(run())


def test_a_message_over_the_limit_ends_its_stream_and_nothing_else(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with connected(repository, max_message_bytes=4096) as client:
            stream, other = (client.stub.ModelStreamInfer(timeout=30) for _ in range(2))
            await stream.write(request(1))
            assert_right((await stream.read()).infer_response)
            await stream.write(request(2, rows=64))
            assert await stream.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            await other.write(request(3))
            assert_right((await other.read()).infer_response)
            await other.done_writing()
            assert await other.code() == grpc.StatusCode.OK
            assert client.sample("pareto_inflight_requests") == 0

    asyncio.run(run())
    assert "Traceback" not in caplog.text
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
