"""The Open Inference Protocol's calls: each decodes, asks the registry or an engine, encodes.

Errors are raised as domain errors; `server.edge` makes statuses of them. Parameters that are unknown are
ignored, as the protocol wants, except those that would silently change what the answer means.
"""

import importlib.metadata
from collections.abc import Mapping
from time import perf_counter
from typing import TypeAlias

import grpc

from protos.errors import InvalidInputError
from protos.manifest import TensorSpec, Variant
from protos.tensors import check, decode_request, encode_response
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceServicer
from server.registry import Registry

NAME = "paretoserve"
EXTENSIONS: tuple[str, ...] = ()
"""Of the protocol, and only those that really work."""

UNSUPPORTED = ("classification", "shared_memory_region")

InferContext: TypeAlias = "grpc.aio.ServicerContext[pb.ModelInferRequest, pb.ModelInferResponse]"


class Servicer(GRPCInferenceServiceServicer):
    """Answers for the variants of `registry`; a request holds at most `max_batch` rows."""

    def __init__(self, registry: Registry, max_batch: int) -> None:
        self._registry, self._max_batch = registry, max_batch

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
        hosted = self._registry.find(request.model_name, request.model_version)
        with hosted.metrics.request(context.time_remaining) as timeout:
            engine, variant = hosted.serving()
            rows = check(request, variant.inputs, self._max_batch)
            names = _outputs(request, variant)
            inputs = decode_request(request)
            answer = await engine.infer(inputs, rows, None if timeout is None else perf_counter() + timeout)
            hosted.metrics.answered(answer)
            outputs = {name: answer.outputs[name] for name in names}
            return encode_response(variant.model, variant.variant, outputs, request.id)


def _outputs(request: pb.ModelInferRequest, variant: Variant) -> list[str]:
    """The names of the outputs that the request wants; all where it names none."""
    for tensor in request.inputs:
        _check_parameters(f"input '{tensor.name}'", tensor.parameters)
    known = [spec.name for spec in variant.outputs]
    if len(request.outputs) > len(known):  # a message has room for millions
        raise InvalidInputError(f"{len(request.outputs)} outputs came, expected at most one for each of {known}")
    for output in request.outputs:
        if output.name not in known:
            raise InvalidInputError(f"output '{output.name}' came, expected one of {known}")
        _check_parameters(f"output '{output.name}'", output.parameters)
    return [output.name for output in request.outputs] or known


def _check_parameters(tensor: str, parameters: Mapping[str, pb.InferParameter]) -> None:
    for name in UNSUPPORTED:
        if name in parameters:
            raise InvalidInputError(f"{tensor}: parameter '{name}' came, which is unsupported")


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def _version() -> str:
    try:
        return importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"
