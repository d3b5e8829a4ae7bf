"""One worker process from its birth to its end, as its supervisor sees it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from server.signals import NUMBERS
from server.workers import aggregate
from server.workers.aggregate import Reading
from server.workers.protocol import DRAIN, LONGEST, READ


class Progress:
    """How far a worker has come, for those who wait for it."""

    def __init__(self) -> None:
        self.listening, self.loaded = asyncio.Event(), asyncio.Event()
        self.states = (0, 0)
        """How many variants are READY and how many FAILED, once `loaded`."""

    def restart(self) -> None:
        """Goes back to where a new process begins."""
        self.listening.clear()
        self.loaded.clear()


class WorkerProcess:
    """A process that was started and the socket to it; `live` has to run for the other methods to have an effect."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._asked: deque[asyncio.Future[None]] = deque()
        self.pid = process.pid
        self.reading: Reading = []
        """Its metrics when they were last read."""
        self.refusal = ""
        """Why it cannot work as the settings ask."""

    async def live(self, progress: Progress) -> int:
        """Listens to it until its end; returns its exit code, or less than 0 the signal that ended it."""
        try:
            async for line in self._reader:
                self._hear(line, progress)
            return await self._process.wait()
        finally:
            self.kill()
            await self._process.wait()
            self._writer.close()
            while self._asked:
                _answer(self._asked.popleft())

    def drain(self) -> None:
        """Lets it finish what it has accepted, and end."""
        self._writer.write(DRAIN)

    def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def read(self, seconds: float) -> None:
        """Renews `reading` where it answers within `seconds`."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._writer.write(READ)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(answer, seconds)

    def _hear(self, line: bytes, progress: Progress) -> None:
        kind, what = json.loads(line)
        if kind == "listening":
            progress.listening.set()
        elif kind == "loaded":
            progress.states = tuple(what)
            progress.loaded.set()
        elif kind == "refused":
            self.refusal = what
        elif kind == "reading":
            self.reading = self.reading if what is None else aggregate.load(what)
            _answer(self._asked.popleft())


async def start(number: int, port: int, late: bool, flags: Sequence[str]) -> WorkerProcess:
    """Starts worker `number` with `flags`; it listens on `port` at once, or with `late` when it has loaded."""
    ours, theirs = socket.socketpair()
    with theirs, _signals_blocked():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "server.workers.worker"),
            *(str(number), str(theirs.fileno()), str(port), "late" if late else "early", *flags),
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # it shall import what this process does
        )
    return WorkerProcess(process, *await asyncio.open_unix_connection(sock=ours, limit=LONGEST))


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes that start in the block never see the signals that are their supervisor's."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _answer(asked: asyncio.Future[None]) -> None:
    if not asked.done():  # else the time was up
        asked.set_result(None)
