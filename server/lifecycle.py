"""The life of one server: build, listen, load, wait, drain, stop.

Draining has three steps, so that a client that watches the health loses no request:
1. health and ServerReady say no, and requests are still accepted for the notice;
2. gRPC refuses what comes and lets what it accepted finish, for at most the timeout;
3. the engines finish and give their memory back.
"""

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import grpc

from protos.errors import UsageError
from protos.support.machine import available_cores
from server.api.security import Tokens, credentials
from server.application import Application
from server.observability import logs
from server.observability.instruments import Instruments
from server.observability.metrics_page import Page, join
from server.settings import Settings
from server.signals import stop_signals

if TYPE_CHECKING:
    from server.api.native_front import NativeFront

STREAMS = 1024
"""Calls of one connection that may be under way, as in the native front; clients keep back what is beyond. As many more
may be over and not yet cleared away: beyond that, gRPC refuses the next calls of this connection."""
PENDING_CALLS = 100_000
"""Calls of all connections that may have reached gRPC and not yet the event loop, which takes thousands a second.

Calls that were reset meanwhile wait there as well until it has taken them, and at the limit gRPC cancels whoever calls:
a client that opened and reset streams had the calls of all others cancelled. `STREAMS` bounds what a connection adds.
Source: https://github.com/grpc/grpc/pull/34782
"""

_STREAM_LIMITS = (("grpc.max_concurrent_streams", STREAMS), ("grpc.http2.max_deallocating_streams", STREAMS))

SETTLE_SECONDS, MOST_SETTLES = 0.1, 10
"""gRPC cancels the calls that it received but has not handed over when it stops. While calls are held, their
clients wait and send no others: once none has come for this time there are none, or others send without an end."""

logger = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once."""
    server = Server(settings)
    with stop_signals() as stop:
        await server.listen()
        server.load()
        await stop.wait()
        await server.drain()
        await server.stop()


class Server:
    """One server. Built inside a running event loop; `UsageError` where the settings cannot be carried out.

    A worker passes the registry of its `instruments`: it shares the port, and its supervisor serves the page. Names in
    the settings that the repository lacks are refused, but not of one that came `late`: others serve that began with
    them.
    """

    def __init__(self, settings: Settings, instruments: Instruments | None = None, late: bool = False) -> None:
        self._settings, self._alone = settings, instruments is None
        self._instruments = instruments or Instruments()
        self._page: Page | None = None
        self._front: NativeFront | None = None
        self.application = Application(settings, self._instruments, available_cores())
        self.registry = self.application.registry
        if unknown := self.registry.unknown():
            if not late:
                raise UsageError(unknown)
            logger.warning(unknown)
        self._credentials = credentials(settings)
        self._grpc = self._build_grpc_server()

    async def listen(self) -> None:
        """Answers from now on; `UsageError` where a port cannot be had."""
        host, port = self._settings.host, self._settings.port
        if self._settings.front == "native":
            self._front = self._make_front(host, port)
            self._grpc.add_insecure_port(f"unix:{self._front.fallback}")
            port = self._front.port
        else:
            port = _bind(self._grpc, host, port, self._credentials)
        self.grpc_address = join(host, port)
        if self._alone:
            self._page = Page(host, self._settings.metrics_port, self._instruments)
        await self.application.health.publish(self.registry)
        await self._grpc.start()
        if self._front:
            self._front.start()
        if self._page:
            self.metrics_address = self._page.address
            logs.log_serving(self.application.plan, self._settings.front, self.grpc_address, self.metrics_address)

    def load(self) -> None:
        """Begins to load the variants; `loading` is over when all of them are READY, FAILED or COLD."""
        self.loading = asyncio.create_task(self._load())

    async def drain(self) -> None:
        """Makes health and ServerReady say no, and leaves clients the notice to turn elsewhere."""
        logger.info("draining")
        await self.application.leave()
        await asyncio.sleep(self._settings.drain_notice)

    async def stop(self) -> None:
        """Lets accepted requests finish, then gives everything back."""
        ends = asyncio.get_running_loop().time() + self._settings.drain_timeout
        if self._front:
            self._front.refuse()
        self.application.end_streams()
        await self._settle()
        stopping = asyncio.create_task(self._grpc.stop(self._settings.drain_timeout))
        await asyncio.sleep(0)  # from here on gRPC takes no calls
        self.application.edge.calls_may_begin.set()
        await stopping
        if self._front:  # last: what grpc.aio answers leaves through it
            await self._front.stop(max(0.0, ends - asyncio.get_running_loop().time()))
        answered = ", ".join(f"{count} {code}" for code, count in self.application.edge.answered("ModelInfer").items())
        logger.info("ModelInfer calls answered: %s", answered or "none")
        self.loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.loading
        await self.application.close()
        if self._page:
            await self._page.close()
        logger.info("stopped")

    async def _settle(self) -> None:
        """Holds the calls that come, until none does."""
        edge = self.application.edge
        edge.calls_may_begin.clear()
        for _ in range(MOST_SETTLES):
            held = edge.held
            await asyncio.sleep(SETTLE_SECONDS)
            if edge.held == held:
                return

    async def _load(self) -> None:
        await self.application.load()
        if self._alone:
            logs.log_loaded(*self.application.loaded())

    def _make_front(self, host: str, port: int) -> "NativeFront":
        try:
            from server.api.native_front import NativeFront
        except ModuleNotFoundError as error:
            needed = f"'{error.name}' is not installed: pip install 'paretoserve[fast]'"
            raise UsageError(f"--front native: {needed}") from None
        inference, handled = self.application.inference, self.application.metrics.handled
        longest = self._settings.max_message_bytes
        return NativeFront(host, port, inference, handled, longest, reuse_port=not self._alone)

    def _build_grpc_server(self) -> grpc.aio.Server:
        tokens, handled = self._settings.token_file, self.application.metrics.handled
        server = grpc.aio.server(
            interceptors=[Tokens(tokens, handled)] if tokens else [],
            options=[
                ("grpc.max_receive_message_length", self._settings.max_message_bytes),
                ("grpc.max_send_message_length", self._settings.max_message_bytes),
                # gRPC's own: 300 s in a call, two hours without one; what is short of it ends streams and calls.
                ("grpc.http2.min_ping_interval_without_data_ms", int(self._settings.ping_interval * 1000)),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.max_ping_strikes", self._settings.ping_strikes),
                # Beyond 1,000 calls that wait to be taken, gRPC would answer CANCELLED; a full queue answers better.
                ("grpc.server.max_pending_requests", PENDING_CALLS),
                ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS),
                # Else a second server would take half of this one's connections, in silence.
                ("grpc.so_reuseport", int(not self._alone)),
                *(_STREAM_LIMITS if self._settings.front == "grpcio" else ()),  # the native front bounds its clients
            ],
        )
        server.add_generic_rpc_handlers((self.application.edge,))
        return server


def _bind(server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is not None:
            return server.add_secure_port(join(host, port), credentials)
        return server.add_insecure_port(join(host, port))
    except RuntimeError:
        raise UsageError(f"--port: {join(host, port)} is in use, or cannot be listened on") from None
