"""An open loop through one connection: calls at a steady rate, whatever becomes of those before."""

import threading
from collections import Counter
from time import monotonic, sleep

import grpc

from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.support.serving import connect

DEADLINE = 30.0


class SteadyLoad:
    """Sends `request` `rate` times a second until `stop`, or the end of a `with`.

    `outcomes` counts the ended calls by their codes.
    """

    def __init__(self, address: str, request: pb.ModelInferRequest, rate: float) -> None:
        self._address, self._request, self._pause = address, request, 1 / rate
        self.sent, self.outcomes, self.texts = 0, Counter[str](), Counter[str]()
        self.seconds: list[float] = []
        """From sending to the answer, of each call that had one."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> "SteadyLoad":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def at(self, rate: float) -> None:
        """Goes on at another rate."""
        self._pause = 1 / rate

    def wait_for(self, more: int, seconds: float = 120.0) -> None:
        """Until so many more calls have ended."""
        ended, deadline = self.outcomes.total() + more, monotonic() + seconds
        while self.outcomes.total() < ended:
            assert monotonic() < deadline, f"{self.outcomes} of {self.sent} after {seconds} s"
            sleep(0.01)

    def stop(self) -> Counter[str]:
        """Sends no more; the outcomes, once every call has ended."""
        self._over.set()
        self._thread.join(2 * DEADLINE)
        return self.outcomes

    def _run(self) -> None:
        with connect(self._address) as channel:
            infer, calls, due = GRPCInferenceServiceStub(channel).ModelInfer, list[grpc.Future](), monotonic()
            while not self._over.is_set():
                begun, call = monotonic(), infer.future(self._request, timeout=DEADLINE)
                call.add_done_callback(lambda call, begun=begun: self._ended(call, begun))
                calls.append(call)
                self.sent += 1
                due = max(due + self._pause, monotonic() - 1)  # a moment without a core is caught up with, not hours
                sleep(max(0.0, due - monotonic()))
            for call in calls:
                call.exception()
            while self.outcomes.total() < self.sent:  # a call is over shortly before its callback
                sleep(0.01)

    def _ended(self, call: grpc.Future, begun: float) -> None:
        self.outcomes[call.code().name] += 1  # gRPC calls back in one thread
        if call.code() is grpc.StatusCode.OK:
            self.seconds.append(monotonic() - begun)
        else:
            self.texts[call.details()] += 1
