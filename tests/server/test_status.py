"""The table from domain errors to codes is complete and neutral."""

import asyncio
from collections.abc import Iterator

import grpc
import pytest

from protos.errors import (
    EngineError,
    ExpiredError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    ParetoServeError,
    RequestError,
    UnavailableError,
)
from server.status import CODES, LONGEST_TEXT, code_of, text_of


def tree(kind: type[ParetoServeError]) -> Iterator[type[ParetoServeError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


def test_every_error_that_is_written_for_a_client_has_a_row_of_its_own() -> None:
    ours = {kind for kind in tree(RequestError) if not kind.__module__.startswith("loadtest")}  # a client's own
    assert set(CODES) == {*ours - {RequestError}, BaseException}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (NotFoundError, grpc.StatusCode.NOT_FOUND),
        (InvalidInputError, grpc.StatusCode.INVALID_ARGUMENT),
        (OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (ExpiredError, grpc.StatusCode.DEADLINE_EXCEEDED),
        (UnavailableError, grpc.StatusCode.UNAVAILABLE),
        (EngineError, grpc.StatusCode.INTERNAL),
    ],
)
def test_request_errors_have_the_codes_of_the_design_and_their_own_text(
    kind: type[ParetoServeError], code: grpc.StatusCode
) -> None:
    assert (code_of(kind("why")), text_of(kind("why"))) == (code, "why")


@pytest.mark.parametrize("error", [KeyError("secret"), IntegrityError("secret"), ParetoServeError("secret")])
def test_what_was_not_written_for_a_client_is_internal_and_neutral(error: Exception) -> None:
    assert (code_of(error), text_of(error)) == (grpc.StatusCode.INTERNAL, "internal error")


@pytest.mark.parametrize(
    ("remaining", "timeout", "code"),
    [
        (None, None, grpc.StatusCode.CANCELLED),
        (5.0, 10.0, grpc.StatusCode.CANCELLED),
        (0.0, 10.0, grpc.StatusCode.DEADLINE_EXCEEDED),
        (0.09, 10.0, grpc.StatusCode.DEADLINE_EXCEEDED),
        (0.001, 0.05, grpc.StatusCode.DEADLINE_EXCEEDED),
        (0.03, 0.05, grpc.StatusCode.CANCELLED),
    ],
)
def test_a_cancellation_near_the_deadline_is_the_deadlines(
    remaining: float | None, timeout: float | None, code: grpc.StatusCode
) -> None:
    assert code_of(asyncio.CancelledError(), remaining, timeout) == code


def test_a_text_as_long_as_a_request_is_cut() -> None:
    assert text_of(NotFoundError("x" * 100_000)) == "x" * LONGEST_TEXT + "..."
