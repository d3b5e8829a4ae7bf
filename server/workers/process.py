"""One worker process from its start to its end, as its supervisor sees it, and what the two tell each other.

They share a socket as long as both live; its end tells either that the other is gone. The supervisor asks in one
word, READ or DRAIN. The worker reports a line of JSON each, `[kind, what]`:

    listening  null                   its port answers
    loaded     [ready, failed, cold]  start-up loading has finished
    refused    "why"                  the settings cannot be carried out; it ends
    reading    families | null        its metrics (`server.workers.aggregate.dump`), once for each READ
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Sequence

from server.signals import NUMBERS
from server.workers import aggregate
from server.workers.aggregate import Reading

READ, DRAIN = b"read\n", b"drain\n"

LONGEST = 2**28
"""Bytes of one line; a reading has about 100 for each series."""


class Progress:
    """How far a worker has come, for those who wait for it."""

    def __init__(self) -> None:
        self.listening, self.loaded = asyncio.Event(), asyncio.Event()
        self.states = (0, 0, 0)
        """How many variants are READY, how many FAILED and how many COLD, once `loaded`."""


class WorkerProcess:
    """A process that was started and the socket to it; `live` has to run for the other methods to have an effect."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._asked: deque[asyncio.Event] = deque()
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
            for answered in self._asked:
                answered.set()

    def drain(self) -> None:
        """Lets it finish what it has accepted, and end."""
        self._writer.write(DRAIN)

    def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def read(self, seconds: float) -> None:
        """Renews `reading` where it answers within `seconds`."""
        self._asked.append(answered := asyncio.Event())
        self._writer.write(READ)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(answered.wait(), seconds)

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
            self._asked.popleft().set()


async def start(number: int, port: int, late: bool, flags: Sequence[str]) -> WorkerProcess:
    """Starts worker `number` with `flags`; it listens on `port` at once, or with `late` when it has loaded."""
    ours, theirs = socket.socketpair()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)  # the worker inherits it: these are its supervisor's
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "server.workers.worker"),
                *(str(number), str(theirs.fileno()), str(port), "late" if late else "early", *flags),
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # it shall import what this process does
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return WorkerProcess(process, *await asyncio.open_unix_connection(sock=ours, limit=LONGEST))
