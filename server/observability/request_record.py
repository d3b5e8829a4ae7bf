"""The one record of a request, which metrics, statistics, the debug log and traces all read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import grpc

from protos.v1 import inference_pb2 as pb
from server.execution.engine import Answer
from server.status import code_of


class Caller(Protocol):
    """The call that brought a request, whichever way it came in."""

    def time_remaining(self) -> float | None:
        """Returns the seconds until its deadline, None without one."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Returns the headers that the client sent."""


@dataclass(slots=True)
class RequestRecord:
    """One request. Times are those of `perf_counter`. It holds no tensors, since metrics keep it for a while."""

    caller: Caller | None
    """None once the call has ended."""
    began: float = field(default_factory=perf_counter)
    """When the call began. Its message is parsed later, at `arrived`."""
    timeout: float | None = field(init=False)
    """Seconds that the client gave the call, or None without a deadline."""
    request_id: str = ""
    model: str = ""
    variant: str = ""
    """What the request asks for; from admission on, the names of the variant that answers."""
    arrived: float = 0.0
    """When its message was parsed."""
    rows: int = 0
    admitted: float = 0.0
    """When its decoded inputs were handed to the engine; 0 if they never were."""
    answered: float = 0.0
    """When the engine answered; 0 if it did not."""
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    ended: float = 0.0
    """When its response was bytes, or it failed."""
    code: grpc.StatusCode = grpc.StatusCode.OK
    readers: "Sequence[Exporter]" = ()
    """Who is shown the request at its end."""

    def __post_init__(self) -> None:
        """Reads the call's timeout."""
        assert self.caller is not None
        self.timeout = self.caller.time_remaining()

    @property
    def deadline(self) -> float | None:
        """The deadline as a time of `perf_counter`, or None without one."""
        return None if self.timeout is None else self.began + self.timeout

    @property
    def seconds(self) -> float:
        """The time from the parsed request to its end."""
        return self.ended - self.arrived

    @property
    def stages(self) -> tuple[float, float, float, float]:
        """The seconds of a request that was answered in each of `telemetry.STAGES`.

        With `queue_seconds` and `compute_seconds` they are all the time from `began` to `ended`.
        """
        respond = self.answered - self.admitted - self.queue_seconds - self.compute_seconds
        return self.arrived - self.began, self.admitted - self.arrived, respond, self.ended - self.answered

    def arrive(self, request: pb.ModelInferRequest) -> None:
        """Notes what the parsed message asks for."""
        self.request_id, self.model, self.variant = request.id, request.model_name, request.model_version
        self.arrived = perf_counter()

    def admit(self, model: str, variant: str, rows: int) -> None:
        """Notes that `rows` decoded rows go to the engine of this variant now."""
        self.model, self.variant, self.rows, self.admitted = model, variant, rows, perf_counter()

    def take_answer(self, answer: Answer) -> None:
        """Notes that the engine answered, and where the time went."""
        self.answered = perf_counter()
        self.queue_seconds, self.compute_seconds = answer.queue_seconds, answer.compute_seconds

    def end(self, error: BaseException | None = None) -> None:
        """Notes the end and its status code, and shows the record. Only the first call counts."""
        if self.ended:
            return
        if error is not None:
            remaining = self.caller.time_remaining() if self.caller else None
            self.code = code_of(error, remaining, self.timeout)
        self.ended = perf_counter()
        for read in self.readers:
            read(self)
        self.readers, self.caller = (), None  # metrics keep the record for a while, and need not keep the call

    def metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """Returns the headers that the client sent; none once the call is gone."""
        return (self.caller.invocation_metadata() if self.caller else None) or ()


Exporter = Callable[[RequestRecord], None]
"""Is shown each request at its end."""
