"""Well-behaved clients beside a hostile one, and what the server has to have back afterwards."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import numpy as np
import psutil

from protos.tensors import decode_response, encode_request
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.support import toy
from tests.support.serving import ServerProcess, by_labels, connect, eventually

CLIENTS, BURST = 4, 50
PAUSE_SECONDS = 0.02
"""Of each of them after a call."""
SECONDS = 30.0
"""The deadline of each of their calls."""
SPARE_THREADS = 4
"""gRPC keeps threads that it had use for: as many more than before are no leak."""


class Bystanders:
    """Clients on connections of their own, each of which asks one call after the other until `stop`.

    `calls` counts how they ended: the name of a code, or WRONG for an answer that is not the model's.
    """

    def __init__(self, address: str) -> None:
        self.calls: Counter[str] = Counter()
        self._address, self._over, self._news = address, threading.Event(), threading.Condition()
        self._began = threading.Barrier(CLIENTS + 1)
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        self._began.wait(2 * SECONDS)
        self._channel = connect(address)
        grpc.channel_ready_future(self._channel).result(SECONDS)

    def burst(self) -> None:
        """Asks `BURST` calls at once, on one more connection, and waits until they have ended."""
        stub, request = GRPCInferenceServiceStub(self._channel), encode_request("toy", "", {"input": toy.images(1)})
        calls = [stub.ModelInfer.future(request, timeout=SECONDS) for _ in range(BURST)]
        codes = Counter(call.code().name for call in calls)
        with self._news:
            self.calls += codes

    def ask(self, more: int) -> None:
        """Waits until so many more calls have ended."""
        with self._news:
            wanted = self.calls.total() + more
            assert self._news.wait_for(lambda: self.calls.total() >= wanted, 4 * SECONDS)

    def stop(self) -> None:
        """Ends the clients; each of them asks once more."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._channel.close()

    def _client(self, number: int) -> None:
        with connect(self._address) as channel:
            stub = GRPCInferenceServiceStub(channel)
            self._ask(stub, number)
            self._began.wait(2 * SECONDS)
            while not self._over.wait(PAUSE_SECONDS):
                self._ask(stub, number)
            self._ask(stub, number)

    def _ask(self, stub: GRPCInferenceServiceStub, number: int) -> None:
        images = toy.images(1, number)
        try:
            response = stub.ModelInfer(encode_request("toy", "", {"input": images}), timeout=SECONDS)
            right = np.allclose(decode_response(response)["logits"], toy.answer(images), atol=1e-4)
            outcome = "OK" if right else "WRONG"
        except grpc.RpcError as error:
            outcome = error.code().name
        with self._news:
            self.calls[outcome] += 1
            self._news.notify_all()


@contextmanager
def unharmed(server: ServerProcess) -> Iterator[Bystanders]:
    """Asserts that nobody else is harmed by what is done to the server meanwhile, and that nothing of it is left.

    All calls of well-behaved clients are answered, those before, beside and after it. In the end nothing is in flight
    or queued, and the server has its descriptors and its threads back.
    """
    process = psutil.Process(server.pid)
    descriptors, threads = process.num_fds(), process.num_threads()
    bystanders = Bystanders(server.grpc_address)
    try:
        yield bystanders
    finally:
        bystanders.stop()
    assert bystanders.calls.keys() == {"OK"}, bystanders.calls
    asyncio.run(eventually(lambda: under_way(server), {}))
    asyncio.run(eventually(lambda: process.num_fds() <= descriptors))
    asyncio.run(eventually(lambda: process.num_threads() <= threads + SPARE_THREADS))


def under_way(server: ServerProcess) -> dict[str, float]:
    """Returns how many requests are in flight and how many of them are queued, what is 0 left out."""
    page = server.metrics()
    names = ("pareto_inflight_requests", "pareto_queue_depth")
    return {name: total for name in names if (total := sum(by_labels(page, name, "variant").values()))}
