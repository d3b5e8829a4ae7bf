"""One supervised worker: a process and, if it dies unasked, the next one in its place.

A worker that died is followed after a pause, which doubles each time until one has lived for a while: what
killed it may be a request, and then come its client's retries. It listens once it has loaded, so that its place
among the others costs their clients nothing. What its metrics counted up to their last
reading stays counted; what it counted later is lost with it.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Sequence
from time import monotonic

from protos.errors import UsageError
from server.workers import process
from server.workers.aggregate import Reading, lasting, merge, of_worker
from server.workers.process import Child, Progress

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 30.0
HEALTHY_SECONDS = 60.0
"""After a life of that length the pause is the first again."""

logger = logging.getLogger(__name__)


class BackOff:
    """How long to wait before a dead worker is followed by the next."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE_SECONDS

    def after(self, lived: float) -> float:
        """Seconds, after a worker that lived for `lived` seconds."""
        pause = FIRST_PAUSE_SECONDS if lived >= HEALTHY_SECONDS else self._next
        self._next = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return pause


class SupervisedWorker:
    """Worker `number` on `port`; `died` is called with the reason whenever it has to be followed by another."""

    def __init__(self, number: int, port: int, flags: Sequence[str], died: Callable[[str], None]) -> None:
        self.progress = Progress()
        self._number, self._port, self._flags, self._died = number, port, flags, died
        self._child: Child | None = None
        self._draining = asyncio.Event()
        self._past: Reading = []
        """The counts of the processes that have ended."""

    async def run(self) -> None:
        """Keeps a worker here until it is to drain; `UsageError` where the first one refuses the settings."""
        back_off, first = BackOff(), True
        while not self._draining.is_set():
            began = monotonic()
            worker, code = await self._live(late=not first)
            if self._draining.is_set():
                return
            if first and worker.refusal:
                raise UsageError(worker.refusal)
            first, reason = False, signal.Signals(-code).name if code < 0 else "exit"
            pause, how = back_off.after(monotonic() - began), worker.refusal or reason
            self._died(reason)
            logger.error("worker %d died (%s), the next one starts in %.1f s", self._number, how, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), pause)

    def drain(self) -> None:
        """The worker finishes what it has accepted and ends, and nobody follows."""
        self._draining.set()
        if self._child:
            self._child.drain()

    def kill(self) -> None:
        """Ends the worker at once."""
        if self._child:
            self._child.kill()

    async def read(self, seconds: float) -> Reading:
        """All that was counted here; up to an earlier reading, where the worker does not answer within `seconds`."""
        worker = self._child
        if worker:
            await worker.read(seconds)
        # No await from here on: a worker that died meanwhile is in the past, and would be counted twice.
        living = self._child.reading if self._child else []
        return merge([self._past, of_worker(living, str(self._number))])

    async def _live(self, late: bool) -> tuple[Child, int]:
        """One worker from start to end, and its exit code."""
        self._child = worker = await process.start(self._number, self._port, late, self._flags)
        logger.info("worker %d has pid %d", self._number, worker.pid)
        if self._draining.is_set():  # it was told so while there was nobody
            worker.drain()
        try:
            return worker, await worker.live(self.progress)
        finally:
            self._child = None
            self._past = merge([self._past, lasting(worker.reading)])
            self.progress.restart()
