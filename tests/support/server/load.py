"""Load on a server process that is about to be ended."""

import re
import threading
from collections import Counter
from time import perf_counter

import grpc

from protos.tensors import encode_request
from tests.support import toy
from tests.support.serving import ServerProcess

CLIENTS = 6
PIPELINED = 4
"""Requests that each client has under way at once."""


def answered_calls(log: str) -> Counter[str]:
    """The ModelInfer calls that a server that has ended, or all of its workers, say they answered, by code."""
    total: Counter[str] = Counter()
    for line in re.findall("ModelInfer calls answered: (.*)", log):
        for count, code in re.findall(r"(\d+) ([A-Z_]+)", line):
            total[code] += int(count)
    return total


class Load:
    """Clients that send as fast as they are answered; each ends at its first failed request."""

    def __init__(self, server: ServerProcess, clients: int = CLIENTS) -> None:
        self._outcomes: list[str] = []  # threads may append to a list, but not count in a Counter
        self.first_failure: list[float] = []
        self._server = server
        self._running = threading.Barrier(clients + 1)
        self._threads = [threading.Thread(target=self._client, args=(seed,)) for seed in range(clients)]
        for thread in self._threads:
            thread.start()
        self._running.wait(60)

    def outcomes(self) -> Counter[str]:
        """What the clients were told, once all of them have ended."""
        for thread in self._threads:
            thread.join(60)
        return Counter(self._outcomes)

    def _client(self, seed: int) -> None:
        request = encode_request("toy", "", {"input": toy.images(1, seed)})
        with self._server.stub() as stub:
            expected = stub.ModelInfer(request, timeout=30)
            self._outcomes.append("right")
            self._running.wait(60)
            failed = False
            while not failed:
                for call in [stub.ModelInfer.future(request, timeout=30) for _ in range(PIPELINED)]:
                    error = call.exception()
                    outcome = "right" if error is None and call.result() == expected else "wrong"
                    if isinstance(error, grpc.RpcError):
                        self.first_failure.append(perf_counter())
                        outcome, failed = error.code().name, True
                    self._outcomes.append(outcome)
