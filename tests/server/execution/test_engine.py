"""Queue, order, deadlines, cancellation and faults of one engine, with runtimes that wait on command."""

import asyncio
from collections.abc import Callable
from time import perf_counter

import numpy as np
import pytest

from protos.errors import EngineError, ExpiredError, OverloadedError, UnavailableError
from server.execution.engine import Engine, Reason
from server.execution.threads import Slots
from tests.support.server.engines import enqueue, hosting, keep_busy, tensor
from tests.support.server.standins import Faulty, Gate, Record, one_row_too_few, raising
from tests.support.serving import eventually


def test_every_caller_gets_its_own_answer_in_the_order_of_arrival() -> None:
    async def scenario() -> None:
        first = await keep_busy(engine, gate)
        tasks = await enqueue(engine, 5, lambda index: engine.infer(tensor(index, index + 1), index + 1))
        gate.open.set()
        answers = await asyncio.gather(*tasks)
        await first
        for index, answer in enumerate(answers):
            assert np.array_equal(answer.outputs["logits"], tensor(index, index + 1)["input"])

    gate = Gate()
    with hosting(gate) as (engine, record):
        asyncio.run(scenario())
    assert gate.calls == record.executions == [1, 1, 2, 3, 4, 5]


def test_queue_and_compute_time_are_those_of_the_request() -> None:
    async def scenario() -> None:
        began = perf_counter()
        first = await keep_busy(engine, gate)
        (second,) = await enqueue(engine, 1, lambda _: engine.infer(tensor(0), 1))
        waited = perf_counter()
        await asyncio.sleep(0.02)
        released = perf_counter()
        gate.open.set()
        a, b = await first, await second
        total = perf_counter() - began
        assert released - waited <= b.queue_seconds <= total
        assert released - waited <= a.compute_seconds <= total
        assert 0 < b.compute_seconds <= total - b.queue_seconds

    gate = Gate()
    with hosting(gate) as (engine, _):
        asyncio.run(scenario())


def test_a_full_queue_refuses_at_once_and_takes_again_when_there_is_room() -> None:
    async def scenario() -> None:
        first = await keep_busy(engine, gate)
        waiting = await enqueue(engine, 2, lambda _: engine.infer(tensor(0), 1))
        with pytest.raises(OverloadedError, match="2 requests are waiting"):
            await engine.infer(tensor(0), 1)
        assert not first.done()
        gate.open.set()
        await asyncio.gather(first, *waiting)
        await engine.infer(tensor(0), 1)

    gate = Gate()
    with hosting(gate, queue_size=2) as (engine, record):
        asyncio.run(scenario())
    assert record.rejections == ["queue_full"]
    assert len(gate.calls) == 4


def test_a_request_whose_deadline_passes_in_the_queue_is_never_executed() -> None:
    async def scenario() -> None:
        first = await keep_busy(engine, gate)
        (late, timely) = await enqueue(
            engine, 2, lambda index: engine.infer(tensor(index, 7), 7, perf_counter() + (0.0, 60.0)[index])
        )
        gate.open.set()
        with pytest.raises(ExpiredError):
            await late
        assert (await timely).outputs["logits"].shape == (7, 3)
        await first

    gate = Gate()
    with hosting(gate) as (engine, record):
        asyncio.run(scenario())
    assert gate.calls == [1, 7]
    assert record.rejections == ["expired"]


@pytest.mark.parametrize(("seconds", "reason"), [(60.0, "cancelled"), (0.0, "expired")])
def test_who_is_cancelled_gives_its_place_back_at_once_and_is_reported_by_its_reason(
    seconds: float, reason: Reason
) -> None:
    async def scenario() -> None:
        first = await keep_busy(engine, gate)
        gone, kept = await enqueue(engine, 2, lambda _: engine.infer(tensor(0), 1, perf_counter() + seconds))
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert engine.depth() == 1
        assert record.rejections == [reason]
        kept.cancel()
        gate.open.set()
        await first

    gate = Gate()
    with hosting(gate) as (engine, record):
        asyncio.run(scenario())
    assert gate.calls == [1]


def test_a_request_cancelled_in_the_queue_is_never_executed_and_hurts_no_other() -> None:
    async def scenario() -> None:
        first = await keep_busy(engine, gate)
        gone, kept = await enqueue(engine, 2, lambda index: engine.infer(tensor(index, index + 2), index + 2))
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        gate.open.set()
        assert (await kept).outputs["logits"].shape == (3, 3)
        await first

    gate = Gate()
    with hosting(gate) as (engine, record):
        asyncio.run(scenario())
    assert gate.calls == [1, 3]
    assert record.rejections == ["cancelled"]


def test_a_request_cancelled_while_it_runs_hurts_no_other() -> None:
    async def scenario() -> None:
        first = await keep_busy(engine, gate)
        (second,) = await enqueue(engine, 1, lambda _: engine.infer(tensor(5), 1))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        gate.open.set()
        assert np.array_equal((await second).outputs["logits"], tensor(5)["input"])

    gate = Gate()
    with hosting(gate) as (engine, _):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    ("outcome", "cause"),
    [(raising, "secret of /home/someone"), (one_row_too_few, "output 'logits' has shape [0, 3], expected 1 rows")],
)
def test_a_fault_inside_is_neutral_outside_and_keeps_its_cause(
    outcome: Callable[[], dict[str, np.ndarray]], cause: str
) -> None:
    with hosting(Faulty(outcome)) as (engine, _):
        with pytest.raises(EngineError) as caught:
            asyncio.run(engine.infer(tensor(0), 1))
        with pytest.raises(EngineError):  # and the engine goes on
            asyncio.run(engine.infer(tensor(0), 1))
    assert str(caught.value) == "engine failed"
    assert str(caught.value.__cause__) == cause


def test_engines_that_share_one_slot_compute_one_after_the_other() -> None:
    async def scenario() -> None:
        first = await keep_busy(one, gate)
        second = asyncio.create_task(two.infer(tensor(0), 1))
        await eventually(slots.waiting, 1)
        assert other.calls == []
        gate.open.set()
        await first
        assert (await second).outputs["logits"].shape == (1, 3)

    gate, other, slots = Gate(), Gate(), Slots(1)
    other.open.set()
    with hosting(gate, slots=slots) as (one, _), hosting(other, slots=slots) as (two, _):
        asyncio.run(scenario())


def test_an_idle_variant_is_next_when_a_saturated_one_holds_the_only_slot() -> None:
    async def scenario() -> None:
        first = await keep_busy(hot, busy)
        queued = await enqueue(hot, 5, lambda _: hot.infer(tensor(0), 1))
        alone = asyncio.create_task(idle.infer(tensor(0, 7), 7))
        await eventually(slots.waiting, 1)
        busy.open.set()
        await asyncio.gather(first, alone, *queued)

    busy, other, slots = Gate(), Gate(), Slots(1)
    busy.calls = other.calls  # one list of all executions
    other.open.set()
    with hosting(busy, slots=slots) as (hot, _), hosting(other, slots=slots) as (idle, _):
        asyncio.run(scenario())
    assert other.calls == [1, 7, 1, 1, 1, 1, 1]


def test_a_deadline_that_passes_while_waiting_for_a_slot_counts() -> None:
    async def scenario() -> None:
        with slots:
            task = asyncio.create_task(engine.infer(tensor(0), 1, perf_counter()))
            await eventually(slots.waiting, 1)
        with pytest.raises(ExpiredError):
            await task

    gate, slots = Gate(), Slots(1)
    with hosting(gate, slots=slots) as (engine, _):
        asyncio.run(scenario())
    assert gate.calls == []


def test_close_finishes_what_is_queued_and_refuses_what_comes() -> None:
    async def scenario() -> None:
        first = await keep_busy(engine, gate)
        waiting = await enqueue(engine, 3, lambda index: engine.infer(tensor(index), 1))
        closing = asyncio.create_task(asyncio.to_thread(engine.close))
        await eventually(lambda: not engine._batcher.open)
        with pytest.raises(UnavailableError):
            await engine.infer(tensor(0), 1)
        assert not gate.closed
        gate.open.set()
        await asyncio.gather(first, closing, *waiting)

    gate = Gate()
    engine = Engine(gate, "toy/test", 8, Slots(1), Record())
    asyncio.run(scenario())
    assert gate.closed
    assert gate.calls == [1, 1, 1, 1]


def test_close_gives_up_on_a_runtime_that_hangs_and_answers_what_waits_for_it(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        first = await keep_busy(engine, gate)
        (waiting,) = await enqueue(engine, 1, lambda _: engine.infer(tensor(0), 1))
        await asyncio.to_thread(engine.close, 0.01)
        assert not gate.closed
        with pytest.raises(UnavailableError):
            await waiting
        gate.open.set()
        await first
        await eventually(lambda: gate.closed)

    gate = Gate()
    engine = Engine(gate, "toy/test", 8, Slots(1), Record())
    asyncio.run(scenario())
    assert "toy/test did not finish within 0.01 s" in caplog.text
