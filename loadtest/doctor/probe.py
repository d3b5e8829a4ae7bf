"""Questions to a server of which nothing is known: each comes back, in time, with something that can be reported.

A server under test may not answer, may answer something else, or may break the connection. So a call here
raises nothing: it returns a `Reply`. Answers are parsed here rather than by gRPC, which calls an answer that is not
the message INTERNAL, as if the server had said so.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

from loadtest.client.oip import MESSAGE_BYTES

Kind = TypeVar("Kind", bound=Message)

NONSENSE = "NONSENSE"
"""Status of a call that was answered with bytes that are not the message; this and the next two are not gRPC's."""
NO_ANSWER = "NO_ANSWER"
"""Status of a call without a deadline of gRPC's that was given up."""
NOT_ASKED = "NOT_ASKED"
"""Status of a call that was not made any more."""

PATIENCE = 4
"""Calls that a server may leave unanswered before it is asked no more."""
TOTAL_SECONDS = 120.0
"""After so long it is asked no more either, however it answers."""

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
    """The gRPC status code's name, or one of those above."""
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

    def __init__(self, target: str, deadline: float, total_seconds: float = TOTAL_SECONDS) -> None:
        self._channel = grpc.insecure_channel(target, _OPTIONS)
        self._deadline = deadline
        self._patience = PATIENCE
        self._total_seconds = total_seconds
        self._end = time.monotonic() + total_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def ask(self, method: str, request: Message, answer: type[Kind]) -> Reply[Kind]:
        """Makes one call of `method` (/package.Service/Method)."""
        if reason := self._given_up():
            return Reply(NOT_ASKED, reason)
        call = self._channel.unary_unary(method, None, None)
        try:
            return _parsed([call(request.SerializeToString(), timeout=self._deadline)], answer)
        except grpc.RpcError as error:
            return self._failed(error)

    def ask_too_late(self, method: str, request: Message, answer: type[Kind]) -> Reply[Kind]:
        """Makes one call whose deadline is over when the server gets it.

        This side would end a call with such a deadline itself, and send nothing. So it has none for gRPC's client,
        only the header that a client with one sends: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
        """
        if reason := self._given_up():
            return Reply(NOT_ASKED, reason)
        call = self._channel.unary_unary(method, None, None).future(
            request.SerializeToString(), metadata=(("grpc-timeout", "0n"),)
        )
        try:
            return _parsed([call.result(timeout=self._deadline)], answer)
        except grpc.FutureTimeoutError:
            self._patience -= 1
            return Reply(NO_ANSWER, f"none within {self._deadline:g} s")
        except grpc.RpcError as error:
            return self._failed(error)
        finally:
            call.cancel()  # type: ignore[no-untyped-call]

    def ask_on_stream(self, method: str, requests: Sequence[Message], answer: type[Kind]) -> Reply[Kind]:
        """Sends one stream of all requests, read until it ends or there are as many answers as requests."""
        if reason := self._given_up():
            return Reply(NOT_ASKED, reason)
        received: list[bytes] = []
        call = self._channel.stream_stream(method, None, None)(
            iter([request.SerializeToString() for request in requests]), timeout=self._deadline
        )
        try:
            for raw in call:
                received.append(raw)
                if len(received) == len(requests):
                    break
        except grpc.RpcError as error:
            failed: Reply[Kind] = self._failed(error)
            return Reply(failed.status, failed.details, _parsed(received, answer).messages)
        finally:
            call.cancel()  # type: ignore[no-untyped-call]
        return _parsed(received, answer)

    def _given_up(self) -> str:
        """Why nothing more is asked; empty where it is."""
        if not self._patience:
            return f"{PATIENCE} calls before were not answered"
        return "" if time.monotonic() < self._end else f"{self._total_seconds:g} s are over"

    def _failed(self, error: grpc.RpcError) -> Reply[Kind]:
        call = cast(grpc.Call, error)  # what a blocking call raises is both
        if call.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            self._patience -= 1
        return Reply(call.code().name, call.details() or "")


def _parsed(raw: Sequence[bytes], answer: type[Kind]) -> Reply[Kind]:
    try:
        return Reply("OK", "", tuple(answer.FromString(each) for each in raw))
    except DecodeError:
        return Reply(NONSENSE, f"got {len(raw[0])} bytes that are no {answer.DESCRIPTOR.name}")
