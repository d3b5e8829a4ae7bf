"""Requests that are executed together: each gets its own answer, and none pays for another one's fate."""

import asyncio
import random
import threading
from collections.abc import Callable

import numpy as np
import pytest

from protos.errors import EngineError, OverloadedError
from server.execution.batcher import ALONE, BatchLimit, make_limits
from server.execution.engine import Answer, Engine, limit_for
from server.execution.threads import Slots
from tests.support.server.engines import enqueue, hosting, keep_busy, tensor
from tests.support.server.standins import Faulty, Forgetful, Gate, Poisonable, raising
from tests.support.serving import eventually

NAN = float("nan")


async def outcome(task: "asyncio.Task[Answer]") -> object:
    """The first value of an answer, or the kind of what was raised."""
    try:
        return float((await task).outputs["logits"][0, 0])
    except (Exception, asyncio.CancelledError) as error:
        return type(error)


def test_what_waits_is_executed_together_and_everyone_gets_their_own_rows_back() -> None:
    async def scenario() -> None:
        first = await keep_busy(engine, gate)
        rows = [1, 3, 2, 5, 1, 9, 1]
        tasks = await enqueue(engine, 7, lambda index: engine.infer(tensor(index, rows[index]), rows[index]))
        gate.open.set()
        for index, answer in enumerate(await asyncio.gather(*tasks)):
            assert np.array_equal(answer.outputs["logits"], tensor(index, rows[index])["input"])
        await first

    gate = Gate()
    with hosting(gate, limit=BatchLimit(8)) as (engine, record):
        asyncio.run(scenario())
    assert gate.calls == record.executions == [1, 6, 6, 9, 1]


def test_a_batch_comes_back_to_the_loop_in_one_hop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        first = await keep_busy(engine, gate)
        tasks = await enqueue(engine, 8, lambda index: engine.infer(tensor(index), 1))
        loop = asyncio.get_running_loop()
        real = loop.call_soon_threadsafe

        def counted(callback: Callable[..., object], *arguments: object, **more: object) -> asyncio.Handle:
            hops.append(threading.current_thread().name)
            return real(callback, *arguments, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        gate.open.set()
        await asyncio.gather(first, *tasks)

    gate, hops = Gate(), list[str]()
    with hosting(gate, limit=BatchLimit(8)) as (engine, _):
        asyncio.run(scenario())
    assert gate.calls == [1, 8]
    assert hops.count("toy/test") == 2


def test_a_member_that_makes_the_batch_fail_fails_alone() -> None:
    async def scenario() -> None:
        first = await keep_busy(engine, gate)
        values = [0.0, 1.0, NAN, 3.0]
        tasks = await enqueue(engine, 4, lambda index: engine.infer(tensor(values[index]), 1))
        gate.open.set()
        assert [await outcome(task) for task in tasks] == [0.0, 1.0, EngineError, 3.0]
        await first

    gate = Poisonable()
    with hosting(gate, limit=BatchLimit(8)) as (engine, record):
        asyncio.run(scenario())
    assert gate.calls == [1, 4, 1, 1, 1, 1]
    assert record.rejections == []


@pytest.mark.parametrize("runtime", [Forgetful(), Faulty(raising)])
def test_a_runtime_that_always_fails_fails_every_member(runtime: Gate | Faulty) -> None:
    async def scenario() -> None:
        with slots:
            tasks = await enqueue(engine, 3, lambda index: engine.infer(tensor(index), 1))
        assert [await outcome(task) for task in tasks] == [EngineError] * 3

    slots = Slots(1)
    if isinstance(runtime, Gate):
        runtime.open.set()
    with hosting(runtime, slots=slots, limit=BatchLimit(8)) as (engine, record):
        asyncio.run(scenario())
    assert record.executions == [3, 1, 1, 1]


def test_a_member_cancelled_while_its_failed_batch_is_repeated_is_left_out() -> None:
    class CancelsTheLast(Poisonable):
        """The first repetition finds its last companion gone."""

        def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            if self.calls == [1, 3]:
                loop.call_soon_threadsafe(tasks[2].cancel)
                asyncio.run(eventually(tasks[2].done))
            return super().infer(inputs)

    async def scenario() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        first = await keep_busy(engine, gate)
        values = [0.0, NAN, 2.0]
        tasks.extend(await enqueue(engine, 3, lambda index: engine.infer(tensor(values[index]), 1)))
        gate.open.set()
        assert [await outcome(task) for task in tasks] == [0.0, EngineError, asyncio.CancelledError]
        await first

    gate, tasks = CancelsTheLast(), list["asyncio.Task[Answer]"]()
    loop: asyncio.AbstractEventLoop
    with hosting(gate, limit=BatchLimit(8)) as (engine, record):
        asyncio.run(scenario())
    assert gate.calls == [1, 3, 1, 1]
    assert record.rejections == ["cancelled"]


class Ticking(Gate):
    """Executes once for each permit, so that members can be cancelled before and while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.permits, self.ended = threading.Semaphore(0), 0

    @property
    def idle(self) -> bool:
        return self.ended == len(self.calls)

    def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.calls.append(len(inputs["input"]))
        self.entered.set()
        assert self.permits.acquire(timeout=30)
        self.ended += 1
        return {"logits": inputs["input"]}


def test_a_thousand_cancellations_of_members_of_forming_and_running_batches_hurt_no_other() -> None:
    async def round_of(choice: random.Random) -> int:
        """Half of 16 requests run or are about to, half are queued behind; seven of them go away."""
        gate.entered.clear()
        running = [asyncio.create_task(engine.infer(tensor(index), 1)) for index in range(8)]
        await eventually(gate.entered.is_set)
        forming = [asyncio.create_task(engine.infer(tensor(index, 2), 2)) for index in range(100, 108)]
        await asyncio.sleep(0)  # they are admitted
        gone = {*choice.sample(running, 3), *choice.sample(forming, 4)}
        for task in gone:
            task.cancel()
        outcomes = [asyncio.create_task(outcome(task)) for task in (*running, *forming)]
        while engine.depth() or not gate.idle or not all(task.done() for task in outcomes):
            gate.permits.release()
            await asyncio.sleep(0.001)
        while gate.permits.acquire(blocking=False):
            pass
        for value, task, told in zip((*range(8), *range(100, 108)), (*running, *forming), outcomes, strict=True):
            assert told.result() == (asyncio.CancelledError if task in gone else value)
        return len(gone)

    async def scenario() -> None:
        choice, cancelled = random.Random(7), 0
        while cancelled < 1000:
            cancelled += await round_of(choice)

    gate = Ticking()
    with hosting(gate, queue_size=64, limit=BatchLimit(8)) as (engine, record):
        asyncio.run(scenario())
        gate.permits.release(1000)
        assert engine.depth() == 0
    assert set(record.rejections) == {"cancelled"}
    assert len(record.rejections) >= 4 * 1000 // 7  # at least the forming ones; who runs already, runs to the end
    assert max(gate.calls) == 8


def test_a_full_queue_says_when_there_should_be_room() -> None:
    async def scenario() -> None:
        first = await keep_busy(engine, gate)
        with pytest.raises(OverloadedError) as caught:
            await asyncio.gather(*(engine.infer(tensor(0), 1) for _ in range(3)))
        assert caught.value.retry_after == 0.0  # nothing was executed yet
        gate.open.set()
        await first
        await eventually(lambda: engine.depth() == 0 and engine._pace > 0)
        gate.open.clear()
        gate.entered.clear()
        again = await keep_busy(engine, gate)
        await enqueue(engine, 2, lambda _: engine.infer(tensor(0), 1))
        with pytest.raises(OverloadedError) as caught:
            await engine.infer(tensor(0), 1)
        assert caught.value.retry_after == 2 * engine._pace > 0
        gate.open.set()
        await again

    gate = Gate()
    with hosting(gate, queue_size=2) as (engine, _):
        asyncio.run(scenario())


def test_a_runtime_that_hangs_holds_its_own_slot_only() -> None:
    async def scenario() -> None:
        first = await keep_busy(stuck, hanging)
        for index in range(20):
            assert (await engine.infer(tensor(index), 1)).outputs["logits"][0, 0] == index
        assert not first.done()
        hanging.open.set()
        await first

    hanging, other, slots = Gate(), Gate(), Slots(2)
    other.open.set()
    with hosting(hanging, slots=slots) as (stuck, _), hosting(other, slots=slots) as (engine, _):
        asyncio.run(scenario())


@pytest.mark.parametrize("batches", [True, False])
def test_only_variants_whose_requests_can_be_joined_are_batched(batches: bool) -> None:
    class Described:
        model, variant, joins_requests = "toy", "fp32-openvino", batches

    wanted = BatchLimit(16, 0.001)
    assert limit_for(Described(), {"": wanted}) == (wanted if batches else ALONE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("toy/int8-openvino", BatchLimit(2, 0.5)),
        ("toy/fp32-openvino", BatchLimit(8, 0.001)),
        ("other/int8-openvino", BatchLimit(4, 0.0)),
        ("third/int8-openvino", BatchLimit(16, 0.001)),
    ],
)
def test_the_closest_limit_holds(name: str, limit: BatchLimit) -> None:
    class Described:
        model, variant = name.split("/")
        joins_requests = True

    limits = make_limits(16, 0.001, ("toy=8", "toy/int8-openvino=2:0.5", "other=4:0"))
    assert limit_for(Described(), limits) == limit  # type: ignore[arg-type]


def test_an_engine_says_its_limit() -> None:
    with hosting(Gate(), limit=BatchLimit(8)) as (engine, _):
        assert isinstance(engine, Engine)
        assert engine.limit == BatchLimit(8)
