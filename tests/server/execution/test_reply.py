"""Requests that come with a reply of their own, from any thread: where it is resolved, and that it hurts nobody."""

import asyncio
import threading
from time import perf_counter

import numpy as np
import pytest

from protos.errors import ExpiredError, OverloadedError, UnavailableError
from server.execution.batcher import BatchLimit
from server.execution.engine import Answer, Outcome
from tests.support.server.engines import hosting, tensor
from tests.support.server.standins import Gate


class Told:
    """A reply that keeps its outcome, and who brought it; `broken` raises in the place of taking it."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, broken: bool = False) -> None:
        self.loop, self.broken, self.left = loop, broken, False
        self.outcomes: list[Outcome] = []
        self.resolved = threading.Event()
        self.thread = ""

    def gone(self) -> bool:
        return self.left

    def resolve(self, outcome: Outcome) -> None:
        self.thread = threading.current_thread().name
        self.outcomes.append(outcome)
        self.resolved.set()
        if self.broken:
            raise RuntimeError("the caller's own fault")

    def value(self) -> float:
        """The first number of the answer, once it is there."""
        assert self.resolved.wait(30)
        (outcome,) = self.outcomes
        assert isinstance(outcome, Answer)
        return float(outcome.outputs["logits"][0, 0])


def test_a_reply_without_a_loop_is_resolved_in_the_engines_thread() -> None:
    gate, told = Gate(), Told()
    gate.open.set()
    with hosting(gate) as (engine, _):
        job = engine.submit(tensor(7), 1, None, told)
        assert (job.engine, told.value(), told.thread) == (engine, 7.0, "toy/test")


def test_a_reply_with_a_loop_is_resolved_on_it() -> None:
    async def scenario() -> None:
        told = Told(asyncio.get_running_loop())
        engine.submit(tensor(7), 1, None, told)
        await asyncio.to_thread(told.resolved.wait, 30)
        assert (told.value(), told.thread) == (7.0, threading.current_thread().name)

    gate = Gate()
    gate.open.set()
    with hosting(gate) as (engine, _):
        asyncio.run(scenario())


def test_replies_of_a_batch_that_raise_hurt_neither_the_others_nor_the_engine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate, first = Gate(), Told()
    with hosting(gate, limit=BatchLimit(8)) as (engine, _):
        engine.submit(tensor(0), 1, None, first)
        assert gate.entered.wait(30)
        batch = [Told(broken=index != 1) for index in range(3)]
        for index, told in enumerate(batch):
            engine.submit(tensor(index), 1, None, told)
        gate.open.set()
        assert [told.value() for told in batch] == [0.0, 1.0, 2.0]
        last = Told()
        engine.submit(tensor(9), 1, None, last)
        assert last.value() == 9.0
    assert gate.calls == [1, 3, 1]
    assert caplog.text.count("an outcome could not be handed over") == 2


def test_a_job_that_is_given_up_in_the_queue_is_never_executed_and_never_resolved() -> None:
    gate, first, left = Gate(), Told(), Told()
    with hosting(gate) as (engine, record):
        engine.submit(tensor(0), 1, None, first)
        assert gate.entered.wait(30)
        job = engine.submit(tensor(1, 5), 5, None, left)
        engine.give_up(job)
        engine.give_up(job)  # once more does nothing
        assert engine.depth() == 0
    assert (gate.calls, left.outcomes, record.rejections) == ([1], [], ["cancelled"])


def test_a_job_that_is_given_up_while_it_is_executed_is_no_rejection() -> None:
    gate, told = Gate(), Told()
    with hosting(gate) as (engine, record):
        job = engine.submit(tensor(0), 1, None, told)
        assert gate.entered.wait(30)
        engine.give_up(job)
    assert (gate.calls, len(told.outcomes), record.rejections) == ([1], 1, [])


def test_a_reply_that_nobody_waits_for_is_left_out_of_its_batch() -> None:
    gate, first, left, kept = Gate(), Told(), Told(), Told()
    with hosting(gate, limit=BatchLimit(8)) as (engine, record):
        engine.submit(tensor(0), 1, None, first)
        assert gate.entered.wait(30)
        engine.submit(tensor(1, 2), 2, None, left)
        engine.submit(tensor(2, 3), 3, None, kept)
        left.left = True
        gate.open.set()
        assert kept.value() == 2.0
    assert (gate.calls, left.outcomes, record.rejections) == ([1, 3], [], ["cancelled"])


def test_a_deadline_that_passed_is_an_outcome_and_not_executed() -> None:
    gate, first, late = Gate(), Told(), Told()
    with hosting(gate) as (engine, record):
        engine.submit(tensor(0), 1, None, first)
        assert gate.entered.wait(30)
        engine.submit(tensor(1), 1, perf_counter(), late)
        gate.open.set()
        assert late.resolved.wait(30)
    assert ([type(outcome) for outcome in late.outcomes], gate.calls) == ([ExpiredError], [1])
    assert record.rejections == ["expired"]


def test_what_is_refused_at_once_is_raised_and_its_reply_is_never_resolved() -> None:
    gate, told, refused = Gate(), [Told(), Told()], Told()
    with hosting(gate, queue_size=1) as (engine, _):
        engine.submit(tensor(0), 1, None, told[0])
        assert gate.entered.wait(30)
        engine.submit(tensor(0), 1, None, told[1])
        with pytest.raises(OverloadedError):
            engine.submit(tensor(0), 1, None, refused)
    with pytest.raises(UnavailableError):
        engine.submit(tensor(0), 1, None, refused)
    assert ([len(each.outcomes) for each in told], refused.outcomes) == ([1, 1], [])


def test_submissions_from_many_threads_are_each_answered_once_and_rightly() -> None:
    gate, replies = Gate(), [[Told() for _ in range(100)] for _ in range(8)]
    gate.open.set()

    def submit(number: int) -> None:
        for index, told in enumerate(replies[number]):
            engine.submit(tensor(100 * number + index), 1, None, told)

    with hosting(gate, queue_size=800, limit=BatchLimit(16)) as (engine, record):
        threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert np.ravel([[told.value() for told in told_by] for told_by in replies]).tolist() == list(range(800))
    assert (sum(record.executions), record.rejections) == (800, [])
