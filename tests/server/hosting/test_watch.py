"""`--watch`: the server follows its repository by itself. A real server in this process, asked over real sockets."""

import asyncio
import errno
import shutil
from pathlib import Path

import grpc
import pytest

from protos.repository import GOLDEN, Entry, load_golden, promote, save_golden
from protos.tensors import encode_request
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from server.hosting.loading import Loaded
from tests.support.server.connection import Client, connected
from tests.support.server.repository_control import (
    FIRST,
    IMAGES,
    NOT_SERVING,
    SECOND,
    UNKNOWN,
    Load,
    factor,
    factor_of,
    health,
    index,
    load,
    publish,
    unload,
)
from tests.support.server.worker_pool import to_each_worker
from tests.support.serving import eventually, serving

pytestmark = pytest.mark.usefixtures("front")

WATCH = 0.05


async def until_index(client: Client, wanted: dict[str, str]) -> None:
    """Until these are the states of all variants."""
    await eventually(lambda: {hosted.entry.name: hosted.state for hosted in client.server.registry.all()}, wanted)


def test_a_variant_that_is_published_is_served_from_then_on(root: Path) -> None:
    async def run() -> None:
        async with connected(root, watch=WATCH) as client:
            publish(root, 5.0, recipe="int8")
            await until_index(client, {FIRST: "READY", SECOND: "READY", "int8-onnxruntime": "READY"})
            assert await factor(client, "int8-onnxruntime") == 5.0
            assert client.sample("pareto_variant_state", variant="int8-onnxruntime", state="READY") == 1

    asyncio.run(run())


def test_a_variant_that_only_leaves_out_is_not_served_when_it_is_published(root: Path) -> None:
    async def run() -> None:
        async with connected(root, watch=WATCH, only=(f"toy/{FIRST}",)) as client:
            before = client.server.registry.find("toy", "").engine
            publish(root, 5.0, recipe="int8")
            publish(root, 3.0)
            await eventually(lambda: client.server.registry.find("toy", "").engine is not before)
            assert await factor(client) == 3.0
            await until_index(client, {FIRST: "READY"})

    asyncio.run(run())


def test_a_variant_that_is_published_again_takes_the_place_of_the_old_one(root: Path) -> None:
    async def run() -> None:
        async with connected(root, watch=WATCH) as client:
            before = client.server.registry.find("toy", "").engine
            publish(root, 3.0)
            await eventually(lambda: client.server.registry.find("toy", "").engine is not before)
            assert await factor(client) == 3.0

    asyncio.run(run())


def test_a_variant_that_vanishes_is_not_found_from_then_on_and_so_is_its_model(root: Path) -> None:
    async def run() -> None:
        async with connected(root, watch=WATCH) as client:
            shutil.rmtree(root / "toy" / SECOND)
            await until_index(client, {FIRST: "READY"})
            assert client.series(SECOND) == set()
            shutil.rmtree(root / "toy")
            await eventually(client.server.registry.models, [])
            assert [await health(client, service) for service in ("", "toy", f"toy/{FIRST}")] == [
                NOT_SERVING,
                UNKNOWN,
                UNKNOWN,
            ]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.stub.ModelInfer(encode_request("toy", "", {"input": IMAGES}), timeout=30)
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND

    asyncio.run(run())


def test_a_promotion_is_followed(root: Path) -> None:
    async def run() -> None:
        async with connected(root, watch=WATCH) as client:
            promote(root, "toy", SECOND)
            await eventually(lambda: client.server.registry.default("toy"), SECOND)
            response = await client.stub.ModelInfer(encode_request("toy", "", {"input": IMAGES}), timeout=30)
            assert response.model_version == SECOND
            shown = [client.sample("pareto_default_variant", model="toy", variant=name) for name in (FIRST, SECOND)]
            assert shown == [0, 1]

    asyncio.run(run())


def test_a_publication_that_cannot_be_loaded_leaves_the_old_one_serving_and_is_tried_once(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with connected(root, watch=WATCH) as client:
            publish(root, 3.0, tolerance=1e-3)
            await eventually(lambda: client.server.registry.find("toy", "").reason != "")
            publish(root, 5.0, recipe="int8")  # a sign that the watch has come round again
            await eventually(lambda: "int8-onnxruntime" in client.server.registry.of("toy"))
            await until_index(client, {FIRST: "READY", SECOND: "READY", "int8-onnxruntime": "READY"})
            assert await factor(client) == 2.0

    asyncio.run(run())
    assert caplog.text.count(f"variant toy/{FIRST} FAILED: golden outputs differ by") == 1


def test_a_publication_that_cannot_be_loaded_for_the_moment_is_tried_until_it_can(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with connected(root, watch=WATCH) as client:
            tried = []

            def no_room(entry: Entry) -> Loaded:
                tried.append(entry)
                raise OSError(errno.EMFILE, "Too many open files", str(root / "toy"))

            with monkeypatch.context() as patch:
                patch.setattr(client.server.registry._loader, "open", no_room)
                publish(root, 3.0)
                publish(root, 5.0, recipe="int8")
                await eventually(lambda: len(tried) > 4)
                assert await factor(client) == 2.0
                states = {name: state for name, (state, _) in (await index(client)).items()}
                assert states == {FIRST: "READY", SECOND: "READY", "int8-onnxruntime": "UNAVAILABLE"}
            await until_index(client, {FIRST: "READY", SECOND: "READY", "int8-onnxruntime": "READY"})
            await eventually(lambda: client.server.registry.find("toy", FIRST).reason, "")
            assert (await factor(client), await factor(client, "int8-onnxruntime")) == (3.0, 5.0)

    asyncio.run(run())
    assert sum("cannot be loaded now" in line for line in caplog.messages) == 2  # one line for each


def test_variants_that_failed_by_a_damaged_golden_set_are_served_once_it_is_whole(root: Path) -> None:
    async def run() -> None:
        golden = load_golden(root, "toy")
        (root / "toy" / GOLDEN).write_bytes(b"damaged")
        async with connected(root, watch=WATCH) as client:
            await until_index(client, {FIRST: "FAILED", SECOND: "FAILED"})
            save_golden(root, "toy", golden)
            await until_index(client, {FIRST: "READY", SECOND: "READY"})

    asyncio.run(run())


def test_what_was_unloaded_on_request_stays_so_until_it_is_loaded(root: Path) -> None:
    async def run() -> None:
        async with connected(root, watch=WATCH, allow_repository_control=True) as client:
            await unload(client)
            publish(root, 3.0)
            shutil.copytree(root / "toy", root / "next")  # of another model by its manifest: seen, and broken
            await eventually(lambda: "next" in client.server.registry.models())
            assert {state for state, _ in (await index(client, model="toy")).values()} == {"UNAVAILABLE"}
            await load(client)
            assert await factor(client) == 3.0

    asyncio.run(run())


def test_the_watch_outlives_a_repository_that_is_away_for_a_while(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with connected(root, watch=WATCH) as client:
            root.rename(root.with_name("away"))
            await eventually(lambda: "could not be followed" in caplog.text)
            assert await factor(client) == 2.0
            root.with_name("away").rename(root)
            publish(root, 5.0, recipe="int8")
            await eventually(lambda: "int8-onnxruntime" in client.server.registry.of("toy"))

    asyncio.run(run())


def test_publications_under_load_give_no_wrong_answer_and_no_failure(root: Path) -> None:
    async def run() -> None:
        async with connected(root, watch=WATCH) as client:
            clients = Load(client)
            for number in range(3, 9):
                before = client.server.registry.find("toy", FIRST).engine
                clients.published |= {float(number)}
                await asyncio.to_thread(publish, root, float(number))
                await eventually(lambda before=before: client.server.registry.find("toy", FIRST).engine is not before)
                clients.published = frozenset([float(number)])
                assert await factor(client) == number
            await clients.stop()
            assert (clients.wrong, clients.codes.keys()) == ([], {"OK"})

    asyncio.run(run())


def test_each_of_several_workers_follows_the_repository(root: Path) -> None:
    with serving(root, "--workers", "2", "--watch", "0.05") as server, to_each_worker(server, 2) as connections:
        stubs = {number: GRPCInferenceServiceStub(channel) for number, channel in connections}
        request = encode_request("toy", FIRST, {"input": IMAGES})

        def factors() -> list[float]:
            return [factor_of(stub.ModelInfer(request, timeout=30)) for stub in stubs.values()]

        assert factors() == [2.0, 2.0]
        publish(root, 3.0)
        asyncio.run(eventually(factors, [3.0, 3.0]))
