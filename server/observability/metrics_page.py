"""The metrics page: a registry over HTTP, which takes little from the requests beside it, whoever asks how often.

One thread has it all. Few connections are open at once: a new one takes the place of the oldest, so that those
which never finish their question keep nobody out. Pages are made one after another, with a rest between two; all
who asked the same before one was begun get that one.
"""

import asyncio
import contextlib
import io
import socket
import sys
import threading
from email.parser import BytesHeaderParser
from time import monotonic, thread_time
from wsgiref.handlers import SimpleHandler

from prometheus_client import CollectorRegistry, make_wsgi_app

from protos.errors import UsageError

CONNECTIONS = 16
"""How many are open at once."""
CROWD = 256
"""How many may arrive at once, to be sorted; of those beyond, the kernel would let anyone wait for seconds."""
EXCHANGE_SECONDS = 10.0
"""From the opening of a connection to the last byte of its answer; Prometheus waits no longer by default."""
QUESTION_BYTES = 16 * 1024
"""The longest head of a request."""
REST = 4
"""Seconds between two pages for each second of CPU that one took: they take a fifth of the interpreter, at most."""
NO_HTTP = b"HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


class Page:
    """Answers from its construction to `close`; `UsageError` where the port cannot be had."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self._socket = socket.create_server(address[:2], family=family, backlog=CROWD)
        except OSError as error:
            raise UsageError(f"--metrics-port: {join(host, port)} cannot be listened on: {error.strerror}") from None
        self.address = join(host, self._socket.getsockname()[1])
        self._pages = _Pages(registry)
        self._exchanges: dict[asyncio.Task[None], None] = {}  # in the order of their beginning
        self._loop, self._stop = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="metrics-page", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Answers no more."""
        self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # it cancels what is open at the end
            runner.run(self._listen())

    async def _listen(self) -> None:
        listening = asyncio.start_server(self._accept, sock=self._socket, limit=QUESTION_BYTES, backlog=CROWD)
        async with await listening:
            await self._stop.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._exchanges) >= CONNECTIONS:
            oldest = next(iter(self._exchanges))
            del self._exchanges[oldest]
            oldest.cancel()
        exchange = asyncio.create_task(self._exchange(reader, writer))
        self._exchanges[exchange] = None
        exchange.add_done_callback(lambda _: self._exchanges.pop(exchange, None))
        exchange.add_done_callback(lambda _: writer.transport.abort())

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)  # `drain` waits for the last byte
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):  # too slow, gone, too much to say
            async with asyncio.timeout(EXCHANGE_SECONDS):
                question = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._pages.answer(question))
                await writer.drain()


class _Pages:
    """Answers to HTTP requests, of which equal ones that wait together get the same."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._app = make_wsgi_app(registry)
        self._turn = asyncio.Lock()
        self._rested = 0.0
        self._last = (0.0, b"", b"")  # when it was begun, the question and the answer

    async def answer(self, question: bytes) -> bytes:
        """Returns an answer that was begun after the question came."""
        came = monotonic()
        async with self._turn:
            begun, answered, page = self._last
            if begun < came or answered != question:
                await asyncio.sleep(self._rested - monotonic())
                begun, used = monotonic(), thread_time()
                page = self._respond(question)
                self._rested = monotonic() + REST * (thread_time() - used)
                self._last = begun, question, page
            return page

    def _respond(self, question: bytes) -> bytes:
        line, _, rest = question.partition(b"\r\n")
        try:
            method, target, protocol = line.decode("ascii").split()
        except ValueError:
            return NO_HTTP
        path, _, query = target.partition("?")
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "SERVER_PROTOCOL": protocol}
        for name, value in BytesHeaderParser().parsebytes(rest).items():
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        response = io.BytesIO()
        SimpleHandler(io.BytesIO(), response, sys.stderr, environ, multithread=False).run(self._app)
        return response.getvalue()


def join(host: str, port: int) -> str:
    """ "host:port", with brackets where the host is an address of IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
