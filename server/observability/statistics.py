"""What one variant has done since it was registered, as the protocol's ModelStatistics counts it.

    success        requests that were answered, from the parsed request to the response's bytes
    fail           all others that named the variant, whatever their status
    queue          from admission until execution began                                 \\
    compute_input  from the parsed request to arrays                                     |  of the requests that
    compute_infer  inside the engine, the whole execution for each of its members        |  were answered
    compute_output from the engine's outputs to the response's bytes, decoding included /
    batches        executions that succeeded, by their rows; what one of them took

Counts are exact: a request is counted before its answer is sent. Times are whole nanoseconds.
Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import time

from protos.v1 import inference_pb2 as pb
from server.observability.request_record import RequestRecord

PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
"""The durations of requests, as the protocol names them."""


@dataclass(slots=True)
class Duration:
    """How often something happened, and how long all of it took."""

    count: int = 0
    ns: int = 0

    def add(self, *seconds: float) -> None:
        """Counts as many more as there are `seconds`, which is what each took."""
        self.count += len(seconds)
        self.ns += sum(map(round, [each * 1e9 for each in seconds]))

    def message(self) -> pb.StatisticDuration:
        """Returns the protocol's message."""
        return pb.StatisticDuration(count=self.count, ns=self.ns)


class Statistics:
    """The counters of one variant. Whoever counts sees to it that one thread does at a time."""

    def __init__(self) -> None:
        self.last_request, self._rows = 0.0, 0
        self.success, self.fail, self.queue = Duration(), Duration(), Duration()
        self.compute_input, self.compute_infer, self.compute_output = Duration(), Duration(), Duration()
        self._batches: dict[int, Duration] = {}
        self._mutex = threading.Lock()

    def arrived(self) -> None:
        """Counts the arrival of a request that names the variant."""
        self.last_request = time()

    def answered(self, records: Sequence[RequestRecord]) -> None:
        """Counts requests that were answered."""
        self._rows += sum([record.rows for record in records])
        self.success.add(*[record.seconds for record in records])
        self.queue.add(*[record.queue_seconds for record in records])
        self.compute_input.add(*[record.admitted - record.arrived for record in records])
        self.compute_infer.add(*[record.compute_seconds for record in records])
        self.compute_output.add(*[record.ended - record.answered for record in records])

    def executed(self, executions: Iterable[tuple[int, float | None]]) -> None:
        """Counts executions by their rows and seconds; None, where one failed, does not count."""
        with self._mutex:  # other threads read them
            for rows, seconds in executions:
                if seconds is not None:
                    self._batches.setdefault(rows, Duration()).add(seconds)

    def message(self, model: str, variant: str) -> pb.ModelStatistics:
        """Returns the counters as the protocol's message."""
        with self._mutex:
            batches = sorted((rows, batch.message()) for rows, batch in self._batches.items())
        return pb.ModelStatistics(
            name=model,
            version=variant,
            last_inference=round(self.last_request * 1000),
            inference_count=self._rows,
            execution_count=sum(batch.count for _, batch in batches),
            inference_stats=pb.InferStatistics(**{part: getattr(self, part).message() for part in PARTS}),
            batch_stats=[pb.InferBatchStatistics(batch_size=rows, compute_infer=batch) for rows, batch in batches],
        )
