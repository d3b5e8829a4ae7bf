"""A small OIP server that is not ours: no metrics page, no accuracy, and misbehaviour on demand."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np

from protos.tensors import encode_response
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceServicer, add_GRPCInferenceServiceServicer_to_server

Speech = Callable[[str, bytes], bytes | None]
"""What a server answers to a method's name and the request's bytes; None: it has no such method."""
Answer = Callable[[pb.ModelInferRequest, grpc.ServicerContext], pb.ModelInferResponse]

MODEL = "foreign"


def zeros(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
    """The right answer: as many rows of two zeros as came."""
    rows = request.inputs[0].shape[0]
    return encode_response(MODEL, request.model_version, {"scores": np.zeros((rows, 2), np.float32)})


class ForeignServer(GRPCInferenceServiceServicer):
    """Serves `MODEL` with the given versions; a version that begins with 'cold' is not ready."""

    def __init__(self, versions: tuple[str, ...] = (), answer: Answer = zeros) -> None:
        self.versions = versions
        self.answer = answer
        self.requests: list[pb.ModelInferRequest] = []
        self.address = ""
        self.ready = True
        self.asked = threading.Event()
        """Set once somebody asked whether the server is ready."""

    def ServerMetadata(self, request: object, context: object) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="foreign", version="1.0")

    def ServerReady(self, request: object, context: object) -> pb.ServerReadyResponse:
        self.asked.set()
        return pb.ServerReadyResponse(ready=self.ready)

    def ModelReady(self, request: pb.ModelReadyRequest, context: object) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=not request.version.startswith("cold"))

    def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ModelMetadataResponse:
        if request.name != MODEL:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model '{request.name}'")
        return metadata(self.versions)

    def ModelInfer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        self.requests.append(request)
        return self.answer(request, context)


def metadata(versions: tuple[str, ...] = ()) -> pb.ModelMetadataResponse:
    """Two inputs, one of them token ids; one output."""
    response = pb.ModelMetadataResponse(name=MODEL, versions=versions)
    response.inputs.add(name="pixels", datatype="FP32", shape=[-1, 3, 2])
    response.inputs.add(name="ids", datatype="INT64", shape=[-1, 5])
    response.outputs.add(name="scores", datatype="FP32", shape=[-1, 2])
    return response


@contextmanager
def foreign(versions: tuple[str, ...] = (), answer: Answer = zeros) -> Iterator[ForeignServer]:
    """The server on a free port of this machine, stopped at the end."""
    servicer = ForeignServer(versions, answer)
    server = grpc.server(ThreadPoolExecutor(4))
    add_GRPCInferenceServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield servicer
    finally:
        server.stop(grace=None).wait()


@contextmanager
def speaking(speech: Speech) -> Iterator[str]:
    """The address of a server that answers each call of any service with the bytes that `speech` returns."""

    class Handlers(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
                if (raw := speech(details.method.rpartition("/")[2], request)) is None:
                    context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")
                    raise AssertionError
                return raw

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(8), handlers=[Handlers()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()
