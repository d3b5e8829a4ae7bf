"""One worker process: a server whose supervisor has the signals, the metrics page and the port.

`python -m server.workers.worker NUMBER DESCRIPTOR PORT early|late FLAGS...`, which nobody but
`server.workers.process` starts. An early one listens before it has loaded, as a server does that is alone; a late
one takes the place of a dead one beside others that serve, and does not ask for connections before it can answer.

It starts with SIGTERM and SIGINT blocked: terminals and service managers send them to the whole group, and only
the supervisor knows whether it is the first or the second. When the supervisor is gone it ends at once, whatever
it is doing: a thread of its own waits for that.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from protos.errors import UsageError
from server.observability import logs
from server.observability.instruments import Instruments
from server.settings import Settings, parse
from server.workers.aggregate import dump
from server.workers.process import DRAIN, READ

ORPHANED = 3
"""The exit code after the end of the supervisor, which nobody is there to read."""

logger = logging.getLogger(__name__)


class Supervision:
    """The worker's end of the socket: reports, and does what it is asked."""

    def __init__(self, connection: socket.socket, instruments: Instruments, drain: Callable[[], object]) -> None:
        self._socket, self._instruments, self._drain = connection, instruments, drain
        self._sending = threading.Lock()
        threading.Thread(target=self._listen, name="supervision", daemon=True).start()

    def report(self, kind: str, what: object = None) -> None:
        """Tells the supervisor, if it is still there."""
        with self._sending, contextlib.suppress(OSError):
            self._socket.sendall(json.dumps([kind, what]).encode() + b"\n")

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            for word in self._socket.makefile("rb"):
                if word == READ:
                    self.report("reading", self._read())
                elif word == DRAIN:
                    self._drain()
        os._exit(ORPHANED)

    def _read(self) -> object:
        try:
            return dump(self._instruments)
        except Exception:  # the thread has to live on
            logger.exception("the metrics cannot be read")
            return None


def main(arguments: list[str]) -> int:
    """Works until it is told to drain; returns the exit code."""
    number, descriptor, port, entrance, *flags = arguments
    connection = socket.socket(fileno=int(descriptor))
    connection.set_inheritable(False)  # a helper process of an engine would keep it open after the end of this one
    settings = replace(parse(flags, os.environ), port=int(port))
    logs.configure(settings.log_level, settings.log_format)
    for handler in logging.getLogger().handlers:
        handler.addFilter(partial(_sign, int(number)))
    return asyncio.run(_work(settings, connection, late=entrance == "late"))


async def _work(settings: Settings, connection: socket.socket, late: bool) -> int:
    loop, stop, instruments = asyncio.get_running_loop(), asyncio.Event(), Instruments()
    supervision = Supervision(connection, instruments, lambda: loop.call_soon_threadsafe(stop.set))
    from server.lifecycle import Server  # takes a second, in which the supervision already works

    stopping = loop.create_task(stop.wait())
    try:
        server = Server(settings, instruments, late)
        if late:
            server.load()
            await asyncio.wait({server.loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await server.listen()
        if not late:
            server.load()
    except UsageError as error:
        supervision.report("refused", str(error))
        return 2
    supervision.report("listening")
    await asyncio.wait({server.loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if server.loading.done():
        supervision.report("loaded", server.application.loaded())
    await stopping
    await server.drain()
    await server.stop()
    return 0


def _sign(number: int, record: logging.LogRecord) -> bool:
    """A filter that lets every record pass, and adds to its fields which worker wrote it."""
    record.fields = {**getattr(record, "fields", {}), "worker": number}
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
