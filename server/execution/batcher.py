"""A bounded queue that gives batches: what waits for one variant, and how it is grouped.

Natural batching: a batch is what waits when the worker is ready for it, first come first, up to the limit's
rows. While one batch is executed the next one gathers, so batches grow with the load and nobody waits for a
timer. An item that alone exceeds the limit makes a batch of its own.

With a delay, the worker waits for more, but only for what is likely to come: as many rows as were in play
when the last batch ended, and only where that was less than the delay ago (clients that were just answered
ask again soon). A lone request finds nothing else in play and does not pay for it.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, Protocol, TypeVar

from protos.errors import OverloadedError, UnavailableError, UsageError

NEVER = 1 << 62
"""More rows than can wait: the worker is awake already."""


@dataclass(frozen=True, slots=True)
class BatchLimit:
    """How requests for one variant are grouped."""

    rows: int
    """The most rows of one execution; 1 groups nothing; 0 is to be found when the variant is loaded."""
    delay: float = 0.0
    """The longest that a request waits for others to join it, in seconds."""


ALONE = BatchLimit(1)

FORM = re.compile(r"(?P<name>[^=:]+)=(?P<rows>\d+)(?::(?P<delay>\d+(?:\.\d*)?))?")
"""`MODEL[/VARIANT]=ROWS[:SECONDS]`; without SECONDS, the server's own delay holds."""


def make_limits(rows: int, delay: float, own: Sequence[str]) -> dict[str, BatchLimit]:
    """Returns limits by `model/variant` and by `model`, and under "" the server's own; `rows` and `delay` are its own.

    Raises `UsageError` for an entry of `own` that is not of `FORM`.
    """
    limits = {"": BatchLimit(rows, delay)}
    for text in own:
        match = FORM.fullmatch(text)
        if match is None or int(match["rows"]) < 1:
            raise UsageError(f"--batch: got '{text}', expected MODEL=ROWS, MODEL/VARIANT=ROWS or either with :SECONDS")
        limits[match["name"]] = BatchLimit(int(match["rows"]), float(match["delay"] or delay))
    return limits


class Item(Protocol):
    """What can wait: it holds `rows` rows and came at `admitted`, a time of `perf_counter`."""

    rows: int
    admitted: float


Waiting = TypeVar("Waiting", bound=Item)


class Batcher(Generic[Waiting]):
    """At most `room` items wait, to be taken in batches within `limit`. Their `admitted` is a time of `clock`.

    `put` and `discard` are for any thread, `wait` and `take` for one worker.
    """

    def __init__(self, room: int, limit: BatchLimit, clock: Callable[[], float] = perf_counter) -> None:
        self._room, self._limit, self._clock = room, limit, clock
        self._waiting: OrderedDict[Waiting, None] = OrderedDict()  # from it any item leaves at the same small cost
        self._rows, self._taken = 0, 0
        self.open, self._mutex = True, threading.Lock()
        self._wanted, self._wake = NEVER, threading.Lock()
        self._wake.acquire()  # held unless the worker is to wake up

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: Waiting) -> None:
        """Adds an item; `OverloadedError` where there is no room, `UnavailableError` after `close`."""
        with self._mutex:
            if not self.open:
                raise UnavailableError("the variant is being unloaded")
            if len(self._waiting) >= self._room:
                raise OverloadedError(f"{self._room} requests are waiting for this variant, its queue is full")
            self._waiting[item] = None
            self._rows += item.rows
            if self._rows >= self._wanted:
                self._wake_up()

    def discard(self, item: Waiting) -> bool:
        """Removes an item; False where it does not wait any more."""
        with self._mutex:
            if item not in self._waiting:
                return False
            self._remove([item])
            return True

    def snapshot(self) -> list[Waiting]:
        """Returns what waits now, first come first."""
        with self._mutex:
            return list(self._waiting)

    def wait(self) -> bool:
        """Blocks until there is something to take; False when nothing will come any more."""
        if self._limit.delay:
            expected, ended = self._taken + self._rows, self._clock()
            self._sleep_until(1)
            self._gather(expected, ended)
        else:
            self._sleep_until(1)
        return self.open or bool(self._waiting)

    def take(self) -> list[Waiting]:
        """Removes and returns the next batch; empty where all that waited was discarded meanwhile."""
        with self._mutex:
            batch: list[Waiting] = []
            self._taken = 0
            for item in self._waiting:
                if batch and self._taken + item.rows > self._limit.rows:
                    break
                batch.append(item)
                self._taken += item.rows
            self._remove(batch)
        return batch

    def close(self) -> None:
        """Admits nothing more; what waits can still be taken."""
        with self._mutex:
            self.open = False
            if self._wanted != NEVER:
                self._wake_up()

    def _remove(self, items: list[Waiting]) -> None:
        for item in items:
            del self._waiting[item]
            self._rows -= item.rows

    def _gather(self, expected: int, ended: float) -> None:
        now, delay = self._clock(), self._limit.delay
        if now - ended < delay and (waiting := self.snapshot()):
            self._sleep_until(min(expected, self._limit.rows), max(0.0, waiting[0].admitted + delay - now))

    def _sleep_until(self, rows: int, timeout: float = -1) -> None:
        """Blocks until `rows` rows wait, the batcher is closed, or `timeout` seconds have passed; -1 is for ever."""
        with self._mutex:
            if self._rows >= rows or not self.open:
                return
            self._wanted = rows
        if self._wake.acquire(timeout=timeout):
            return
        with self._mutex:
            if self._wanted == NEVER:  # woken just after the time had passed
                self._wake.acquire()
            self._wanted = NEVER

    def _wake_up(self) -> None:
        self._wanted = NEVER
        self._wake.release()
