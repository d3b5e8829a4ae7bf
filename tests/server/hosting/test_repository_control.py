"""Index, load and unload: a real server in this process. Toy variants of different factors tell which one answered."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos.repository import promote
from protos.tensors import decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from tests.support.server.connection import Client, connected
from tests.support.server.repository_control import (
    FIRST,
    IMAGES,
    NOT_SERVING,
    SECOND,
    SERVING,
    UNKNOWN,
    Load,
    factor,
    health,
    index,
    load,
    publish,
    unload,
)
from tests.support.server.standins import Gate, host
from tests.support.serving import eventually

pytestmark = pytest.mark.usefixtures("front")

NAMES = [
    "../toy",
    "/",
    "..",
    ".",
    "toy/../toy",
    "toy/fp32-onnxruntime",
    "/etc/passwd",
    "toy\0",
    "x" * 100_000,
    "*",
    " ",
]
"""No model has such a name, whatever the file system makes of it."""


@asynccontextmanager
async def controlled(root: Path, **settings: float) -> AsyncIterator[Client]:
    """A server that may be told to load and unload."""
    async with connected(root, allow_repository_control=True, **settings) as client:
        yield client


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def test_control_is_refused_unless_it_is_allowed_and_the_index_is_not(repository: Path) -> None:
    async def run() -> None:
        async with connected(repository) as client:
            for call in (load(client), unload(client)):
                code, text = await refusal(call)
                assert (code, "not allowed" in text) == (grpc.StatusCode.FAILED_PRECONDITION, True)
            assert await index(client) == {FIRST: ("READY", ""), SECOND: ("READY", "")}
            metadata = await client.stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=30)
            assert "model_repository" not in metadata.extensions

    asyncio.run(run())


def test_the_index_lists_what_is_broken_with_its_reason_unless_only_ready_is_asked_for(root: Path) -> None:
    (root / "toy" / SECOND / "model.onnx").unlink()

    async def run() -> None:
        async with controlled(root) as client:
            broken = ("UNAVAILABLE", "file 'model.onnx' is missing")
            assert await index(client) == {FIRST: ("READY", ""), SECOND: broken}
            assert await index(client, ready=True) == {FIRST: ("READY", "")}
            metadata = await client.stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=30)
            assert "model_repository" in metadata.extensions

    asyncio.run(run())


@pytest.mark.parametrize("parameter", ["config", "file:1/model.onnx", "/etc/passwd", "unload_dependents"])
def test_a_load_takes_nothing_that_comes_with_the_request(repository: Path, parameter: str) -> None:
    async def run() -> None:
        async with controlled(repository) as client:
            request = pb.RepositoryModelLoadRequest(model_name="toy")
            request.parameters[parameter].string_param = "{}"
            code, text = await refusal(client.stub.RepositoryModelLoad(request, timeout=30))
            assert (code, f"got parameter '{parameter}'" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)
            other = pb.RepositoryModelUnloadRequest(model_name="toy", repository_name="../models")
            code, _ = await refusal(client.stub.RepositoryModelUnload(other, timeout=30))
            assert code == grpc.StatusCode.INVALID_ARGUMENT
            assert await factor(client) == 2.0

    asyncio.run(run())


def test_a_name_that_is_a_path_is_not_found_by_any_call(repository: Path) -> None:
    async def run() -> None:
        async with controlled(repository) as client:
            stub = client.stub
            for name in NAMES:
                calls = [
                    stub.ModelReady(pb.ModelReadyRequest(name=name), timeout=30),
                    stub.ModelReady(pb.ModelReadyRequest(name="toy", version=name), timeout=30),
                    stub.ModelMetadata(pb.ModelMetadataRequest(name=name), timeout=30),
                    stub.ModelMetadata(pb.ModelMetadataRequest(name="toy", version=name), timeout=30),
                    stub.ModelConfig(pb.ModelConfigRequest(name=name), timeout=30),
                    stub.ModelConfig(pb.ModelConfigRequest(name="toy", version=name), timeout=30),
                    stub.ModelStatistics(pb.ModelStatisticsRequest(name=name), timeout=30),
                    stub.ModelStatistics(pb.ModelStatisticsRequest(name="toy", version=name), timeout=30),
                    stub.ModelInfer(encode_request(name, "", {"input": IMAGES}), timeout=30),
                    stub.ModelInfer(encode_request("toy", name, {"input": IMAGES}), timeout=30),
                    stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name), timeout=30),
                    stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=name), timeout=30),
                ]
                codes = [(await refusal(call))[0] for call in calls]
                assert codes == [grpc.StatusCode.NOT_FOUND] * len(calls), name[:20]
            assert await index(client) == {FIRST: ("READY", ""), SECOND: ("READY", "")}

    asyncio.run(run())


def test_an_unloaded_model_is_unavailable_everywhere_until_it_is_loaded(root: Path) -> None:
    async def run() -> None:
        async with controlled(root) as client:
            await unload(client)
            await unload(client)
            assert await index(client) == {FIRST: ("UNAVAILABLE", "unloaded"), SECOND: ("UNAVAILABLE", "unloaded")}
            assert await index(client, ready=True) == {}
            call = client.stub.ModelInfer(encode_request("toy", "", {"input": IMAGES}), timeout=30)
            assert await refusal(call) == (grpc.StatusCode.UNAVAILABLE, f"variant 'toy/{FIRST}' is UNLOADED")
            assert not (await client.stub.ModelReady(pb.ModelReadyRequest(name="toy"), timeout=30)).ready
            assert not (await client.stub.ServerReady(pb.ServerReadyRequest(), timeout=30)).ready
            assert [await health(client, service) for service in ("", "toy", f"toy/{FIRST}")] == [NOT_SERVING] * 3
            assert client.series(FIRST) == set()
            await load(client)
            assert await index(client) == {FIRST: ("READY", ""), SECOND: ("READY", "")}
            assert [await factor(client), await factor(client, SECOND)] == [2.0, 2.0]
            assert [await health(client, service) for service in ("", "toy", f"toy/{FIRST}")] == [SERVING] * 3
            assert client.sample("pareto_requests_total", code="OK") == 1

    asyncio.run(run())


def test_a_load_takes_up_what_is_new_and_what_has_changed_and_drops_what_has_vanished(root: Path) -> None:
    async def run() -> None:
        async with controlled(root) as client:
            publish(root, 3.0)
            publish(root, 5.0, recipe="int8")
            shutil.rmtree(root / "toy" / SECOND)
            promote(root, "toy", "int8-onnxruntime")
            assert [await factor(client), await factor(client, SECOND)] == [2.0, 2.0]  # nobody has asked for it yet
            await load(client)
            assert await index(client) == {FIRST: ("READY", ""), "int8-onnxruntime": ("READY", "")}
            assert [await factor(client), await factor(client, "")] == [3.0, 5.0]
            gone = client.stub.ModelInfer(encode_request("toy", SECOND, {"input": IMAGES}), timeout=30)
            assert (await refusal(gone))[0] == grpc.StatusCode.NOT_FOUND
            assert [await health(client, f"toy/{name}") for name in (FIRST, SECOND)] == [SERVING, UNKNOWN]
            assert (client.series(SECOND), client.series("int8-onnxruntime") == client.series(FIRST)) == (set(), True)

    asyncio.run(run())


def test_a_load_takes_up_a_new_model_and_an_unload_of_a_vanished_one_is_not_found(root: Path, tmp_path: Path) -> None:
    async def run() -> None:
        served = tmp_path / "served"
        served.mkdir()
        async with controlled(served) as client:
            assert (await refusal(load(client)))[0] == grpc.StatusCode.NOT_FOUND
            shutil.copytree(root / "toy", served / "toy")
            await load(client)
            assert await factor(client, "") == 2.0
            shutil.rmtree(served / "toy")
            assert (await refusal(load(client)))[0] == grpc.StatusCode.NOT_FOUND
            assert (await refusal(unload(client)))[0] == grpc.StatusCode.NOT_FOUND
            assert await index(client) == {}

    asyncio.run(run())


def test_a_load_of_what_has_not_changed_loads_nothing(root: Path) -> None:
    async def run() -> None:
        async with controlled(root) as client:
            engines = [hosted.engine for hosted in client.server.registry.all()]
            publish(root, 2.0, tolerance=1e-3)  # the same once more
            await load(client)
            assert [hosted.engine for hosted in client.server.registry.all()] == engines

    asyncio.run(run())


def test_a_failed_reload_is_reported_and_leaves_the_old_one_serving_until_it_is_mended(root: Path) -> None:
    async def run() -> None:
        async with controlled(root) as client:
            publish(root, 3.0, tolerance=1e-3)  # answers that are not the golden ones
            for _ in range(2):
                code, text = await refusal(load(client))
                assert code == grpc.StatusCode.FAILED_PRECONDITION
                assert f"variant 'toy/{FIRST}' is not loaded: golden outputs differ by" in text
                assert await factor(client) == 2.0
            state, reason = (await index(client))[FIRST]
            assert (state, reason.startswith("a newer publication is not served: golden outputs")) == ("READY", True)
            described = (await client.stub.ModelConfig(pb.ModelConfigRequest(name="toy"), timeout=30)).config
            assert described.name == "toy"
            publish(root, 4.0)
            await load(client)
            assert (await factor(client), await index(client)) == (4.0, {FIRST: ("READY", ""), SECOND: ("READY", "")})

    asyncio.run(run())


def test_what_failed_at_the_start_is_loaded_once_it_is_mended(root: Path) -> None:
    artifact = root / "toy" / SECOND / "model.onnx"
    content = artifact.read_bytes()
    artifact.unlink()

    async def run() -> None:
        async with controlled(root) as client:
            code, text = await refusal(load(client))
            assert (code, f"toy/{SECOND}" in text) == (grpc.StatusCode.FAILED_PRECONDITION, True)
            artifact.write_bytes(content)
            await load(client)
            assert await factor(client, SECOND) == 2.0

    asyncio.run(run())


def test_requests_in_flight_finish_on_what_they_started_with_while_the_new_one_answers(root: Path) -> None:
    async def run() -> None:
        async with controlled(root) as client:
            gate = Gate()
            before = host(client.server, gate)
            old = client.stub.ModelInfer(encode_request("toy", "", {"input": IMAGES}), timeout=60)
            await eventually(gate.entered.is_set)
            publish(root, 3.0)
            loading = asyncio.create_task(load(client))
            await eventually(lambda: client.server.registry.find("toy", "").engine is not before)
            assert await factor(client) == 3.0
            assert not loading.done()  # the old one is still busy
            gate.open.set()
            np.testing.assert_array_equal(decode_response(await old)["logits"], IMAGES)
            await loading
            await eventually(lambda: gate.closed)
            assert gate.calls == [1]

    asyncio.run(run())


def test_a_load_goes_on_when_its_client_goes_away(root: Path) -> None:
    async def run() -> None:
        async with controlled(root) as client:
            gate = Gate()
            before = host(client.server, gate)
            busy = client.stub.ModelInfer(encode_request("toy", "", {"input": IMAGES}), timeout=60)
            await eventually(gate.entered.is_set)
            publish(root, 3.0)
            publish(root, 5.0, recipe="int8")  # the next one, for which the load has not come yet
            loading = asyncio.create_task(load(client))
            await eventually(lambda: client.server.registry.find("toy", "").engine is not before)
            loading.cancel()
            gate.open.set()
            await busy
            await eventually(lambda: "int8-onnxruntime" in client.server.registry.of("toy"))
            await load(client)  # waits for its turn
            assert [await factor(client), await factor(client, "int8-onnxruntime")] == [3.0, 5.0]

    asyncio.run(run())


def test_reloads_under_load_give_no_wrong_answer_and_no_failure(root: Path) -> None:
    async def run() -> None:
        async with controlled(root) as client:
            clients = Load(client)
            for number in range(3, 13):
                clients.published |= {float(number)}
                await asyncio.to_thread(publish, root, float(number))
                await load(client)
                clients.published = frozenset([float(number)])  # from now on the old one may not answer
                assert await factor(client) == number
            await clients.stop()
            assert (clients.wrong, clients.codes.keys()) == ([], {"OK"})
            assert client.sample("pareto_requests_total", code="OK") == clients.codes["OK"] + 10

    asyncio.run(run())


def test_unloads_under_load_give_no_wrong_answer_and_only_unavailable(root: Path) -> None:
    async def run() -> None:
        async with controlled(root) as client:
            clients = Load(client)
            for number in range(3, 9):
                await unload(client)
                clients.published = frozenset([float(number)])
                await asyncio.to_thread(publish, root, float(number))
                await load(client)
                assert await factor(client) == number
            await clients.stop()
            assert (clients.wrong, clients.codes.keys()) == ([], {"OK", "UNAVAILABLE"})

    asyncio.run(run())
