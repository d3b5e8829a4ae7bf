"""What one variant has done since it was registered, as the protocol's ModelStatistics counts it.

    success        requests that were answered, from the parsed request to the finished response
    fail           all others that named the variant, whatever their status
    queue          from admission until execution began                                 \\
    compute_input  from the parsed request to arrays                                     |  of the requests that
    compute_infer  inside the engine, the whole execution for each of its members        |  were answered
    compute_output from arrays to the finished response                                 /
    batches        executions that succeeded, by their rows; what one of them took

Counts are exact: a request is counted before its answer is sent. Times are whole nanoseconds. Of several workers
each counts its own requests, and answers for them alone.
Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

import threading
from dataclasses import dataclass, field
from time import time

from protos.v1 import inference_pb2 as pb
from server.observability.request_record import RequestRecord


@dataclass(slots=True)
class Duration:
    """How often something happened, and how long all of it took."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Counts one more, which took `seconds`."""
        self.count += 1
        self.ns += round(seconds * 1e9)

    def message(self) -> pb.StatisticDuration:
        """Returns the protocol's message."""
        return pb.StatisticDuration(count=self.count, ns=self.ns)


@dataclass(slots=True)
class Statistics:
    """The counters of one variant. Requests are counted on the event loop, executions in any thread."""

    last_request: float = 0.0
    rows: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def arrived(self) -> None:
        """Counts the arrival of a request that names the variant."""
        self.last_request = time()

    def failed(self, seconds: float) -> None:
        """Counts a request that failed `seconds` after its arrival."""
        self.fail.add(seconds)

    def answered(self, record: RequestRecord) -> None:
        """Counts a request that was answered."""
        self.rows += record.rows
        self.success.add(record.seconds)
        self.queue.add(record.queue_seconds)
        self.compute_input.add(record.admitted - record.arrived)
        self.compute_infer.add(record.compute_seconds)
        self.compute_output.add(record.ended - record.answered)

    def executed(self, rows: int, seconds: float) -> None:
        """One execution of `rows` rows succeeded."""
        with self._mutex:  # while a variant is replaced, two engines report
            self.batches.setdefault(rows, Duration()).add(seconds)

    def message(self, model: str, variant: str) -> pb.ModelStatistics:
        """As the protocol says it."""
        with self._mutex:
            batches = sorted((rows, batch.message()) for rows, batch in self.batches.items())
        return pb.ModelStatistics(
            name=model,
            version=variant,
            last_inference=round(self.last_request * 1000),
            inference_count=self.rows,
            execution_count=sum(batch.count for _, batch in batches),
            inference_stats=pb.InferStatistics(
                success=self.success.message(),
                fail=self.fail.message(),
                queue=self.queue.message(),
                compute_input=self.compute_input.message(),
                compute_infer=self.compute_infer.message(),
                compute_output=self.compute_output.message(),
            ),
            batch_stats=[pb.InferBatchStatistics(batch_size=rows, compute_infer=batch) for rows, batch in batches],
        )
