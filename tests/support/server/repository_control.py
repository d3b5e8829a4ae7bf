"""Loads and unloads as a client asks for them, and clients that see which publication answers."""

import asyncio
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.tensors import decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from tests.support import toy
from tests.support.server.connection import Client

FIRST, SECOND = "fp32-onnxruntime", "fp32-openvino"
IMAGES = toy.images(1)
SERVING, NOT_SERVING, UNKNOWN = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
    health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
)


def publish(root: Path, factor: float, tolerance: float = 100.0, recipe: str = "fp32") -> None:
    """Publishes the first variant, or its like of another recipe, with answers of another factor."""
    toy.publish_variant(root, "onnxruntime", recipe, factor, tolerance)


async def load(client: Client, model: str = "toy") -> None:
    await client.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=model), timeout=60)


async def unload(client: Client, model: str = "toy") -> None:
    request = pb.RepositoryModelUnloadRequest(model_name=model)
    request.parameters["unload_dependents"].bool_param = False  # tritonclient always sends it
    await client.stub.RepositoryModelUnload(request, timeout=60)


async def index(client: Client, ready: bool = False, model: str = "toy") -> dict[str, tuple[str, str]]:
    """State and reason by variant of one model."""
    answer = await client.stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=ready), timeout=30)
    return {row.version: (row.state, row.reason) for row in answer.models if row.name == model}


async def factor(client: Client, variant: str = FIRST) -> float:
    """The factor of the variant that answers."""
    return factor_of(await client.stub.ModelInfer(encode_request("toy", variant, {"input": IMAGES}), timeout=30))


def factor_of(response: pb.ModelInferResponse) -> float:
    """The factor that an answer for `IMAGES` was made with."""
    ratio = decode_response(response)["logits"] / IMAGES.mean(axis=(2, 3))
    assert np.ptp(ratio) < 1e-3
    return round(float(ratio.mean()), 3)


async def health(client: Client, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    status: int = (await health_pb2_grpc.HealthStub(client.channel).Check(request, timeout=30)).status
    return status


class Load:
    """Clients that ask as fast as they are answered; `wrong` are factors that no publication had at the time."""

    def __init__(self, client: Client) -> None:
        self.codes: Counter[str] = Counter()
        self.published = frozenset([2.0])
        """The factors that may answer now."""
        self.wrong: list[float] = []
        self._client, self._stop = client, False
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(8)]

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def _ask(self) -> None:
        while not self._stop:
            before = self.published
            try:
                answered = await factor(self._client)
                self.codes["OK"] += 1
                if answered not in before | self.published:
                    self.wrong.append(answered)
            except grpc.aio.AioRpcError as error:
                self.codes[error.code().name] += 1
