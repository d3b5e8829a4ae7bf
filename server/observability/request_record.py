"""One inference request as logs and traces want it: who asked for what, when, and how it ended.

Off, unless debug logs or tracing are on: then `Servicer` gets no `Watch`, and a request costs a comparison with
None. On, each request has a `Seen`, which the way of the request fills in, and which the sinks get at its end.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeAlias

import grpc

from protos.v1 import inference_pb2 as pb
from server.execution.engine import Answer
from server.status import code_of

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]


@dataclass(slots=True)
class Seen:
    """One request; times are those of `perf_counter`."""

    request_id: str
    model: str
    variant: str
    """Of a loaded variant once that is known, as `model` is; before, what the request says."""
    metadata: Metadata
    arrived: float = field(default_factory=perf_counter)
    admitted: float | None = None
    """When it was handed to the engine; None where it did not get there."""
    answer: Answer | None = None
    ended: float = 0.0
    code: grpc.StatusCode = grpc.StatusCode.OK

    def admit(self, model: str, variant: str) -> None:
        """It goes to the engine of this variant now."""
        self.model, self.variant, self.admitted = model, variant, perf_counter()


Sink = Callable[[Seen], None]


class Watch:
    """Shows each request that ended to `sinks`."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    @contextmanager
    def request(
        self, request: pb.ModelInferRequest, metadata: Metadata | None, time_remaining: Callable[[], float | None]
    ) -> Iterator[Seen]:
        """Watches one request during the block."""
        seen, timeout = Seen(request.id, request.model_name, request.model_version, metadata or ()), time_remaining()
        try:
            yield seen
        except BaseException as error:
            seen.code = code_of(error, time_remaining(), timeout)
            raise
        finally:
            seen.ended = perf_counter()
            for sink in self._sinks:
                sink(seen)
