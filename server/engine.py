"""One hosted variant: a bounded first-in-first-out queue and the one thread that executes it.

    event loop                    worker thread
    infer() --> admission --> queue --> slot --> expired or cancelled? --> runtime.infer()
      await future  <------------- one call_soon_threadsafe -------------------'

A runtime is called by one thread, one call at a time; variants run side by side as far as the process-wide
`slots` allow, and take turns where those are too few. A request whose deadline passed or whose caller went
away is never executed: a cancelled caller does not stop work that already runs in a thread, so this is
checked last thing before execution.

The engine knows no gRPC; it raises the domain errors of `protos.errors`. It does not group requests:
a batcher would take the place of `_next`.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, Protocol

from protos.errors import EngineError, ExpiredError, OverloadedError, UnavailableError
from server.runtimes import Array, Runtime
from server.slots import Slots

logger = logging.getLogger(__name__)

Reason = Literal["queue_full", "expired", "cancelled"]


class Observer(Protocol):
    """What an engine reports of its work, from whichever thread it happens in."""

    def executed(self, rows: int) -> None:
        """The runtime was called once, with `rows` rows."""

    def rejected(self, reason: Reason) -> None:
        """A request will never be executed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Outputs (N, ...) by name, and where the time went."""

    outputs: dict[str, Array]
    queue_seconds: float
    """From admission until execution began; waiting for a slot is part of it."""
    compute_seconds: float


@dataclass(slots=True, eq=False)
class _Job:
    inputs: dict[str, Array]
    rows: int
    deadline: float | None
    future: asyncio.Future[Answer]
    admitted: float


class Engine:
    """Owns `runtime` from construction to `close`, and the thread that calls it."""

    def __init__(self, runtime: Runtime, name: str, queue_size: int, slots: Slots, observer: Observer) -> None:
        self._runtime, self._queue_size, self._slots, self._observer = runtime, queue_size, slots, observer
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._open, self._admission = True, threading.Lock()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def depth(self) -> int:
        """Requests that wait for the worker."""
        return self._queue.qsize()

    async def infer(self, inputs: dict[str, Array], rows: int, deadline: float | None = None) -> Answer:
        """The answer for inputs (rows, ...); `deadline` is a time of `perf_counter`.

        Raises `OverloadedError` at once where the queue is full, `UnavailableError` after `close`,
        `ExpiredError` where the deadline passed before execution, `EngineError` where the runtime failed.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._admit(_Job(inputs, rows, deadline, future, perf_counter()))
        return await future

    def close(self, timeout: float | None = None) -> None:
        """Refuses what comes, executes what is queued, gives the runtime back; blocks at most `timeout` seconds.

        A runtime that is still busy then is left to the end of the process.
        """
        with self._admission:
            self._open = False
            self._queue.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            logger.warning("%s did not finish within %s s", self._thread.name, timeout)
        else:
            self._runtime.close()

    def _admit(self, job: _Job) -> None:
        with self._admission:  # else a job could come behind the end of the queue, and nobody would answer it
            if not self._open:
                raise UnavailableError("the variant is being unloaded")
            if self._queue.qsize() >= self._queue_size:
                self._observer.rejected("queue_full")
                raise OverloadedError(f"{self._queue_size} requests are waiting for this variant, its queue is full")
            self._queue.put(job)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            with self._slots:
                if self._next(job):
                    self._execute(job)

    def _next(self, job: _Job) -> bool:
        """Whether `job` is to be executed now; the place where a batcher would collect those behind it."""
        if job.deadline is not None and perf_counter() >= job.deadline:
            self._observer.rejected("expired")
            _resolve(job.future, ExpiredError("the deadline passed while the request was queued"))
            return False
        if job.future.cancelled():
            self._observer.rejected("cancelled")
            return False
        return True

    def _execute(self, job: _Job) -> None:
        began = perf_counter()
        try:
            outputs = self._runtime.infer(job.inputs)
            _check_rows(outputs, job.rows)
        except Exception as cause:
            error = EngineError("engine failed")
            error.__cause__ = cause
            _resolve(job.future, error)
        else:
            _resolve(job.future, Answer(outputs, began - job.admitted, perf_counter() - began))
        self._observer.executed(job.rows)


def _check_rows(outputs: dict[str, Array], rows: int) -> None:
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise ValueError(f"output '{name}' has shape {list(array.shape)}, expected {rows} rows")


def _resolve(future: asyncio.Future[Answer], outcome: Answer | Exception) -> None:
    """Hands the outcome to the loop, in one hop; the caller may have gone meanwhile, and so may the loop."""

    def deliver() -> None:
        if future.done():
            return
        if isinstance(outcome, Answer):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    with contextlib.suppress(RuntimeError):  # the loop was closed
        future.get_loop().call_soon_threadsafe(deliver)
