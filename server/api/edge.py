"""What every call passes on its way in and out: parsing, serializing, errors to statuses, the count of codes.

Handlers raise domain errors; here they become what `server.status` says. Streams (health watches, reflection)
have no end of their own: they are ended when the server stops, so that one idle watcher does not hold it until the
drain deadline. ModelStreamInfer is told of the stop by `server.api.stream`, and ends when what it has accepted is
answered.

It is no interceptor, which would cost several coroutines a call: it is the one handler that gRPC asks. gRPC itself
answers calls of unknown methods, and messages over the limit.
"""

import asyncio
import inspect
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn, TypeAlias, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from prometheus_client import Counter

from protos.errors import InvalidInputError, RequestError, UnavailableError
from server.observability import logs
from server.observability.request_record import RequestRecord
from server.status import is_fault, text_of

SELF_ENDING = "/inference.GRPCInferenceService/ModelStreamInfer"
"""The stream that ends by itself when the server stops, and parses and serializes its messages itself."""
RECORDED = "/inference.GRPCInferenceService/ModelInfer"
"""The method that gets the record of its request in the place of gRPC's context."""

logger = logging.getLogger(__name__)

# Quoted: grpc's classes are generic in their stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Message, Message]"
Service: TypeAlias = "grpc.GenericRpcHandler[Message, Message]"
Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"
M = TypeVar("M", bound=Message)
Unary: TypeAlias = Callable[[Message, "Context | RequestRecord"], Awaitable[Message]]
Stream: TypeAlias = Callable[[Message, Context], Awaitable[None] | AsyncIterator[Message]]


def parser(decode: Callable[[bytes], M]) -> Callable[[bytes], M]:
    """Returns `decode` with an error for the client where the bytes are no such message."""

    def parse(raw: bytes) -> M:
        try:
            return decode(raw)
        except DecodeError:
            raise InvalidInputError("the message is not the one that this method takes") from None

    return parse


class Edge(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Services are added to it in the place of a server; each method is wrapped once, at its first call."""

    def __init__(self, handled: Counter) -> None:
        self._handled = handled
        self._services: list[Service] = []
        self._handlers: dict[str, Handler] = {}
        self._closing = asyncio.Event()
        self.calls_may_begin = asyncio.Event()
        """While it is cleared, calls that arrive wait."""
        self.calls_may_begin.set()
        self.held = 0
        """How many calls have waited."""

    def add_generic_rpc_handlers(self, services: Sequence[Service]) -> None:
        """Called by the generated functions that add a service to a server."""
        self._services.extend(services)

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """The same methods again, for servers that are not asyncio's."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """The handler of a method; None where no service has it, which gRPC answers with UNIMPLEMENTED."""
        method = handler_call_details.method
        if method not in self._handlers:
            handler = next(filter(None, (service.service(handler_call_details) for service in self._services)), None)
            if handler is None:
                return None
            self._handlers[method] = self._wrap(method, handler)
        return self._handlers[method]

    def end_streams(self) -> None:
        """Ends all open streams, and new ones at once, with UNAVAILABLE."""
        self._closing.set()

    def answered(self, method: str) -> dict[str, int]:
        """How many calls of `method` have ended, by the name of their code."""
        (family,) = self._handled.collect()
        return {
            sample.labels["grpc_code"]: int(sample.value)
            for sample in family.samples
            if sample.name.endswith("_total") and sample.labels["grpc_method"] == method
        }

    def _wrap(self, method: str, handler: Handler) -> Handler:
        encode = handler.response_serializer
        decode = handler.request_deserializer and parser(handler.request_deserializer)
        if handler.unary_unary is not None and decode is not None and encode is not None:
            counter = MethodCounter(method, "unary", self._handled)
            behavior = self._unary(counter, cast(Unary, handler.unary_unary), decode, encode, method == RECORDED)
            return grpc.unary_unary_rpc_method_handler(behavior, None, None)
        if handler.unary_stream is not None:
            counter = MethodCounter(method, "server_stream", self._handled)
            stream = self._stream(counter, cast(Stream, handler.unary_stream), decode=decode)
            return grpc.unary_stream_rpc_method_handler(stream, None, encode)
        counter = MethodCounter(method, "bidi_stream", self._handled)
        stream = self._stream(counter, cast(Stream, handler.stream_stream), has_end=method == SELF_ENDING)
        if method == SELF_ENDING:
            return grpc.stream_stream_rpc_method_handler(stream, None, None)
        return grpc.stream_stream_rpc_method_handler(stream, decode, encode)

    def _unary(
        self,
        counter: "MethodCounter",
        behavior: Unary,
        decode: Callable[[bytes], Message],
        encode: Callable[[Message], bytes],
        recorded: bool,
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def call(raw: bytes, context: Context) -> bytes:
            record = RequestRecord(context)
            try:
                if not self.calls_may_begin.is_set():
                    self.held += 1
                    await self.calls_may_begin.wait()
                response = encode(await behavior(decode(raw), record if recorded else context))
                record.end()
            except BaseException as error:
                await _end(counter, error, context, record)
            counter.successes.inc()
            return response

        return call

    def _stream(
        self,
        counter: "MethodCounter",
        behavior: Stream,
        has_end: bool = False,
        decode: Callable[[bytes], Message] | None = None,
    ) -> Callable[[Message, Context], Awaitable[None]]:
        async def call(request: Message | bytes, context: Context) -> None:
            record = RequestRecord(context)
            try:
                if decode is not None:
                    request = decode(cast(bytes, request))
                running = _write_all(behavior, cast(Message, request), context)
                await (running if has_end else self._until_closing(running))
            except BaseException as error:
                await _end(counter, error, context, record)
            counter.successes.inc()

        return call

    async def _until_closing(self, stream: Awaitable[None]) -> None:
        running, closing = asyncio.ensure_future(stream), asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({running, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                raise UnavailableError("the server is shutting down")
            await running
        finally:
            running.cancel()
            closing.cancel()


@dataclass(frozen=True)
class Status:
    """What a client is told of a call that failed."""

    code: grpc.StatusCode
    text: str
    hint: tuple[tuple[str, str], ...]
    """Trailing metadata: when to come again, as gRPC's own retries understand it, where the queue was full or the
    variant cold."""


class MethodCounter:
    """Counts the calls of one method by their codes, whichever way they came in."""

    def __init__(self, method: str, kind: str, handled: Counter) -> None:
        _, service, name = method.split("/")
        self._method, self._labels, self._handled = name, (kind, service, name), handled

    @cached_property
    def successes(self) -> Counter:
        """The calls that ended well. Made at the first one, so that the page shows only what happened."""
        return self.of(grpc.StatusCode.OK)

    def of(self, code: grpc.StatusCode) -> Counter:
        """Returns the calls that ended with a code."""
        return self._handled.labels(*self._labels, code.name)

    def fail(self, error: BaseException, record: RequestRecord) -> Status:
        """Counts a call that failed and ends its record; logs what is our fault."""
        record.end(error)
        self.of(record.code).inc()
        if not isinstance(error, Exception):
            return Status(record.code, "", ())
        if is_fault(error):
            logs.log_fault(logger, self._method, record.request_id, error)
        return Status(record.code, text_of(error), _hint(error))


async def _end(counter: MethodCounter, error: BaseException, context: Context, record: RequestRecord) -> NoReturn:
    """Ends a call of grpc.aio that failed."""
    if isinstance(error, grpc.aio.AbortError):  # a handler of a library has sent its own status
        counter.of(context.code()).inc()
        raise error
    status = counter.fail(error, record)
    if not isinstance(error, Exception):
        raise error
    await context.abort(status.code, status.text, status.hint)


def _hint(error: Exception) -> tuple[tuple[str, str], ...]:
    if not isinstance(error, RequestError) or error.retry_after is None:
        return ()
    # https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback
    return (("grpc-retry-pushback-ms", str(max(1, math.ceil(error.retry_after * 1e3)))),)


async def _write_all(behavior: Stream, request: Message, context: Context) -> None:
    """Runs a streaming handler of either style: one that yields its messages, or one that writes them itself."""
    if inspect.isasyncgenfunction(behavior):
        async for message in behavior(request, context):
            await context.write(message)
    else:
        await cast(Awaitable[None], behavior(request, context))
