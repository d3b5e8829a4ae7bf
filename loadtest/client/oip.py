"""The one client of this package: Open Inference Protocol calls, each with a deadline, over a connection of its own.

It blocks, or yields to other greenlets once `loadtest.users.users` was imported. Every failure is a `CallError` with a
short status, so that equal failures count as equal. Nothing is retried: a failed call is a result.
"""

import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar, cast

import grpc

from loadtest.client.credentials import PLAIN, Credentials
from loadtest.client.payloads import Payload
from loadtest.plan import Transport
from protos.errors import ParetoServeError
from protos.support import program
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub

Answer = TypeVar("Answer")

WRONG_ANSWER = "WRONG_ANSWER"
"""Status of a call that succeeded with an answer that does not fit its request; not one of gRPC's."""

MESSAGE_BYTES = 64 * 2**20

_INFER = "/inference.GRPCInferenceService/ModelInfer"
_STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # else equal channels share one connection
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
]


def way_in(server: pb.ServerMetadataResponse, transport: Transport = "unary") -> str:
    """Returns what takes inference requests from the port of our server, in words; empty for another's.

    Of a server with the native front, streams go through that to grpcio.
    """
    if server.name != program.NAME:
        return ""
    native = program.NATIVE_FRONT in server.extensions
    if transport == "unary":
        return f"ModelInfer by {'pygrpc-native' if native else 'grpcio'}"
    return f"ModelStreamInfer by grpcio{' behind pygrpc-native' if native else ''}"


class CallError(ParetoServeError):
    """A call that failed; `status` is the gRPC status code's name, or `WRONG_ANSWER`."""

    def __init__(self, status: str, details: str) -> None:
        super().__init__(f"{status}: {details}")
        self.status, self.details = status, details


class Client:
    """Calls to the server at `target` (HOST:PORT), each given up after `deadline` seconds."""

    def __init__(self, target: str, deadline: float, credentials: Credentials = PLAIN) -> None:
        self._channel = credentials.open(target, _OPTIONS)
        self._deadline = deadline
        self._credentials, self._metadata = credentials, credentials.metadata
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._infer = self._channel.unary_unary(_INFER, None, pb.ModelInferResponse.FromString)  # bytes go out as is

    def infer(self, payload: Payload) -> pb.ModelInferResponse:
        """Returns the answer to a payload, from the asked variant and with the asked rows; else raises `CallError`."""
        return _checked(payload, self._ask(self._infer, payload.request))

    def server_ready(self, seconds: float) -> bool:
        """Returns whether a server answers within `seconds` and says that it is ready."""
        try:
            return self._stub.ServerReady(pb.ServerReadyRequest(), seconds, self._metadata).ready
        except grpc.RpcError:
            return False

    def server(self) -> pb.ServerMetadataResponse:
        """Returns name, version and extensions of the server."""
        return self._ask(self._stub.ServerMetadata, pb.ServerMetadataRequest())

    def model(self, model: str, variant: str = "") -> pb.ModelMetadataResponse:
        """Returns variants (as `versions`), inputs and outputs of a model."""
        return self._ask(self._stub.ModelMetadata, pb.ModelMetadataRequest(name=model, version=variant))

    def config(self, model: str, variant: str) -> pb.ModelConfig:
        """Returns how a variant is served. A server may lack this extension, `model_configuration`."""
        return self._ask(self._stub.ModelConfig, pb.ModelConfigRequest(name=model, version=variant)).config

    def ready(self, model: str, variant: str) -> bool:
        """Returns whether a variant can answer; raises `CallError` with NOT_FOUND for an unknown one."""
        return self._ask(self._stub.ModelReady, pb.ModelReadyRequest(name=model, version=variant)).ready

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def _ask(self, method: Callable[..., Answer], request: object) -> Answer:
        try:
            return method(request, self._deadline, self._metadata)
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def _failure(self, error: grpc.RpcError) -> CallError:
        call = cast(grpc.Call, error)  # a blocking call raises an object of both types
        return CallError(call.code().name, self._credentials.hide(call.details() or "no details"))


class StreamClient(Client):
    """A client that sends all requests on one ModelStreamInfer call and tells the answers apart by their ids."""

    def __init__(self, target: str, deadline: float, credentials: Credentials = PLAIN) -> None:
        super().__init__(target, deadline, credentials)
        self._requests = queue.SimpleQueue[bytes | None]()
        self._waiting = dict[str, Future[pb.ModelInferResponse]]()
        self._ids = map(str, itertools.count(1))
        self._reader: threading.Thread | None = None
        self._ended: CallError | None = None

    def infer(self, payload: Payload) -> pb.ModelInferResponse:
        """Does what `Client.infer` does. When the stream ends, every call that waits on it fails."""
        if self._reader is None:
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        id_ = next(self._ids)
        answer = self._waiting[id_] = Future()
        try:
            if self._ended:
                raise self._ended
            self._requests.put(payload.request + pb.ModelInferRequest(id=id_).SerializeToString())  # fields may follow
            response = answer.result(self._deadline)
        except TimeoutError:
            raise CallError("DEADLINE_EXCEEDED", f"no answer on the stream within {self._deadline} s") from None
        finally:
            self._waiting.pop(id_, None)
        return _checked(payload, response)

    def close(self) -> None:
        """Ends the stream and the connection."""
        self._requests.put(None)
        super().close()

    def _read(self) -> None:
        stream = self._channel.stream_stream(_STREAM, None, pb.ModelStreamInferResponse.FromString)
        try:
            for message in stream(iter(self._requests.get, None), metadata=self._metadata):
                self._answer(message)
            self._ended = CallError("CANCELLED", "the server ended the stream")
        except grpc.RpcError as error:
            self._ended = self._failure(error)
        for answer in tuple(self._waiting.values()):
            if not answer.done():
                answer.set_exception(self._ended)

    def _answer(self, message: pb.ModelStreamInferResponse) -> None:
        """Hands an answer to the call that waits for it, and an error without an id to all that wait."""
        id_ = message.infer_response.id
        for answer in [self._waiting.get(id_)] if id_ else list(self._waiting.values()):
            if answer is None or answer.done():
                continue  # given up, or failed by an error before
            if message.error_message:
                answer.set_exception(CallError("INTERNAL", self._credentials.hide(message.error_message)))
            else:
                answer.set_result(message.infer_response)


def _checked(payload: Payload, response: pb.ModelInferResponse) -> pb.ModelInferResponse:
    if fault := payload.fault(response):
        raise CallError(WRONG_ANSWER, fault)
    return response
