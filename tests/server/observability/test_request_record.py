"""The record of a request: what its times say."""

from dataclasses import dataclass

from server.execution.engine import Answer
from server.observability.request_record import RequestRecord


@dataclass
class NoDeadline:
    """A call that may take as long as it likes."""

    def time_remaining(self) -> None:
        return None

    def invocation_metadata(self) -> None:
        return None


def test_the_stages_of_an_answer_are_what_lies_between_its_times() -> None:
    record = RequestRecord(NoDeadline())
    record.take_answer(Answer({}, queue_seconds=8.0, compute_seconds=16.0))
    record.began, record.arrived, record.admitted, record.answered, record.ended = 1.0, 2.0, 4.0, 60.0, 124.0
    assert record.stages == (1.0, 2.0, 32.0, 64.0)
    assert sum(record.stages) + record.queue_seconds + record.compute_seconds == record.ended - record.began
    assert record.seconds == 122.0
