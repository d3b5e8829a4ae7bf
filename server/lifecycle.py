"""The life of one server: build, start, wait, drain, stop.

Draining has three steps, so that a client that watches the health loses no request:
1. health and ServerReady say no, and requests are still accepted for the notice;
2. gRPC refuses what comes and lets what it accepted finish, for at most the timeout;
3. the engines finish and give their memory back.
"""

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, start_http_server

from protos.errors import UsageError
from protos.machine import available_cores
from protos.v1.inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from server.edge import Edge
from server.health import SERVICE, Health
from server.metrics import Metrics
from server.plan import make_plan
from server.registry import Registry
from server.servicer import Servicer
from server.settings import Settings

SETTLE_SECONDS = 0.1
"""gRPC cancels the calls that it received but has not handed over when it stops. While calls are held, their
clients wait and send no others, so that by the end of this time there are none."""

logger = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once."""
    server = Server(settings)
    with stop_signals() as stop:
        await server.start()
        await stop.wait()
        await server.drain()
        await server.stop()


class Server:
    """One server. Built inside a running event loop; `UsageError` where the settings cannot be carried out."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._plan = make_plan(settings.threads, available_cores())
        self._page = CollectorRegistry()
        metrics = Metrics(self._page)
        self._health = Health()
        self.registry = Registry(settings.repository, self._plan, settings.queue_size, metrics, self._health.publish)
        self._edge = Edge(metrics.handled)
        self._grpc = _grpc_server(settings, self._edge, self._health, Servicer(self.registry, settings.max_batch))

    async def start(self) -> None:
        """Answers from now on, and loads the variants; `UsageError` where a port cannot be had."""
        host = self._settings.host
        self._metrics_server, self._metrics_thread = _start_metrics(host, self._settings.metrics_port, self._page)
        try:
            self.grpc_address = _join(host, _bind(self._grpc, host, self._settings.port))
        except UsageError:
            await self._stop_metrics()
            raise
        self.metrics_address = _join(host, self._metrics_server.server_port)
        await self._health.publish(self.registry)
        await self._grpc.start()
        logger.info("plan: %d cores, %d at a time x %d threads", self._plan.cores, self._plan.slots, self._plan.threads)
        logger.info("serving grpc=%s metrics=%s", self.grpc_address, self.metrics_address)
        self.loading = asyncio.create_task(self.registry.load_all())

    async def drain(self) -> None:
        """Tells health and ServerReady, and leaves balancers the notice to look elsewhere."""
        logger.info("draining")
        self.registry.draining = True
        await self._health.leave()
        await asyncio.sleep(self._settings.drain_notice)

    async def stop(self) -> None:
        """Lets accepted requests finish, then gives everything back."""
        self._edge.end_streams()
        with self._edge.holding_calls():
            await asyncio.sleep(SETTLE_SECONDS)
            stopping = asyncio.create_task(self._grpc.stop(self._settings.drain_timeout))
            await asyncio.sleep(0)  # from here on gRPC takes no calls
        await stopping
        answered = ", ".join(f"{count} {code}" for code, count in self._edge.answered("ModelInfer").items())
        logger.info("ModelInfer calls answered: %s", answered or "none")
        self.loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.loading
        await self.registry.close(self._settings.drain_timeout)
        await self._stop_metrics()
        logger.info("stopped")

    async def _stop_metrics(self) -> None:
        await asyncio.to_thread(self._metrics_server.shutdown)
        self._metrics_server.server_close()
        self._metrics_thread.join()


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """The event is set by SIGTERM or SIGINT; the next one ends the process at once, with 128 + its number."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def handle(number: int) -> None:
        if stop.is_set():
            logger.warning("forced to end by a second signal")
            os._exit(128 + number)  # no engine, thread or client can hold this up
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _grpc_server(settings: Settings, edge: Edge, health: Health, servicer: Servicer) -> grpc.aio.Server:
    server = grpc.aio.server(
        interceptors=[edge],
        options=[
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.so_reuseport", 0),  # else a second server would take half of this one's connections, in silence
        ],
    )
    add_GRPCInferenceServiceServicer_to_server(servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    reflection.enable_server_reflection((SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME), server)
    return server


def _bind(server: grpc.aio.Server, host: str, port: int) -> int:
    try:
        return server.add_insecure_port(_join(host, port))
    except RuntimeError:
        raise UsageError(f"--port: {_join(host, port)} is in use, or cannot be listened on") from None


def _start_metrics(host: str, port: int, page: CollectorRegistry) -> tuple[WSGIServer, threading.Thread]:
    try:
        return start_http_server(port, host, page)
    except OSError as error:
        raise UsageError(f"--metrics-port: {_join(host, port)} cannot be listened on: {error.strerror}") from None


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
