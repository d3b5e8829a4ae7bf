"""Engines without a server: one of a stand-in runtime, kept busy, with requests that wait."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import numpy as np

from server.execution.batcher import ALONE, BatchLimit
from server.execution.engine import Answer, Engine
from server.execution.threads import Slots
from tests.support.server.standins import Faulty, Gate, Record
from tests.support.serving import eventually


def tensor(value: float, rows: int = 1) -> dict[str, np.ndarray]:
    return {"input": np.full((rows, 3), value, np.float32)}


@contextmanager
def hosting(
    runtime: Gate | Faulty, queue_size: int = 8, slots: Slots | None = None, limit: BatchLimit = ALONE
) -> Iterator[tuple[Engine, Record]]:
    """An engine of `runtime` during the block, and what it reports."""
    record = Record()
    engine = Engine(runtime, "toy/test", queue_size, slots or Slots(1), record, limit)
    try:
        yield engine, record
    finally:
        if isinstance(runtime, Gate):
            runtime.open.set()
        engine.close()


async def keep_busy(engine: Engine, gate: Gate) -> asyncio.Task[Answer]:
    """A request that the runtime is busy with, so that the next ones wait."""
    task = asyncio.create_task(engine.infer(tensor(-1), 1))
    await asyncio.to_thread(gate.entered.wait, 30)
    return task


async def enqueue(engine: Engine, count: int, call: Callable[[int], Awaitable[Answer]]) -> list["asyncio.Task[Answer]"]:
    """`count` requests that all wait in the queue when this returns."""
    before = engine.depth()
    tasks = [asyncio.ensure_future(call(index)) for index in range(count)]
    await eventually(lambda: engine.depth() == before + count)
    return tasks  # type: ignore[return-value]
