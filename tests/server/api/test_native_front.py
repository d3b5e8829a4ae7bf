"""What only the native door can do wrong: its package, what lies behind it, and how it ends."""

import asyncio
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.errors import UsageError
from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from server.lifecycle import Server
from server.settings import Settings
from tests.support import toy
from tests.support.server.connection import connected

REQUEST = encode_request("toy", "", {"input": toy.images(1)}, "id-17")


def test_without_its_package_one_line_says_how_to_install_it(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "server.api.native_front", raising=False)
    monkeypatch.setitem(sys.modules, "pygrpc_native", None)  # as if it were not there

    async def run() -> None:
        server = Server(Settings(repository, port=0, metrics_port=0, front="native"))
        with pytest.raises(UsageError) as caught:
            await server.listen()
        assert str(caught.value) == (
            "--front native: 'pygrpc_native' is not installed: pip install 'paretoserve[fast]'"
        )

    asyncio.run(run())


def test_where_the_server_behind_it_is_gone_requests_are_answered_and_all_else_is_unavailable(
    repository: Path,
) -> None:
    async def run() -> None:
        async with connected(repository, front="native") as client:
            await client.server._grpc.stop(None)
            check = health_pb2_grpc.HealthStub(client.channel).Check
            for call in (
                check(health_pb2.HealthCheckRequest(), timeout=30),
                client.stub.ServerLive(pb.ServerLiveRequest(), timeout=30),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert (await client.stub.ModelInfer(REQUEST, timeout=30)).id == "id-17"

    asyncio.run(run())
