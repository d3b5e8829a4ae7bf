"""The Open Inference Protocol's calls: each asks the registry, or `Inference` for an answer.

Errors are raised as domain errors; `server.edge` makes statuses of them.
"""

import importlib.metadata
from typing import TypeAlias

import grpc

from protos.manifest import TensorSpec
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceServicer
from server.inference import Inference
from server.registry import Registry

NAME = "paretoserve"
EXTENSIONS: tuple[str, ...] = ("classification",)
"""Of the protocol, and only those that really work."""

InferContext: TypeAlias = "grpc.aio.ServicerContext[pb.ModelInferRequest, pb.ModelInferResponse]"


class Servicer(GRPCInferenceServiceServicer):
    """Answers for the variants of `registry`."""

    def __init__(self, registry: Registry, inference: Inference) -> None:
        self._registry, self._inference = registry, inference

    async def ServerLive(self, request: pb.ServerLiveRequest, context: object) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: object) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._registry.ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: object) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=self._registry.find(request.name, request.version).state == "READY")

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: object) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name=NAME, version=_version(), extensions=EXTENSIONS)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: object) -> pb.ModelMetadataResponse:
        hosted = self._registry.find(request.name, request.version)
        response = pb.ModelMetadataResponse(name=request.name, versions=self._registry.variants(request.name))
        if (variant := hosted.entry.variant) is not None:  # else the manifest cannot be read
            response.platform = variant.runtime
            response.inputs.extend(map(_tensor_metadata, variant.inputs))
            response.outputs.extend(map(_tensor_metadata, variant.outputs))
        return response

    async def ModelInfer(self, request: pb.ModelInferRequest, context: InferContext) -> pb.ModelInferResponse:
        return await self._inference.answer(request, context)


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def _version() -> str:
    try:
        return importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"
