"""A server in this process and a connection to it: what a client sees, beside the server's insides."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from server.lifecycle import Server
from tests.support.server.standins import running
from tests.support.serving import Samples, eventually, scrape


class Client:
    """A server in this process, and a connection to it."""

    def __init__(self, server: Server, channel: grpc.aio.Channel) -> None:
        self.server, self.channel = server, channel
        self.stub = GRPCInferenceServiceStub(channel)

    def page(self) -> Samples:
        """The metrics; a thread of the server answers, so the loop may wait for it."""
        return scrape(self.server.metrics_address)

    def sample(self, name: str, **labels: str) -> float:
        """One sample of the default variant, 0 where there is none."""
        key = {"model": "toy", "variant": "fp32-onnxruntime", **labels}
        return self.page().get((name, tuple(sorted(key.items()))), 0.0)

    async def wait_for(self, name: str, value: float = 1, **labels: str) -> None:
        """Until that sample is `value`: a client may know of its call's end before the server does."""
        await eventually(lambda: self.sample(name, **labels), value)

    def depth(self) -> int:
        """The requests that wait for the default variant."""
        engine = self.server.registry.find("toy", "").engine
        assert engine is not None
        return engine.depth()

    def series(self, variant: str) -> set[str]:
        """The names of the samples that have this variant as label."""
        return {name for name, labels in self.page() if ("variant", variant) in labels}


@asynccontextmanager
async def connected(repository: Path, **settings: int | float | str) -> AsyncIterator[Client]:
    """A server of `repository`, loaded, and a connection to it."""
    async with running(repository, **settings) as server, grpc.aio.insecure_channel(server.grpc_address) as channel:
        yield Client(server, channel)
