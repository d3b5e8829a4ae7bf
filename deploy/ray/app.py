"""The server as a deployment of Ray Serve: `serve run deploy/ray/serve.yaml`, in the folder of the checkout.

    client --> Ray's gRPC proxy, one for each node --> a replica: `server.application`, as in `pareto-serve`

The proxy hands on the bytes of a message. In the replica they pass the edge that they would pass in `pareto-serve`, so
that validation, admission, batching, statuses, metrics and logs are the same. One thing differs: Ray does not tell a
replica how long a client waits, but cancels the call there when its time is over.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import grpc
import ray
from grpc_health.v1 import health_pb2
from ray import serve
from ray.serve.grpc_util import RayServegRPCContext, gRPCInputStream

from protos.errors import UsageError
from protos.v1 import inference_pb2 as pb
from server.__main__ import on_this_disk, prepare
from server.application import Application
from server.observability import logs
from server.observability.instruments import Instruments
from server.observability.metrics_page import Page
from server.settings import Settings, parse

SERVICES = (pb.DESCRIPTOR.services_by_name["GRPCInferenceService"], health_pb2.DESCRIPTOR.services_by_name["Health"])
METHODS = {
    method.name: f"/{service.full_name}/{method.name}"
    for service in SERVICES
    for method in service.methods
    if method.name != "Watch"  # it would be one request under way for as long as somebody watches
}
"""Each method that a replica answers, and its path."""
STREAM = "ModelStreamInfer"

DECIDED_BY_RAY = {
    *("port", "front", "workers", "allow-repository-control", "drain-notice"),
    *("ping-interval", "ping-strikes", "max-message-bytes", "tls-cert", "tls-key", "tls-client-ca", "token-file"),
}
"""Flags of `pareto-serve` about what Ray decides: the port and its clients, how many replicas, how they end."""

logger = logging.getLogger(__name__)


def add_to_proxy(servicer: object, server: grpc.aio.Server) -> None:
    """Has Ray's proxy, which puts itself in the place of each handler, take the protocol's calls as bytes."""
    unary, both_ways = grpc.unary_unary_rpc_method_handler(None), grpc.stream_stream_rpc_method_handler(None)
    for service in SERVICES:
        names = [method.name for method in service.methods if method.name in METHODS]
        handlers = {name: both_ways if name == STREAM else unary for name in names}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer that is bytes already; Ray asks it for them."""

    content: bytes = b""

    def SerializeToString(self) -> bytes:
        """Returns the bytes."""
        return self.content


class Call:
    """A call that came by Ray, as the edge wants one of gRPC; `stream` brings the messages where there are many."""

    def __init__(self, sent: RayServegRPCContext, stream: gRPCInputStream[bytes] | None = None) -> None:
        self._sent, self._stream = sent, stream
        self.answers: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        """The answers of a stream; None is its end."""

    def time_remaining(self) -> None:
        """Returns None: Ray does not say."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """Returns the headers that the client sent."""
        return self._sent.invocation_metadata()

    def code(self) -> grpc.StatusCode:
        """Returns the status that was set."""
        return self._sent.code()

    async def abort(self, code: grpc.StatusCode, text: str = "", trailing: Iterable[tuple[str, str]] = ()) -> None:
        """Has Ray send this status; raises `AbortError`."""
        self._sent.set_code(code)
        self._sent.set_details(text)
        self._sent.set_trailing_metadata([*trailing])
        raise grpc.aio.AbortError

    async def read(self) -> object:
        """Returns the next message of the stream."""
        assert self._stream is not None
        return await anext(self._stream, grpc.aio.EOF)

    async def write(self, answer: bytes) -> None:
        """Returns when there is room for one more answer."""
        await self.answers.put(answer)


class Replica:
    """One replica: all variants of a repository, or those that `settings` name."""

    async def __init__(self, settings: Settings) -> None:
        logs.configure(settings.log_level, settings.log_format)
        prepare(os.environ, settings.threads)
        settings = await asyncio.to_thread(on_this_disk, settings)
        instruments = Instruments()
        cores = int(ray.get_runtime_context().get_assigned_resources()["CPU"])
        self._application = application = Application(settings, instruments, cores)
        if unknown := application.registry.unknown():  # others may serve that began with it
            logger.warning(unknown)
        self._handlers = {name: _handler(application, path) for name, path in METHODS.items()}
        self._page = Page(settings.host, settings.metrics_port, instruments)
        await application.health.publish(application.registry)
        await application.load()
        logger.info("plan: %s, metrics=%s", application.plan, self._page.address)
        logs.log_loaded(*application.loaded())

    def check_health(self) -> None:
        """Raises an error where no variant can be asked: Ray gives the replica no calls, and starts another."""
        if not self._application.registry.ready:
            reasons = (f"{each.label}: {each.reason}" for each in self._application.registry.all())
            raise RuntimeError("no variant can be served: " + "; ".join(reasons))

    async def __del__(self) -> None:
        """Ray calls it when the last request is answered, or the time for that is over."""
        await self._application.close()
        await self._page.close()

    async def ModelStreamInfer(
        self, stream: gRPCInputStream[bytes], grpc_context: RayServegRPCContext
    ) -> AsyncIterator[Encoded]:
        """Answers many requests on one stream."""
        call = Call(grpc_context, stream)

        async def answer() -> grpc.aio.AbortError | None:
            failed = None
            try:
                await self._handlers[STREAM](None, call)
            except grpc.aio.AbortError as error:  # the status is set
                failed = error
            await call.answers.put(None)
            return failed

        answering = asyncio.create_task(answer())
        try:
            while (message := await call.answers.get()) is not None:
                yield Encoded(message)
            if failed := await answering:
                raise failed
        finally:
            answering.cancel()


def _handler(application: Application, path: str) -> Callable[..., Awaitable[bytes]]:
    found = application.edge.service(_Details(path))
    return found.stream_stream or found.unary_unary


class _Details(grpc.HandlerCallDetails):
    def __init__(self, method: str) -> None:
        self.method, self.invocation_metadata = method, ()


def _unary(name: str) -> Callable[..., Awaitable[Encoded]]:
    async def call(self: Replica, request: bytes, grpc_context: RayServegRPCContext) -> Encoded:
        with contextlib.suppress(grpc.aio.AbortError):  # the status is set
            return Encoded(await self._handlers[name](request, Call(grpc_context)))
        return Encoded()

    return call


for _name in METHODS.keys() - {STREAM}:  # Ray calls the method that is called as the RPC
    setattr(Replica, _name, _unary(_name))


def read_settings(given: dict[str, Any]) -> Settings:
    """Returns the settings that serve.yaml's `args` are, by the names of `pareto-serve`'s flags; `UsageError`."""
    if refused := sorted(given.keys() & DECIDED_BY_RAY):
        raise UsageError(f"args: got '{refused[0]}', expected none: Ray Serve decides it")
    settings = parse([f"--{name}={value}" for name, value in given.items()], {})
    values = {each.name: getattr(settings, each.name) for each in fields(settings)}
    paths: dict[str, Any] = {name: value.resolve() for name, value in values.items() if isinstance(value, Path)}
    return replace(settings, **paths)  # replicas run in folders of their own


def build(given: dict[str, Any]) -> serve.Application:
    """Returns the application that serve.yaml describes."""
    return serve.deployment(Replica).bind(read_settings(given))
