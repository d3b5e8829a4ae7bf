"""ModelStatistics and ModelConfig: exact after known calls, on a real server in this process."""

import asyncio
import contextlib
import threading
from pathlib import Path
from time import time

import grpc
import pytest

from protos.errors import NotFoundError
from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from server.observability.instruments import Instruments
from server.observability.metrics import Metrics, VariantMetrics
from server.observability.request_record import RequestRecord
from tests.support import toy
from tests.support.server.connection import Client, connected
from tests.support.server.standins import Faulty, Gate, Unhurried, host, raising
from tests.support.serving import eventually

pytestmark = pytest.mark.usefixtures("front")

VARIANTS = ["fp32-onnxruntime", "fp32-openvino"]


def request(rows: int, variant: str = "") -> pb.ModelInferRequest:
    return encode_request("toy", variant, {"input": toy.images(rows)})


async def infer(client: Client, *rows: int, variant: str = "") -> None:
    """One request after the other; those that fail may."""
    for count in rows:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await client.stub.ModelInfer(request(count, variant), timeout=30)


async def statistics(client: Client, name: str = "", version: str = "") -> list[pb.ModelStatistics]:
    asked = pb.ModelStatisticsRequest(name=name, version=version)
    return list((await client.stub.ModelStatistics(asked, timeout=30)).model_stats)


def counts(stats: pb.ModelStatistics) -> dict[str, int]:
    """The count of each duration of the requests."""
    names = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    return {name: getattr(stats.inference_stats, name).count for name in names}


def batches(stats: pb.ModelStatistics) -> dict[int, int]:
    """Executions by their rows."""
    return {batch.batch_size: batch.compute_infer.count for batch in stats.batch_stats}


def test_counts_are_exact_whichever_threads_count() -> None:
    """As through the native door: requests begin in one thread, and end in others, the engine's among them."""
    page = Metrics(Instruments())
    counted, calls, threads = VariantMetrics(page, "toy", VARIANTS[0]), 500, 8

    def count(number: int) -> None:
        for _ in range(calls):
            record = RequestRecord(Unhurried())
            record.arrived = record.admitted = record.answered = record.began
            record.readers = (counted.request_ended,)
            counted.request_began()
            record.end(None if number % 2 else NotFoundError("not here"))
            counted.executed(1, 0.001)

    counting = [threading.Thread(target=count, args=(number,)) for number in range(threads)]
    for thread in counting:
        thread.start()
    for thread in counting:
        thread.join()
    stats = counted.statistics.message("toy", VARIANTS[0])
    half = calls * threads // 2
    assert (stats.inference_stats.success.count, stats.inference_stats.fail.count) == (half, half)
    assert batches(stats) == {1: calls * threads}
    shown = {
        sample.labels["code"]: sample.value
        for family in page.requests.collect()
        for sample in family.samples
        if sample.value
    }
    assert shown == {"OK": half, "NOT_FOUND": half}
    assert [sample.value for family in page.inflight.collect() for sample in family.samples] == [0]


def test_before_the_first_request_everything_is_zero(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            for stats in await statistics(client):
                assert (stats.last_inference, stats.inference_count, stats.execution_count) == (0, 0, 0)
                assert set(counts(stats).values()) == {0}
                assert batches(stats) == {}

    asyncio.run(run())


def test_statistics_are_those_of_the_calls_failures_included(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            before = int(time() * 1000)
            await infer(client, 1, 2, 1, 65, 0, 2, 1)
            await infer(client, 3, variant=VARIANTS[1])
            await infer(client, 1, variant="nope")
            (stats,) = await statistics(client, "toy", VARIANTS[0])
            assert (stats.name, stats.version) == ("toy", VARIANTS[0])
            assert before <= stats.last_inference <= time() * 1000 + 1
            assert (stats.inference_count, stats.execution_count) == (7, 5)
            assert counts(stats) == {
                "success": 5, "fail": 2, "queue": 5, "compute_input": 5, "compute_infer": 5, "compute_output": 5,
            }  # fmt: skip
            assert batches(stats) == {1: 3, 2: 2}
            (other,) = await statistics(client, "toy", VARIANTS[1])
            assert (other.inference_count, other.execution_count, batches(other)) == (3, 1, {3: 1})

    asyncio.run(run())


def test_the_parts_of_a_success_add_up_to_no_more_than_the_whole(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            await infer(client, 1, 4, 2)
            (stats,) = await statistics(client, "toy", VARIANTS[0])
            times = stats.inference_stats
            parts = (times.queue, times.compute_input, times.compute_infer, times.compute_output)
            assert all(part.ns > 0 for part in parts)
            rounding = 3 * len(parts)
            assert sum(part.ns for part in parts) <= times.success.ns + rounding
            assert sum(batch.compute_infer.ns for batch in stats.batch_stats) == times.compute_infer.ns

    asyncio.run(run())


def test_a_failed_execution_is_a_failed_request_and_no_execution(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            await infer(client, 1)
            host(client.server, Faulty(raising))
            await infer(client, 1, 1)
            (stats,) = await statistics(client, "toy", VARIANTS[0])
            assert (counts(stats)["success"], counts(stats)["fail"]) == (1, 2)
            assert (stats.inference_count, stats.execution_count, batches(stats)) == (1, 1, {1: 1})
            assert stats.inference_stats.fail.ns > 0

    asyncio.run(run())


def test_each_member_of_a_batch_counts_and_the_execution_counts_once(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            gate = Gate()
            host(client.server, gate, rows=8)
            first = asyncio.create_task(infer(client, 1))
            await eventually(gate.entered.is_set)
            others = [asyncio.create_task(infer(client, rows)) for rows in (1, 2, 3)]
            await client.wait_for("pareto_queue_depth", 3)
            gate.open.set()
            await asyncio.gather(first, *others)
            (stats,) = await statistics(client, "toy", VARIANTS[0])
            assert (stats.inference_count, stats.execution_count, batches(stats)) == (7, 2, {1: 1, 6: 1})
            assert counts(stats)["compute_infer"] == 4
            alone, together = (batch.compute_infer.ns for batch in stats.batch_stats)
            assert stats.inference_stats.compute_infer.ns == alone + 3 * together

    asyncio.run(run())


def test_requests_of_a_stream_count_as_others_do(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            stream = client.stub.ModelStreamInfer(timeout=30)
            for rows in (1, 2, 65):
                await stream.write(request(rows))
                await stream.read()
            (stats,) = await statistics(client, "toy", VARIANTS[0])
            assert (counts(stats)["success"], counts(stats)["fail"], stats.inference_count) == (2, 1, 3)
            stream.cancel()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "version", "expected"), [("", "", VARIANTS), ("toy", "", VARIANTS), ("toy", VARIANTS[1], VARIANTS[1:])]
)
def test_an_empty_name_means_all(repository: Path, name: str, version: str, expected: list[str]) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            assert [stats.version for stats in await statistics(client, name, version)] == expected

    asyncio.run(run())


@pytest.mark.parametrize(("name", "version"), [("nope", ""), ("toy", "nope"), ("", VARIANTS[0]), ("../toy", "")])
def test_what_does_not_exist_is_not_found(repository: Path, name: str, version: str) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            for call in (
                client.stub.ModelStatistics(pb.ModelStatisticsRequest(name=name, version=version), timeout=30),
                client.stub.ModelConfig(pb.ModelConfigRequest(name=name, version=version), timeout=30),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() == grpc.StatusCode.NOT_FOUND

    asyncio.run(run())


async def config(client: Client, version: str = "") -> pb.ModelConfig:
    return (await client.stub.ModelConfig(pb.ModelConfigRequest(name="toy", version=version), timeout=30)).config


def test_the_configuration_of_a_variant_is_what_serves_it(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository, max_rows=9, queue_size=5, batch_max=4, batch_delay=0.002) as client:
            expected = pb.ModelConfig(
                name="toy",
                platform="openvino",
                backend="openvino",
                max_batch_size=9,
                input=[pb.ModelInput(name="input", data_type=pb.TYPE_FP32, dims=[3, 4, 4])],
                output=[pb.ModelOutput(name="logits", data_type=pb.TYPE_FP32, dims=[3])],
                instance_group=[pb.ModelInstanceGroup(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)],
                dynamic_batching=pb.ModelDynamicBatching(preferred_batch_size=[4], max_queue_delay_microseconds=2000),
            )
            for name, value in {
                "variant": VARIANTS[1], "recipe": "fp32", "precision": "fp32", "measured": "here",
                "measured_on": f"{toy.MACHINE.cpu} ({' '.join(toy.MACHINE.instruction_sets)})",
                "threads": "1", "queue_size": "5",
            }.items():  # fmt: skip
                expected.parameters[name].string_value = value
            assert await config(client, VARIANTS[1]) == expected

    asyncio.run(run())


def test_the_configuration_has_no_batching_where_it_is_off(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository, batch_max=1) as client:
            assert not (await config(client)).HasField("dynamic_batching")

    asyncio.run(run())
