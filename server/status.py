"""What a client is told when a call fails: one table from domain errors to gRPC codes.

A `RequestError` was written for the client and is sent as it is. Everything else is a fault of ours: the
client gets INTERNAL with a neutral text, and the log gets the whole of it.
"""

import asyncio

import grpc

from protos.errors import (
    ControlError,
    EngineError,
    ExpiredError,
    GoldenError,
    IntegrityError,
    InvalidInputError,
    ManifestError,
    NotFoundError,
    OverloadedError,
    ParetoServeError,
    RequestError,
    UnavailableError,
    UsageError,
    VariantError,
)
from server.execution.deadline import ran_out

CODES: dict[type[ParetoServeError], grpc.StatusCode] = {
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ExpiredError: grpc.StatusCode.DEADLINE_EXCEEDED,
    ControlError: grpc.StatusCode.FAILED_PRECONDITION,
    EngineError: grpc.StatusCode.INTERNAL,
    # No call raises these to a client; where one does, it is our fault.
    ParetoServeError: grpc.StatusCode.INTERNAL,
    RequestError: grpc.StatusCode.INTERNAL,
    UsageError: grpc.StatusCode.INTERNAL,
    VariantError: grpc.StatusCode.INTERNAL,
    ManifestError: grpc.StatusCode.INTERNAL,
    IntegrityError: grpc.StatusCode.INTERNAL,
    GoldenError: grpc.StatusCode.INTERNAL,
}

ENDINGS = tuple(
    dict.fromkeys(
        [grpc.StatusCode.OK, grpc.StatusCode.CANCELLED, *(code for kind, code in CODES.items() if kind != ControlError)]
    )
)
"""Every code that a request for an inference can end with."""

LONGEST_TEXT = 600
"""Characters. A text that quotes a request could be as long as the request; trailers have room for about 8 KiB."""


def code_of(error: BaseException, remaining: float | None = None, timeout: float | None = None) -> grpc.StatusCode:
    """The code for an error that ended a call; of `timeout` seconds at its arrival, `remaining` were left."""
    if isinstance(error, asyncio.CancelledError):
        late = ran_out(remaining, timeout)
        return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), grpc.StatusCode.INTERNAL)


def is_fault(error: BaseException) -> bool:
    """Whether it is ours, and the log has to hold the whole of it."""
    return isinstance(error, EngineError) or not isinstance(error, RequestError)


def text_of(error: Exception) -> str:
    """The text for the client; neutral where the error was not written for it."""
    text = str(error) if isinstance(error, RequestError) else "internal error"
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "..."
