"""Calls to a server of which nothing is known: each returns in time, with a `Reply`, and none raises an error.

Answers are parsed here rather than by gRPC, which gives an answer that is not the message the status INTERNAL, as if
the server had said so.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from loadtest.client.credentials import PLAIN, Credentials
from loadtest.client.oip import MESSAGE_BYTES
from protos.v1 import inference_pb2 as pb

OIP = "/inference.GRPCInferenceService/"

Kind = TypeVar("Kind", bound=Message)

NONSENSE, NO_ANSWER, NOT_ASKED = "NONSENSE", "NO_ANSWER", "NOT_ASKED"
"""Statuses beside gRPC's: the answer was no message of its type; the wait for it was over; the call was not made."""

PATIENCE = 4
"""Calls that a server may leave unanswered before no more are made."""
TOTAL_SECONDS = 120.0
"""After so long no more calls are made, however the server answers."""

_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
    ("grpc.max_send_message_length", -1),  # the limit that is looked for is the server's
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
]


@dataclass(frozen=True)
class Reply(Generic[Kind]):
    """How a call ended, and the messages received until then."""

    status: str
    """The name of gRPC's status code, or one of this module."""
    details: str
    messages: tuple[Kind, ...] = ()

    @property
    def message(self) -> Kind | None:
        """The answer of a call that succeeded."""
        return self.messages[0] if self.status == "OK" and self.messages else None

    def __str__(self) -> str:
        return f"{self.status}: {self.details}" if self.details else self.status


class Probe:
    """A connection to `target` (HOST:PORT) over which no call takes longer than `deadline` seconds."""

    def __init__(
        self, target: str, deadline: float, credentials: Credentials = PLAIN, total_seconds: float = TOTAL_SECONDS
    ) -> None:
        self._channel = credentials.open(target, _OPTIONS)
        self._credentials, self._metadata = credentials, credentials.metadata
        self._deadline = deadline
        self._patience = PATIENCE
        self._total_seconds = total_seconds
        self._end = time.monotonic() + total_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def ask(self, request: Message, answer: type[Kind], method: str = "") -> Reply[Kind]:
        """Makes one call: of `method` (/package.Service/Method), or of the protocol's method that takes `request`."""
        call = self._channel.unary_unary(method or OIP + type(request).__name__.removesuffix("Request"), None, None)
        return self._read(answer, lambda: [call(request.SerializeToString(), self._deadline, self._metadata)])

    def ask_too_late(self, request: pb.ModelInferRequest) -> Reply[pb.ModelInferResponse]:
        """Makes a call of ModelInfer whose deadline is over when the server gets it.

        This side would end a call with such a deadline itself, and send nothing. So it has none for gRPC's client,
        only the header that a client with one sends: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
        """

        def answers() -> Iterator[bytes]:
            call = self._channel.unary_unary(OIP + "ModelInfer", None, None).future(
                request.SerializeToString(), metadata=(("grpc-timeout", "0n"), *self._metadata)
            )
            try:
                yield call.result(timeout=self._deadline)
            finally:
                call.cancel()  # type: ignore[no-untyped-call]

        return self._read(pb.ModelInferResponse, answers)

    def ask_on_stream(self, requests: Sequence[Message], answer: type[Kind], method: str) -> Reply[Kind]:
        """Sends all requests on one stream, which is read until it ends or there are as many answers as requests."""

        def answers() -> Iterator[bytes]:
            raw = [request.SerializeToString() for request in requests]
            call = self._channel.stream_stream(method, None, None)(iter(raw), self._deadline, self._metadata)
            try:
                yield from itertools.islice(call, len(raw))
            finally:
                call.cancel()  # type: ignore[no-untyped-call]

        return self._read(answer, answers)

    def _read(self, answer: type[Kind], answers: Callable[[], Iterable[bytes]]) -> Reply[Kind]:
        """Makes a call and reads its answers, unless no more calls are made."""
        if not self._patience:
            return Reply(NOT_ASKED, f"{PATIENCE} calls before were not answered")
        if time.monotonic() >= self._end:
            return Reply(NOT_ASKED, f"{self._total_seconds:g} s are over")
        status, details, raw = "OK", "", list[bytes]()
        try:
            for each in answers():
                raw.append(each)
        except grpc.FutureTimeoutError:
            status, details = NO_ANSWER, f"none within {self._deadline:g} s"
        except grpc.RpcError as error:
            call = cast(grpc.Call, error)  # what a blocking call raises is both
            status, details = call.code().name, self._credentials.hide(call.details() or "")
        self._patience -= status in (NO_ANSWER, "DEADLINE_EXCEEDED")
        try:
            return Reply(status, details, tuple(answer.FromString(each) for each in raw))
        except DecodeError:
            nonsense = f"got {len(raw[0])} bytes that are no {answer.DESCRIPTOR.name}"
            return Reply(NONSENSE, nonsense) if status == "OK" else Reply(status, details)
