"""The end of a server whose clients are slow or go on asking, through both doors: a real server in this process."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from server.lifecycle import Server
from tests.support import toy
from tests.support.server import doors
from tests.support.server.standins import Faulty, Gate, host, running
from tests.support.serving import eventually

waits_for_slow_clients = pytest.mark.parametrize(
    "front", [door for door in doors.DOORS if doors.expected("the end waits for slow clients", door)], indirect=True
)

REQUEST = encode_request("toy", "", {"input": toy.images(1)}, "id-17")
UNKNOWN = encode_request("nope", "", {"input": toy.images(1)})
LARGE, CALLS = 2**18, 12
"""Numbers of 4 bytes in an answer, and calls that have such answers: far more than HTTP/2's windows hold."""
FOREVER = 3600.0
"""Seconds to drain, where nothing may wait for their end."""


def large() -> dict[str, np.ndarray]:
    return {"logits": np.zeros((1, LARGE), np.float32)}


class Relay:
    """Passes on what a client and a server send each other; the answers, only while `open` is set."""

    def __init__(self, target: str) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self._host, _, self._port = target.rpartition(":")
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The address for the client, during the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.open.set()
            await asyncio.gather(*self._tasks)  # both sides have hung up

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        asked, asking = await asyncio.open_connection(self._host, self._port)
        always = asyncio.Event()
        always.set()
        await asyncio.gather(self._pass(reader, asking, always), self._pass(asked, writer, self.open))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, may: asyncio.Event) -> None:
        try:
            while data := await reader.read(65536):
                await may.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()


@asynccontextmanager
async def ending(repository: Path) -> AsyncIterator[tuple[Server, Callable[[], Awaitable[None]]]]:
    """A server, and what stops it; at the end of the block at the latest."""
    async with AsyncExitStack() as life:
        yield await life.enter_async_context(running(repository, drain_timeout=FOREVER)), life.aclose


@asynccontextmanager
async def slowly_read(server: Server) -> AsyncIterator[GRPCInferenceServiceStub]:
    """A client during the block that reads nothing until the server has been draining for a while."""
    relay = Relay(server.grpc_address)
    unbounded = [("grpc.max_receive_message_length", -1)]
    async with relay.listening() as address, grpc.aio.insecure_channel(address, unbounded) as channel:
        stub = GRPCInferenceServiceStub(channel)
        await stub.ServerLive(pb.ServerLiveRequest(), timeout=30)  # gRPC sends nothing before the server has
        relay.open.clear()
        reading = asyncio.create_task(read_later(relay, server))
        yield stub
        reading.cancel()


async def read_later(relay: Relay, server: Server) -> None:
    await eventually(lambda: server.registry.draining)
    await asyncio.sleep(0.5)
    relay.open.set()


@waits_for_slow_clients
@pytest.mark.usefixtures("front")
def test_large_answers_that_a_slow_client_has_not_read_are_delivered_before_the_end(repository: Path) -> None:
    async def run() -> None:
        async with ending(repository) as (server, end), slowly_read(server) as stub:
            host(server, Faulty(large), queue_size=CALLS)
            calls = [stub.ModelInfer(REQUEST, timeout=120) for _ in range(CALLS)]
            await eventually(lambda: server.application.edge.answered("ModelInfer"), {"OK": CALLS})
            await end()
            assert [len((await call).raw_output_contents[0]) for call in calls] == [4 * LARGE] * CALLS

    asyncio.run(run())


@waits_for_slow_clients
@pytest.mark.usefixtures("front")
def test_large_answers_on_a_stream_that_a_slow_client_has_not_read_are_delivered_before_the_end(
    repository: Path,
) -> None:
    async def run() -> None:
        async with ending(repository) as (server, end), slowly_read(server) as stub:
            host(server, Faulty(large), queue_size=CALLS)
            stream = stub.ModelStreamInfer(timeout=120)
            for _ in range(CALLS):
                await stream.write(REQUEST)
            await eventually(lambda: server.registry.find("toy", "").metrics.statistics.success.count, CALLS)
            stopping = asyncio.ensure_future(end())
            read = [len((await stream.read()).infer_response.raw_output_contents[0]) for _ in range(CALLS)]
            assert read == [4 * LARGE] * CALLS
            assert await stream.code() == grpc.StatusCode.UNAVAILABLE
            await stopping

    asyncio.run(run())


@pytest.mark.usefixtures("front")
def test_a_request_that_outlasts_the_drain_is_given_up_and_counted(repository: Path) -> None:
    async def run() -> None:
        gate, channels = Gate(), AsyncExitStack()
        async with channels:
            async with running(repository, drain_timeout=0.3) as server:
                engine = host(server, gate)
                channel = await channels.enter_async_context(grpc.aio.insecure_channel(server.grpc_address))
                calls = [GRPCInferenceServiceStub(channel).ModelInfer(REQUEST, timeout=120) for _ in range(3)]
                await eventually(engine.depth, 2)
            told = {await call.code() for call in calls}
        gate.open.set()
        await eventually(lambda: gate.closed)
        assert told == {grpc.StatusCode.UNAVAILABLE}
        assert server.application.edge.answered("ModelInfer") == {"CANCELLED": 3}
        assert gate.calls == [1]

    asyncio.run(run())


def test_a_client_that_comes_while_the_server_drains_is_refused_by_the_server_or_by_its_port(
    repository: Path, front: str
) -> None:
    async def told(address: str) -> tuple[grpc.StatusCode, str]:
        async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = GRPCInferenceServiceStub(channel).ModelInfer(UNKNOWN, timeout=60)
            return await call.code(), await call.details() or ""

    async def run() -> None:
        async with ending(repository) as (server, end), grpc.aio.insecure_channel(server.grpc_address) as channel:
            host(server, gate)
            accepted = GRPCInferenceServiceStub(channel).ModelInfer(REQUEST, timeout=60)
            await eventually(gate.entered.is_set)
            stopping = asyncio.ensure_future(end())
            while (answer := await told(server.grpc_address))[0] == grpc.StatusCode.NOT_FOUND:
                pass
            gate.open.set()
            assert (await accepted).id == "id-17"
            await stopping
        assert answer[0] == grpc.StatusCode.UNAVAILABLE
        taken = answer[1] == "the server is shutting down"
        assert taken == doors.expected("takes connections while it drains", front)

    gate = Gate()
    asyncio.run(run())


@pytest.mark.usefixtures("front")
def test_clients_that_go_on_asking_do_not_hold_up_the_end(repository: Path) -> None:
    async def ask(address: str) -> None:
        async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            while not over.is_set():
                code = await GRPCInferenceServiceStub(channel).ModelInfer(REQUEST, timeout=60).code()
                heard[code.name] += 1

    async def run() -> None:
        async with running(repository, drain_timeout=FOREVER) as server:
            asking = [asyncio.create_task(ask(server.grpc_address)) for _ in range(8)]
            await eventually(lambda: heard["OK"] >= 100)
        over.set()
        await asyncio.gather(*asking)
        assert server.application.edge.answered("ModelInfer")["OK"] == heard["OK"]
        assert heard.keys() == {"OK", "UNAVAILABLE"}

    over, heard = asyncio.Event(), Counter[str]()
    asyncio.run(run())
