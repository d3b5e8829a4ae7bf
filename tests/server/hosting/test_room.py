"""How room is made below `--max-memory`: who leaves for whom, and who does not. Servers in this process, whose limit is
moved to where a test wants it."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic

import grpc
import pytest

from protos.errors import NoRoomError
from protos.repository import Entry
from protos.tensors import encode_request
from server.execution.engine import Engine
from server.hosting.hosted import Hosted, Trouble, trouble_of
from server.hosting.loading import Loaded
from server.hosting.memory import held_bytes, resident_bytes
from server.runtimes import Runtime
from tests.support import toy
from tests.support.server.connection import Client, connected
from tests.support.server.repository_control import FIRST, IMAGES, SECOND, factor, index, load, publish
from tests.support.serving import eventually

MB = 1_000_000
WEIGHTS, NEEDED = 60 * MB, 180 * MB
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


async def warmed(client: Client, *names: str) -> list[Hosted]:
    """These variants, once they are in memory and nobody asks for them."""
    found = [client.server.registry.find("toy", name) for name in names]
    for name, hosted in zip(names, found, strict=True):
        await client.stub.ModelInfer(encode_request("toy", name, {"input": IMAGES}), timeout=60)
        await eventually(lambda hosted=hosted: hosted.metrics.in_flight, 0)
    return found


@contextmanager
def busy(hosted: Hosted) -> Iterator[None]:
    """While the block lasts, a request for it is under way."""
    hosted.metrics.request_began()
    yield
    hosted.metrics._in_flight -= 1


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
    toy.publish_variant(root, "onnxruntime", "large", needed=530 * MB)

    async def run() -> None:
        async with limited(root, cold_wait=2.0) as client:
            await warmed(client, *HEAVY)
            await leave(client, 20 * MB)  # less than 510 MB leave with them, though loading them took 540
            told = "is COLD: there is no room for its 530 MB below --max-memory"
            assert told in await refused(client, "large-onnxruntime")
            assert [states(client)[name] for name in HEAVY] == ["READY"] * 3

    asyncio.run(run())


def test_where_they_turn_out_to_hold_too_little_it_is_not_tried_again_at_once(root: Path) -> None:
    toy.publish_variant(root, "onnxruntime", "large", needed=120 * MB)

    async def run() -> None:
        async with limited(root, cold_wait=2.0) as client:
            (small,) = await warmed(client, FIRST)
            client.server.application._residency._stays = 0  # as if all were variants'
            await leave(client, 0)
            await refused(client, "large-onnxruntime")
            assert small.state == "COLD"  # in vain
            await leave(client, 60 * MB)
            await warmed(client, FIRST)
            await refused(client, "large-onnxruntime")
            assert small.state == "READY"

    asyncio.run(run())


def test_a_variant_holds_no_less_than_its_files_and_no_more_than_loading_took(tmp_path: Path) -> None:
    folder = toy.publish_variant(tmp_path, "onnxruntime", ballast=WEIGHTS, needed=NEEDED)
    variant = toy.read_entry(folder).variant
    assert variant is not None
    assert held_bytes(variant, grown=-5 * MB) == variant.artifact_bytes > WEIGHTS
    assert held_bytes(variant, grown=90 * MB) == 90 * MB
    assert held_bytes(variant, grown=300 * MB) == NEEDED


def test_what_has_grown_beyond_the_limit_leaves_as_far_as_it_is_idle(root: Path) -> None:
    async def run() -> None:
        async with limited(root) as client:
            first, second = await warmed(client, FIRST, SECOND)
            second.metrics.request_began()  # and is not over
            await leave(client, -100 * MB)  # more than they held when they were loaded
            await eventually(lambda: (first.state, second.state), ("COLD", "READY"))

    asyncio.run(run())


@pytest.mark.parametrize("because", ["it is being changed", "it executes for a caller who has gone"])
def test_a_variant_that_is_in_use_does_not_leave(root: Path, because: str) -> None:
    async def run() -> None:
        async with limited(root) as client:
            (hosted,) = await warmed(client, FIRST)
            residency = client.server.application._residency
            assert residency._may_leave(hosted)
            if because == "it is being changed":
                async with hosted.turn:
                    assert not residency._may_leave(hosted)
            else:
                assert hosted.engine is not None
                hosted.engine.executing = True
                assert not residency._may_leave(hosted)

    asyncio.run(run())


def test_the_limit_is_kept_though_for_a_while_no_thread_can_be_had(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async def run() -> None:
        async with limited(root) as client:
            (hosted,) = await warmed(client, FIRST)
            await leave(client, -100 * MB)
            with monkeypatch.context() as patch:
                patch.setattr(asyncio, "to_thread", no_thread)
                await eventually(lambda: any("cannot be looked after" in line for line in caplog.messages))
            await eventually(lambda: hosted.state, "COLD")

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


def test_an_idle_variant_makes_room_for_its_own_newer_publication(root: Path) -> None:
    toy.publish_variant(root, "onnxruntime", "heavy", ballast=WEIGHTS, needed=NEEDED)

    async def run() -> None:
        async with limited(root, allow_repository_control=True) as client:
            (hosted,) = await warmed(client, "heavy-onnxruntime")
            await leave(client, 0)
            toy.publish_variant(root, "onnxruntime", "heavy", 3.0, 100.0, needed=WEIGHTS // 2)
            await load(client)
            assert (hosted.state, hosted.reason) == ("READY", "")
            assert await factor(client, "heavy-onnxruntime") == 3.0

    asyncio.run(run())


def test_a_variant_goes_on_where_its_leaving_would_make_too_little_room_for_its_newer_publication(root: Path) -> None:
    async def run() -> None:
        async with limited(root, allow_repository_control=True) as client:
            (hosted,) = await warmed(client, FIRST)
            await leave(client, 20 * MB)
            toy.publish_variant(root, "onnxruntime", factor=3.0, tolerance=100.0, needed=500 * MB)
            with pytest.raises(grpc.aio.AioRpcError, match="there is no room for its 500 MB below --max-memory"):
                await load(client)
            assert hosted.state == "READY"
            assert await factor(client, FIRST) == 2.0

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


def test_a_variant_that_was_busy_then_may_leave_for_others_later(root: Path) -> None:
    async def run() -> None:
        async with limited(root, allow_repository_control=True) as client:
            (hosted,) = await warmed(client, FIRST)
            with busy(hosted):
                await leave(client, 0)
                publish(root, 3.0)
                with pytest.raises(grpc.aio.AioRpcError, match="there is no room"):
                    await load(client)
            assert client.server.application._residency._may_leave(hosted)
            assert await client.server.registry.evict(hosted)
            await leave(client, 100 * MB)
            assert await factor(client, FIRST) == 3.0

    asyncio.run(run())


@pytest.mark.parametrize("watch", [0.0, 0.05])
def test_a_pinned_variant_for_which_there_is_no_room_says_so_until_there_is(root: Path, watch: float) -> None:
    told = "there is no room for its 3 MB below --max-memory"

    async def run() -> None:
        async with limited(root, pin=("toy",), allow_repository_control=True, watch=watch) as client:
            hosted = client.server.registry.find("toy", SECOND)
            await client.server.registry.unload(hosted)
            await leave(client, 0)
            for _ in range(2):
                with pytest.raises(grpc.aio.AioRpcError, match=told):
                    await load(client)
            await asyncio.sleep(4 * watch)
            assert (await index(client))[SECOND] == ("READY", f"cold: {told}")
            await leave(client, 100 * MB)
            if watch:
                await eventually(lambda: client.server.registry.find("toy", SECOND).state, "READY")
            assert await factor(client, SECOND) == 2.0

    asyncio.run(run())


def test_why_a_variant_stays_cold_is_told_once_and_not_forgotten_by_the_watch(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = "there is no room for its 3 MB below --max-memory"

    async def run() -> None:
        async with limited(root, watch=0.05, cold_wait=1.0) as client:
            await leave(client, 0)
            assert await refused(client, FIRST) == f"variant 'toy/{FIRST}' is COLD: {told}"
            assert (await index(client))[FIRST] == ("READY", f"cold: {told}")

    asyncio.run(run())
    assert sum("cannot be loaded now" in line for line in caplog.messages) == 1


def test_what_lacks_again_and_again_is_tried_after_longer_and_longer_pauses() -> None:
    trouble, pauses = None, []
    for _ in range(12):
        trouble = trouble_of(MemoryError(), "memory lacks", trouble)
        pauses.append(trouble.pause)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    assert trouble_of(NoRoomError("no room"), "no room", None).pause == 0  # a look at the memory costs nothing


def test_a_variant_that_rests_is_not_tried_by_each_request(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def lacking(entry: Entry) -> Loaded:
        tried.append(entry)
        raise MemoryError

    async def run() -> None:
        async with limited(root, cold_wait=0.0) as client:
            monkeypatch.setattr(client.server.registry._loader, "open", lacking)
            for _ in range(10):
                await refused(client, FIRST)
            hosted = client.server.registry.find("toy", FIRST)
            await eventually(lambda: hosted.reason, "its artifact could not be loaded: MemoryError")
            hosted.trouble = replace(hosted.trouble or Trouble(""), retry_at=monotonic() + 60)
            before = len(tried)
            for _ in range(10):
                await refused(client, FIRST)
            assert len(tried) == before

    asyncio.run(run())


def test_a_variant_whose_engine_gets_no_thread_is_given_back_and_stays_cold(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    def no_thread(runtime: Runtime, *_: object) -> Engine:
        monkeypatch.setattr(runtime, "close", lambda: closed.append(runtime))
        raise RuntimeError("can't start new thread")

    async def run() -> None:
        async with limited(root, cold_wait=2.0) as client:
            with monkeypatch.context() as patch:
                patch.setattr("server.hosting.registry.Engine", no_thread)
                assert "is COLD: its artifact could not be loaded: can't start new" in await refused(client, FIRST)
            assert closed
            hosted = client.server.registry.find("toy", FIRST)
            await eventually(lambda: hosted.rest, 0.0)
            await warmed(client, FIRST)

    asyncio.run(run())


def test_what_was_published_since_the_start_is_what_room_is_made_for(root: Path) -> None:
    async def run() -> None:
        async with limited(root, cold_wait=2.0) as client:
            toy.publish_variant(root, "onnxruntime", factor=3.0, tolerance=100.0, needed=500 * MB)
            await leave(client, 100 * MB)
            assert "there is no room for its 500 MB below --max-memory" in await refused(client, FIRST)

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
