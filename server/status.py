"""What a client is told when a call fails: one table from domain errors to gRPC codes.

A `RequestError` was written for the client and is sent as it is. Everything else is a fault of ours: the
client gets INTERNAL with a neutral text, and the log gets the whole of it.
"""

import asyncio

from grpc import StatusCode

from protos import errors
from protos.errors import EngineError, RequestError
from server.execution.deadline import ran_out

CODES: dict[type[BaseException], StatusCode] = {
    errors.NotFoundError: StatusCode.NOT_FOUND,
    errors.InvalidInputError: StatusCode.INVALID_ARGUMENT,
    errors.UnavailableError: StatusCode.UNAVAILABLE,
    errors.OverloadedError: StatusCode.RESOURCE_EXHAUSTED,
    errors.ExpiredError: StatusCode.DEADLINE_EXCEEDED,
    errors.ControlError: StatusCode.FAILED_PRECONDITION,
    EngineError: StatusCode.INTERNAL,
    BaseException: StatusCode.INTERNAL,  # nobody meant a client to see it: it is our fault
}

ENDINGS = (StatusCode.OK, StatusCode.CANCELLED, *{CODES[kind]: 0 for kind in CODES if kind != errors.ControlError})
"""Every code that a request for an inference can end with."""

LONGEST_TEXT = 600
"""Characters. A text that quotes a request could be as long as the request; trailers have room for about 8 KiB."""


def code_of(error: BaseException, remaining: float | None = None, timeout: float | None = None) -> StatusCode:
    """The code for an error that ended a call; of `timeout` seconds at its arrival, `remaining` were left."""
    if isinstance(error, asyncio.CancelledError):
        late = ran_out(remaining, timeout)
        return StatusCode.DEADLINE_EXCEEDED if late else StatusCode.CANCELLED
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def is_fault(error: BaseException) -> bool:
    """Whether it is ours, and the log has to hold the whole of it."""
    return isinstance(error, EngineError) or not isinstance(error, RequestError)


def text_of(error: Exception) -> str:
    """The text for the client; neutral where the error was not written for it."""
    text = str(error) if isinstance(error, RequestError) else "internal error"
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "..."
