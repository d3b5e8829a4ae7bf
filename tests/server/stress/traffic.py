"""Mixed traffic for a soak: right and wrong requests of every kind, and clients that behave badly.

Every answer is checked. What goes wrong does so on purpose, and has to be told with the code that is its own.
"""

import random
import socket
import threading
from collections import Counter
from collections.abc import Callable

import grpc
import numpy as np

from protos.tensors import decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.support import toy
from tests.support.serving import connect

CALLS_PER_CONNECTION = 40
TIMEOUT = 60.0


class Traffic:
    """`calls` counts by kind and outcome: the name of a code, or WRONG for an answer that is not the model's."""

    def __init__(self, address: str, clients: int) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self._address, self._over, self._lock = address, threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._client, args=(random.Random(n),)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the clients, each after its connection."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def unexpected(self) -> dict[tuple[str, str], int]:
        """Calls that ended as they should not, while nobody overloads or stops the server."""
        return {(kind, end): count for (kind, end), count in self.calls.items() if end not in CALLS[kind][1]}

    def _client(self, chance: random.Random) -> None:
        while not self._over.is_set():
            with connect(self._address) as channel:
                for _ in range(CALLS_PER_CONNECTION):
                    kind = chance.choice(list(CALLS))
                    try:
                        outcome = CALLS[kind][0](channel, chance)
                    except grpc.RpcError as error:
                        outcome = error.code().name
                    with self._lock:
                        self.calls[kind, outcome] += 1
            _rude(self._address)


def _infer(channel: grpc.Channel, images: np.ndarray, variant: str = "", timeout: float = TIMEOUT) -> str:
    request = encode_request("toy", variant, {"input": images})
    return _judged(GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=timeout), images)


def _judged(response: pb.ModelInferResponse, images: np.ndarray) -> str:
    logits = decode_response(response)["logits"]
    right = logits.shape == (len(images), 3) and np.allclose(logits, toy.answer(images), atol=1e-4)
    return "OK" if right else "WRONG"


def _some(chance: random.Random) -> np.ndarray:
    return toy.images(chance.randint(1, 8), chance.randrange(1000))


def _right(channel: grpc.Channel, chance: random.Random) -> str:
    return _infer(channel, _some(chance))


def _hurried(channel: grpc.Channel, chance: random.Random) -> str:
    return _infer(channel, _some(chance), timeout=chance.choice([1e-5, 1e-3, 3e-3]))


def _cancelled(channel: grpc.Channel, chance: random.Random) -> str:
    images = _some(chance)
    call = GRPCInferenceServiceStub(channel).ModelInfer.future(encode_request("toy", "", {"input": images}))
    threading.Event().wait(chance.choice([0.0, 0.0005, 0.002]))
    call.cancel()
    try:
        return _judged(call.result(), images)
    except grpc.FutureCancelledError:
        return "CANCELLED"


def _misfit(channel: grpc.Channel, chance: random.Random) -> str:
    return _infer(channel, np.zeros((1, 3, 5, 5), np.float32))


def _unknown(channel: grpc.Channel, chance: random.Random) -> str:
    """Never the same name: a label made of it would be one more series each time."""
    return _infer(channel, toy.images(1), f"fp32-{chance.randrange(10**9)}")


def _garbage(channel: grpc.Channel, chance: random.Random) -> str:
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", bytes, bytes)
    call(b"\xff" * chance.randint(1, 10_000), timeout=TIMEOUT)
    return "WRONG"


def _stream(channel: grpc.Channel, chance: random.Random) -> str:
    """Several requests on one stream, of which some clients hear only the first answer."""
    sent = {str(n): toy.images(1, n) for n in range(chance.randint(1, 6))}
    requests = [encode_request("toy", "", {"input": images}, name) for name, images in sent.items()]
    heard = GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(requests), timeout=TIMEOUT)
    if chance.random() < 0.3:
        next(heard)
        heard.cancel()
        return "CANCELLED"
    judged = {a.infer_response.id: _judged(a.infer_response, sent[a.infer_response.id]) for a in heard}
    return "OK" if judged == dict.fromkeys(sent, "OK") else "WRONG"


def _questions(channel: grpc.Channel, chance: random.Random) -> str:
    stub = GRPCInferenceServiceStub(channel)
    stub.ModelMetadata(pb.ModelMetadataRequest(name="toy"), timeout=TIMEOUT)
    stub.ModelStatistics(pb.ModelStatisticsRequest(), timeout=TIMEOUT)
    return "OK" if stub.ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT).live else "WRONG"


def _rude(address: str) -> None:
    """A connection that does not speak HTTP/2, and leaves without a word."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")


Call = Callable[[grpc.Channel, random.Random], str]

CALLS: dict[str, tuple[Call, set[str]]] = {
    "right": (_right, {"OK"}),
    "hurried": (_hurried, {"OK", "DEADLINE_EXCEEDED"}),
    "cancelled": (_cancelled, {"OK", "CANCELLED"}),
    "misfit": (_misfit, {"INVALID_ARGUMENT"}),
    "unknown": (_unknown, {"NOT_FOUND"}),
    "garbage": (_garbage, {"INVALID_ARGUMENT"}),
    "stream": (_stream, {"OK", "CANCELLED"}),
    "questions": (_questions, {"OK"}),
}
"""By kind: the call, and the outcomes that it may have."""
