"""One hosted variant: a bounded queue of requests and the one thread that executes them, in batches.

    any thread                      worker thread
    submit() --> admission --> batcher --> slot --> take a batch --> expired or given up? --> runtime.infer()
     reply.resolve() <---- in this thread, or by one hop for the batch into the reply's event loop ----'

A request comes with its `Reply`, which knows where it came from; the engine does not. `infer` is the same for a
coroutine. A runtime is called by one thread, one call at a time; variants run side by side as far as the process-wide
`slots` allow, and take turns where those are too few. A runtime that hangs keeps its slot and no other.

A request whose deadline passed or whose caller went away is never executed. Where its caller gives it up it
leaves the queue at once, even while the runtime is busy: gRPC tells when a client gives up and when a
deadline passes, so no timer runs here. What happens to one member of a batch leaves the others alone:

- cancelled or expired before the batch starts: left out of it; later: its answer is dropped;
- the execution fails (raises, or answers another number of rows): each member is executed again by itself,
  and fails by itself. One bad request thus costs its companions time, never their answer.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, Protocol

import numpy as np

from protos.errors import EngineError, ExpiredError, OverloadedError, RequestError, UnavailableError
from protos.manifest import Variant
from server.execution.batcher import ALONE, Batcher, BatchLimit
from server.execution.deadline import why_given_up
from server.execution.threads import Slots
from server.runtimes import Array, Runtime

logger = logging.getLogger(__name__)

Reason = Literal["queue_full", "expired", "cancelled"]


class Observer(Protocol):
    """What an engine reports of its work, from whichever thread it happens in."""

    def executed(self, rows: int, seconds: float | None) -> None:
        """The runtime was called once, with `rows` rows, for `seconds`; None where it failed."""

    def rejected(self, reason: Reason) -> None:
        """A request will never be executed."""


@dataclass(slots=True)
class Answer:
    """Outputs (N, ...) by name, and where the time went."""

    outputs: dict[str, Array]
    queue_seconds: float
    """From admission until execution began; waiting for a slot is part of it."""
    compute_seconds: float
    """The time of the whole execution that the request was part of."""


Outcome = Answer | RequestError


class Reply(Protocol):
    """The way of an outcome back to the caller of one request."""

    loop: asyncio.AbstractEventLoop | None
    """Where `resolve` is to be called; None: in the thread that has the outcome."""

    def gone(self) -> bool:
        """Whether nobody waits any more; for any thread."""

    def resolve(self, outcome: Outcome) -> None:
        """Hands over the outcome, called once. It must not wait; where nobody waits any more it does nothing."""


@dataclass(slots=True, eq=False)
class Job:
    """A request in the hands of an engine."""

    engine: "Engine"
    inputs: dict[str, Array]
    rows: int
    deadline: float | None
    reply: Reply
    admitted: float


class _Awaited:
    """The reply to a coroutine."""

    __slots__ = ("future", "loop")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.loop: asyncio.AbstractEventLoop | None = loop
        self.future: asyncio.Future[Answer] = loop.create_future()

    def gone(self) -> bool:
        """See `Reply.gone`."""
        return self.future.done()

    def resolve(self, outcome: Outcome) -> None:
        """See `Reply.resolve`."""
        if self.future.done():
            return
        if isinstance(outcome, Answer):
            self.future.set_result(outcome)
        else:
            self.future.set_exception(outcome)


def limit_for(variant: Variant, limits: Mapping[str, BatchLimit]) -> BatchLimit:
    """Returns the closest of `make_limits`, or `ALONE` where requests cannot be joined."""
    if not variant.joins_requests:
        return ALONE
    return limits.get(f"{variant.model}/{variant.variant}") or limits.get(variant.model) or limits[""]


class Engine:
    """Owns `runtime` from construction until its worker has ended, and the thread that calls it."""

    def __init__(
        self, runtime: Runtime, name: str, queue_size: int, slots: Slots, observer: Observer, limit: BatchLimit = ALONE
    ) -> None:
        self.limit = limit
        self.executing = False
        """Whether the runtime is at work, be it for a caller who went away."""
        self._runtime, self._slots, self._observer = runtime, slots, observer
        self._batcher: Batcher[Job] = Batcher(queue_size, limit)
        self._pace = 0.0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def depth(self) -> int:
        """Returns how many requests wait for the worker."""
        return len(self._batcher)

    async def infer(self, inputs: dict[str, Array], rows: int, deadline: float | None = None) -> Answer:
        """Returns the answer to a request that is submitted with these arguments, or raises its error."""
        return await answered(lambda reply: self.submit(inputs, rows, deadline, reply))

    def submit(self, inputs: dict[str, Array], rows: int, deadline: float | None, reply: Reply) -> Job:
        """Queues inputs (rows, ...); `deadline` is a time of `perf_counter`. For any thread.

        Raises `OverloadedError` at once where the queue is full, `UnavailableError` after `close`. The outcome is
        `ExpiredError` where the deadline passed before execution, `EngineError` where the runtime failed.
        """
        job = Job(self, inputs, rows, deadline, reply, perf_counter())
        try:
            self._batcher.put(job)
        except OverloadedError as error:
            self._observer.rejected("queue_full")
            error.retry_after = len(self._batcher) * self._pace
            raise
        return job

    def give_up(self, job: Job) -> None:
        """Takes a job whose caller went away out of the queue, where it still waits. For any thread."""
        if self._batcher.discard(job):
            self._observer.rejected(why_given_up(job.admitted, job.deadline))

    def close(self, timeout: float | None = None) -> None:
        """Refuses what comes, executes what is queued, gives the runtime back; blocks at most `timeout` seconds.

        What is still queued then fails with `UnavailableError`; a runtime that is busy is given back when it returns.
        """
        self._batcher.close()
        self._thread.join(timeout)
        if self._thread.is_alive():
            logger.warning("%s did not finish within %s s", self._thread.name, timeout)
            left = [job for job in self._batcher.snapshot() if self._batcher.discard(job)]
            _deliver(left, [UnavailableError("the variant was unloaded")] * len(left))

    def _work(self) -> None:
        while self._batcher.wait():
            began, self.executing = perf_counter(), True
            with self._slots:
                batch = self._living(self._batcher.take())
                outcomes = self._execute(batch) if batch else []
            self.executing = False
            if batch:
                self._pace += 0.2 * ((perf_counter() - began) / len(batch) - self._pace)
                _deliver(batch, outcomes)  # last before the wait: it wakes the loop, which then wants the interpreter
        self._runtime.close()

    def _living(self, batch: list[Job]) -> list[Job]:
        """Returns the jobs that someone still waits for; reports the others, and answers those that expired."""
        now, living = perf_counter(), []
        for job in batch:
            if job.reply.gone():
                self._observer.rejected(why_given_up(job.admitted, job.deadline))
            elif job.deadline is not None and now >= job.deadline:
                self._observer.rejected("expired")
                _deliver([job], [_expired()])
            else:
                living.append(job)
        return living

    def _execute(self, batch: list[Job]) -> Sequence[Outcome]:
        """What each member of `batch` gets."""
        rows, began = sum([job.rows for job in batch]), perf_counter()
        try:
            outputs = self._runtime.infer(_joined(batch))
            _check_rows(outputs, rows)
        except Exception as cause:
            self._observer.executed(rows, None)
            return self._failed(batch, cause)
        seconds = perf_counter() - began
        self._observer.executed(rows, seconds)
        return _answers(batch, outputs, began, seconds)

    def _failed(self, batch: list[Job], cause: Exception) -> Sequence[Outcome]:
        """What each member gets after all of them together failed of `cause`."""
        if len(batch) > 1:
            logger.warning("%s: a batch of %d failed, each goes by itself: %r", self._thread.name, len(batch), cause)
            return [self._execute([job])[0] if self._living([job]) else _expired() for job in batch]
        error = EngineError("engine failed")
        error.__cause__ = cause
        return [error]


async def answered(submit: Callable[[Reply], Job]) -> Answer:
    """Returns the answer to the job that `submit` makes, or raises its error; a cancelled caller gives it up."""
    awaited = _Awaited()
    job = submit(awaited)
    try:
        return await awaited.future
    except asyncio.CancelledError:
        job.engine.give_up(job)
        raise


def _expired() -> ExpiredError:
    return ExpiredError("the deadline passed while the request was queued")


def _joined(batch: list[Job]) -> dict[str, Array]:
    """The inputs of all members, one behind the other."""
    if len(batch) == 1:
        return batch[0].inputs
    return {name: np.concatenate([job.inputs[name] for job in batch]) for name in batch[0].inputs}


def _check_rows(outputs: dict[str, Array], rows: int) -> None:
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise ValueError(f"output '{name}' has shape {list(array.shape)}, expected {rows} rows")


def _answers(batch: list[Job], outputs: dict[str, Array], began: float, seconds: float) -> list[Answer]:
    """What each member gets: its rows of the outputs, as views."""
    if len(batch) == 1:
        return [Answer(outputs, began - batch[0].admitted, seconds)]
    answers, start = [], 0
    for job in batch:
        end = start + job.rows
        own = {name: array[start:end] for name, array in outputs.items()}
        answers.append(Answer(own, began - job.admitted, seconds))
        start = end
    return answers


def _deliver(batch: list[Job], outcomes: Sequence[Outcome]) -> None:
    """Hands the outcomes out: here, and to each event loop all of its own in one hop."""
    hops: dict[asyncio.AbstractEventLoop, list[tuple[Reply, Outcome]]] = {}
    for job, outcome in zip(batch, outcomes, strict=True):
        if (loop := job.reply.loop) is None:
            _resolve(job.reply, outcome)
        else:
            hops.setdefault(loop, []).append((job.reply, outcome))
    for loop, replies in hops.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(_resolve_all, replies)


def _resolve_all(replies: list[tuple[Reply, Outcome]]) -> None:
    for reply, outcome in replies:
        _resolve(reply, outcome)


def _resolve(reply: Reply, outcome: Outcome) -> None:
    try:
        reply.resolve(outcome)
    except Exception:  # the thread, and the other replies, must live on
        logger.exception("an outcome could not be handed over")
