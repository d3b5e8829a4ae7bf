"""A supervised worker: a process and, where it dies unasked, the next one after a back-off.

The back-off doubles each time until a worker has lived for a while: what killed it may be a request that its client
repeats. What a dead worker counted up to its last reading stays counted; what came after that is lost.
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
from server.workers.process import Progress, WorkerProcess

FIRST_BACK_OFF_SECONDS, LONGEST_BACK_OFF_SECONDS = 0.1, 30.0
HEALTHY_SECONDS = 60.0
"""After a life of this length the back-off is the first again."""

logger = logging.getLogger(__name__)


class BackOff:
    """How long to wait before a dead worker is followed by the next."""

    def __init__(self) -> None:
        self._next = FIRST_BACK_OFF_SECONDS

    def after(self, lived: float) -> float:
        """Returns the seconds to wait after a worker that lived for `lived` seconds."""
        seconds = FIRST_BACK_OFF_SECONDS if lived >= HEALTHY_SECONDS else self._next
        self._next = min(2 * seconds, LONGEST_BACK_OFF_SECONDS)
        return seconds


class SupervisedWorker:
    """Worker `number` on `port`; `died` is called with the reason whenever another has to follow."""

    def __init__(self, number: int, port: int, flags: Sequence[str], died: Callable[[str], None]) -> None:
        self.progress = Progress()
        self._number, self._port, self._flags, self._died = number, port, flags, died
        self._process: WorkerProcess | None = None
        self._draining = asyncio.Event()
        self._past: Reading = []
        """What the dead processes have counted."""

    async def run(self) -> None:
        """Keeps a process alive until it is to drain; `UsageError` where the first one refuses the settings."""
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
        """Lets the process finish what it has accepted and end; none follows."""
        self._draining.set()
        if self._process:
            self._process.drain()

    def kill(self) -> None:
        """Ends the process at once."""
        if self._process:
            self._process.kill()

    async def read(self, seconds: float) -> Reading:
        """Returns all that was counted so far, or up to the last reading without an answer within `seconds`."""
        if self._process:
            await self._process.read(seconds)
        # No await from here on: a worker that died meanwhile is in the past, and would be counted twice.
        living = self._process.reading if self._process else []
        return merge([self._past, of_worker(living, str(self._number))])

    async def _live(self, late: bool) -> tuple[WorkerProcess, int]:
        """Returns a process after its end, and its exit code."""
        self._process = worker = await process.start(self._number, self._port, late, self._flags)
        logger.info("worker %d has pid %d", self._number, worker.pid)
        if self._draining.is_set():  # it was told so while there was nobody
            worker.drain()
        try:
            return worker, await worker.live(self.progress)
        finally:
            self._process = None
            self._past = merge([self._past, lasting(worker.reading)])
            self.progress.listening.clear()
            self.progress.loaded.clear()
