"""How room is made below `--max-memory`: who leaves for whom, and who does not. Servers in this process, whose limit is
moved to where a test wants it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from protos.tensors import encode_request
from server.hosting.memory import held_bytes, resident_bytes
from server.hosting.registry import Hosted
from tests.support import toy
from tests.support.server.connection import Client, connected
from tests.support.server.repository_control import FIRST, IMAGES, SECOND, factor, index, load, publish
from tests.support.serving import eventually

MB = 1_000_000
WEIGHTS, NEEDED = 24 * MB, 80 * MB
"""Of one variant: what it holds at least, and what its manifest says that loading takes."""
HEAVY = [f"v{number}-onnxruntime" for number in range(3)]


@asynccontextmanager
async def limited(root: Path, **settings: float) -> AsyncIterator[Client]:
    """A server that has room enough, at first."""
    async with connected(root, max_memory=8000.0, **settings) as client:
        yield client


async def leave(client: Client, room: int) -> None:
    """Leaves so many bytes for what is loaded next."""
    memory = client.server.registry.memory
    await memory.give_back(freed=True)
    memory.limit = float(resident_bytes() + room)


def hold(client: Client, hosted: Hosted, held: int = 500 * MB) -> None:
    """Has the server think that a variant holds so much."""
    client.server.application._residency._held[hosted] = held


async def warmed(client: Client, *names: str) -> list[Hosted]:
    """These variants, once they are in memory and nobody asks for them."""
    found = [client.server.registry.find("toy", name) for name in names]
    for name, hosted in zip(names, found, strict=True):
        await client.stub.ModelInfer(encode_request("toy", name, {"input": IMAGES}), timeout=60)
        await eventually(lambda hosted=hosted: hosted.metrics.in_flight, 0)
    return found


async def refused(client: Client, name: str) -> str:
    """Why a request for it is UNAVAILABLE."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await factor(client, name)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(caught.value.details())


def states(client: Client) -> dict[str, str]:
    return {hosted.entry.name: hosted.state for hosted in client.server.registry.all()}


def test_a_variant_for_which_all_idle_ones_hold_too_little_has_none_of_them_leave(tmp_path: Path) -> None:
    root = toy.repository(tmp_path, ("onnxruntime",))
    for name in HEAVY:
        toy.publish_variant(root, "onnxruntime", name.partition("-")[0], ballast=WEIGHTS, needed=NEEDED)
    toy.publish_variant(root, "onnxruntime", "large", needed=220 * MB)

    async def run() -> None:
        async with limited(root, cold_wait=0.3) as client:
            await warmed(client, *HEAVY)
            await leave(client, 0)  # less than 220 MB leave with them, though loading them took 240
            told = "is COLD: there is no room for its 220 MB below --max-memory"
            assert told in await refused(client, "large-onnxruntime")
            assert [states(client)[name] for name in HEAVY] == ["READY"] * 3

    asyncio.run(run())


def test_where_they_turn_out_to_hold_too_little_it_is_not_tried_again_at_once(root: Path) -> None:
    toy.publish_variant(root, "onnxruntime", "large", needed=400 * MB)

    async def run() -> None:
        async with limited(root, cold_wait=0.3) as client:
            (small,) = await warmed(client, FIRST)
            hold(client, small)
            await leave(client, 0)
            await refused(client, "large-onnxruntime")
            assert small.state == "COLD"  # in vain
            await leave(client, 100 * MB)
            await warmed(client, FIRST)
            hold(client, small)
            await refused(client, "large-onnxruntime")
            assert small.state == "READY"

    asyncio.run(run())


def test_a_variant_holds_no_less_than_its_files_and_no_more_than_loading_took(tmp_path: Path) -> None:
    folder = toy.publish_variant(tmp_path, "onnxruntime", ballast=WEIGHTS, needed=NEEDED)
    variant = toy.read_entry(folder).variant
    assert variant is not None
    assert held_bytes(variant, grown=-5 * MB) == variant.artifact_bytes > WEIGHTS
    assert held_bytes(variant, grown=50 * MB) == 50 * MB
    assert held_bytes(variant, grown=300 * MB) == NEEDED


def test_a_variant_that_is_being_changed_does_not_leave(root: Path) -> None:
    async def run() -> None:
        async with limited(root) as client:
            (hosted,) = await warmed(client, FIRST)
            residency = client.server.application._residency
            hold(client, hosted)
            await leave(client, -50 * MB)
            async with hosted.turn:
                assert not await residency._make_room(0)
                assert hosted.state == "READY"
            await residency._make_room(0)
            assert hosted.state == "COLD"

    asyncio.run(run())


def test_what_is_in_memory_already_takes_the_place_of_no_other(root: Path) -> None:
    async def run() -> None:
        async with limited(root) as client:
            first, second = await warmed(client, FIRST, SECOND)
            await leave(client, -resident_bytes())
            await asyncio.wait_for(client.server.application._residency.warm(first), 5)
            assert (first.state, second.state) == ("READY", "READY")

    asyncio.run(run())


@pytest.mark.parametrize("asked", ["by the watch", "by a client"])
def test_room_is_made_for_a_newer_publication_before_it_is_loaded(root: Path, asked: str) -> None:
    toy.publish_variant(root, "onnxruntime", "heavy", ballast=WEIGHTS, needed=NEEDED)

    async def run() -> None:
        watch = 0.05 if asked == "by the watch" else 0.0
        async with limited(root, watch=watch, allow_repository_control=True) as client:
            first, heavy = await warmed(client, FIRST, "heavy-onnxruntime")
            await leave(client, NEEDED - WEIGHTS // 2)
            toy.publish_variant(root, "onnxruntime", factor=3.0, tolerance=100.0, needed=NEEDED)
            if not watch:
                await load(client)
            await eventually(lambda: heavy.state, "COLD")
            await eventually(lambda: (first.state, first.variant == first.entry.variant), ("READY", True))
            assert await factor(client, FIRST) == 3.0

    asyncio.run(run())


def test_a_newer_publication_beside_which_there_is_no_room_is_loaded_by_the_next_request(root: Path) -> None:
    async def run() -> None:
        async with limited(root, allow_repository_control=True) as client:
            (hosted,) = await warmed(client, FIRST)
            await leave(client, 0)
            publish(root, 3.0)
            await load(client)
            assert hosted.state == "COLD"
            await leave(client, 100 * MB)
            assert await factor(client, FIRST) == 3.0

    asyncio.run(run())


def test_a_busy_variant_goes_on_until_there_is_room_for_its_newer_publication(root: Path) -> None:
    async def run() -> None:
        async with limited(root, watch=0.05) as client:
            (hosted,) = await warmed(client, FIRST)
            hosted.metrics.request_began()  # and is not over
            await leave(client, 0)
            publish(root, 3.0)
            because = "a newer publication is not served: there is no room for its 3 MB below --max-memory"
            await eventually(lambda: bool(hosted.reason))
            assert (await index(client))[FIRST] == ("READY", because)
            assert await factor(client, FIRST) == 2.0
            await leave(client, 100 * MB)
            await eventually(lambda: hosted.reason, "")
            assert await factor(client, FIRST) == 3.0

    asyncio.run(run())


def test_a_pinned_variant_for_which_there_is_no_room_is_loaded_by_a_request(root: Path) -> None:
    async def run() -> None:
        async with limited(root, pin=("toy",), allow_repository_control=True) as client:
            await client.server.registry.unload(client.server.registry.find("toy", SECOND))
            await leave(client, 0)
            with pytest.raises(grpc.aio.AioRpcError, match="there is no room for its 3 MB below --max-memory"):
                await load(client)
            assert states(client)[SECOND] == "COLD"
            await leave(client, 100 * MB)
            assert await factor(client, SECOND) == 2.0

    asyncio.run(run())


def test_a_variant_that_vanishes_while_it_is_asked_for_leaves_no_series(root: Path) -> None:
    async def run() -> None:
        async with limited(root, watch=0.05) as client:
            await leave(client, 0)
            asking = asyncio.create_task(refused(client, SECOND))
            hosted = client.server.registry.find("toy", SECOND)
            await eventually(lambda: hosted.metrics.in_flight, 1)
            shutil.rmtree(root / "toy" / SECOND)
            assert await asking == f"variant 'toy/{SECOND}' is UNLOADED"
            await eventually(lambda: hosted.metrics.in_flight, 0)
            assert client.series(SECOND) == set()

    asyncio.run(run())
