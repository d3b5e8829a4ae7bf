"""The second way in for ModelInfer (`--front native`): HTTP/2 and gRPC in threads outside of Python's interpreter lock.

    clients --TCP--> pygrpc-native --any other method, by a Unix socket--> grpc.aio, as ever
                          | ModelInfer
                          v
          receiving thread: decode, check, submit --> engine's thread: execute, encode, respond
                          |                                 |
                images to be read                 an answer that takes long to make
                          '------> event loop: `Inference.complete`, respond <-----'

What a request is checked for, how it waits and is executed, its statuses, texts, counts, log lines and spans are
`Inference`, the engine and `MethodCounter`, as they are for grpc.aio; here is only what carries bytes to and from them.

A call is ended by whoever takes it out of `_calls`: the answer, a failure, the client's cancellation or its deadline.
Everyone else finds it gone. It is counted first and then answered: a count is on the page before the client knows.

The front bounds neither what a client sends before it is here nor what that unpacks to: for trusted networks, or behind
a proxy that does.
Source: https://github.com/pygrpc/pygrpc-native
"""

import asyncio
import logging
import socket
import tempfile
import threading
from collections.abc import Awaitable, Iterable
from concurrent.futures import Future
from pathlib import Path
from time import monotonic, perf_counter

import grpc
from prometheus_client import Counter
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from protos.errors import UnavailableError, UsageError
from protos.v1 import inference_pb2 as pb
from server.api.edge import RECORDED, MethodCounter, parser
from server.api.inference import Checked, Inference
from server.execution.engine import Answer, Job, Outcome
from server.observability.metrics_page import join
from server.observability.request_record import RequestRecord

TAKEN_AT_ONCE = 64
"""Events that the receiving thread takes with one call."""
SOCKET_SECONDS = 0.1
"""From the end of the last answer until it has left the front's sockets, which it does not tell."""
POLL_SECONDS = 0.005

CallDetails = tuple[Iterable[tuple[str, str | bytes]], str, float | None]
"""Headers, peer, and the seconds from then on until the deadline or None."""

_parse = parser(pb.ModelInferRequest.FromString)

logger = logging.getLogger(__name__)


class NativeFront:
    """Listens on `host`:`port` from its construction on; serves from `start` to `stop`.

    Raises `UsageError` where the port cannot be had. `reuse_port`: other processes may listen on it too.
    """

    def __init__(
        self, host: str, port: int, inference: Inference, handled: Counter, longest: int, reuse_port: bool
    ) -> None:
        self._inference, self._counter, self._longest = inference, MethodCounter(RECORDED, "unary", handled), longest
        self._calls: dict[int, _Call] = {}
        self._refusing = False
        self._loop = asyncio.get_running_loop()
        self._front = _listen(host, port, reuse_port)
        self.port = self._front.bound_port
        self._folder = tempfile.TemporaryDirectory(prefix="pareto-front-")  # of this user alone
        self.fallback = str(Path(self._folder.name) / "grpc.sock")
        """The Unix socket on which grpc.aio has to listen before `start`."""
        self._thread = threading.Thread(target=self._receive, name="native-front", daemon=True)

    def start(self) -> None:
        """Serves from now on."""
        self._front.set_fallback(self.fallback)
        self._front.start()
        self._thread.start()

    def refuse(self) -> None:
        """Refuses calls that arrive from now on."""
        self._refusing = True

    async def stop(self, timeout: float) -> None:
        """Lets what was accepted finish, for at most `timeout` seconds; then closes all connections."""
        self.refuse()
        end = monotonic() + timeout
        while monotonic() < end and (self._calls or not self._all_sent()):
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.sleep(min(SOCKET_SECONDS, max(0.0, end - monotonic())))
        await asyncio.to_thread(self._front.close)
        await asyncio.to_thread(self._thread.join)
        while self._calls:  # they took longer than that, and `close` tells of nobody
            for call_id in list(self._calls):
                self._give_up(call_id)
            await asyncio.sleep(0)
        self._folder.cleanup()

    def waits(self, call: "_Call") -> bool:
        """Returns whether a client still waits for the answer to a call."""
        return call.id in self._calls

    def resolve(self, call: "_Call", outcome: Outcome) -> None:
        """Answers a call as its engine says; in the engine's thread."""
        try:
            if not self.waits(call):
                return
            if not isinstance(outcome, Answer):
                self._fail(call, outcome)
                return
            assert call.checked is not None
            response = call.checked.respond(outcome)
            if isinstance(response, pb.ModelInferResponse):
                self._answer(call, response)
            else:
                call.task = asyncio.run_coroutine_threadsafe(self._answer_later(call, response), self._loop)
        except Exception as error:
            self._fail(call, error)

    def _receive(self) -> None:
        while (events := self._front.recv_batch_details(TAKEN_AT_ONCE)) is not None:
            received = perf_counter()  # of this moment are the seconds that it tells
            for kind, call_id, _, payload, _, details in events:
                try:
                    if kind == EVENT_CALL:
                        self._begin(call_id, payload, details, received)
                    else:
                        self._give_up(call_id)
                except Exception:  # the thread, and the other calls, must live on
                    logger.exception("a call could not be taken")

    def _give_up(self, call_id: int) -> None:
        """Ends a call that its client cancelled, or whose deadline passed, unless it was answered meanwhile."""
        call = self._calls.get(call_id)
        if call is None:
            return
        if call.task is not None:  # it ends the call, after what it waited for was given up and counted
            call.task.cancel()
        elif self._calls.pop(call_id, None) is not None:
            if call.job is not None:
                call.job.engine.give_up(call.job)
            self._counter.fail(asyncio.CancelledError(), call.record)

    def _begin(self, call_id: int, payload: bytes | None, details: CallDetails | None, received: float) -> None:
        assert payload is not None  # only cancellations have none
        assert details is not None
        if len(payload) > self._longest:  # as grpc.aio: refused before it is a call that is counted
            self._front.fail(call_id, *_too_long("Received", len(payload), self._longest))
            return
        metadata, _, seconds = details
        ends = None if seconds is None else received + seconds
        self._calls[call_id] = call = _Call(self, call_id, metadata, ends)
        try:
            if self._refusing:
                raise UnavailableError("the server is shutting down")
            call.checked = checked = self._inference.check(_parse(payload), call.record)
            if checked.inputs is None or checked.engine is None:
                later = self._answer_later(call, self._inference.complete(checked))
                call.task = asyncio.run_coroutine_threadsafe(later, self._loop)
            else:
                call.job = checked.submit(checked.inputs, call)
        except Exception as error:
            self._fail(call, error)

    async def _answer_later(self, call: "_Call", response: Awaitable[pb.ModelInferResponse]) -> None:
        try:
            self._answer(call, await response)
        except (Exception, asyncio.CancelledError) as error:
            self._fail(call, error)

    def _answer(self, call: "_Call", response: pb.ModelInferResponse) -> None:
        payload = response.SerializeToString()
        if self._calls.pop(call.id, None) is None:
            return
        try:
            call.record.end()
            self._counter.successes.inc()
        finally:
            if len(payload) > self._longest:  # as grpc.aio: it was answered, and cannot be sent
                self._front.fail(call.id, *_too_long("Sent", len(payload), self._longest))
            else:
                self._front.respond(call.id, payload)

    def _fail(self, call: "_Call", error: BaseException) -> None:
        if self._calls.pop(call.id, None) is not None:
            status = self._counter.fail(error, call.record)
            self._front.fail(call.id, status.code.value[0], status.text)  # it has no room for `status.hint`

    def _all_sent(self) -> bool:
        counted = self._front.metrics()
        assert counted is not None
        calls = counted["methods"][RECORDED]
        ended: int = sum(status["count"] for status in calls["status"].values())
        return bool(calls["started"] == ended)


class _Call:
    """One call: the caller of its record, and the reply of its job."""

    __slots__ = ("_ends", "_front", "_metadata", "checked", "id", "job", "loop", "record", "task")

    def __init__(
        self, front: NativeFront, call_id: int, metadata: Iterable[tuple[str, str | bytes]], ends: float | None
    ) -> None:
        self._front, self.id, self._metadata, self._ends = front, call_id, metadata, ends
        self.loop: asyncio.AbstractEventLoop | None = None
        self.checked: Checked | None = None
        self.job: Job | None = None
        self.task: Future[None] | None = None
        self.record = RequestRecord(self)

    def time_remaining(self) -> float | None:
        """See `Caller.time_remaining`."""
        return None if self._ends is None else self._ends - perf_counter()

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """See `Caller.invocation_metadata`."""
        return self._metadata

    def gone(self) -> bool:
        """See `Reply.gone`."""
        return not self._front.waits(self)

    def resolve(self, outcome: Outcome) -> None:
        """See `Reply.resolve`."""
        self._front.resolve(self, outcome)


def _too_long(what: str, got: int, most: int) -> tuple[int, str]:
    return grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], f"{what} message larger than max ({got} vs. {most})"


def _listen(host: str, port: int, reuse_port: bool) -> NativeGrpcFront:
    logging.getLogger("pygrpc_native").setLevel(logging.CRITICAL)  # what it warns of is raised as well
    try:
        number = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
        return NativeGrpcFront(
            join(number, port),
            [(RECORDED, False)],
            io_threads=1,
            call_details=True,  # without it no deadline and no cancellation would be told
            metrics=True,
            keepalive_permit_without_calls=False,
            reuse_port=reuse_port,
        )
    except OSError:
        raise UsageError(f"--port: {join(host, port)} is in use, or cannot be listened on") from None
