"""Logs on standard error: lines for a person, or one JSON object a line.

What a record has besides its text is passed as `extra={"fields": {...}}`: keys of the object in JSON, `name=value`
after the message in text.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TextIO

from server.execution.threads import Plan

if TYPE_CHECKING:
    from server.observability.request_record import RequestRecord

Fields = dict[str, str | float | None]

LONGEST = 200
"""The most characters that are logged of a text that a request brought."""

logger = logging.getLogger(__name__)
requests = logging.getLogger("server.requests")


def configure(level: str, form: Literal["text", "json"], stream: TextIO = sys.stderr) -> None:
    """Sends the records of this process from `level` on to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Json() if form == "json" else Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class Text(logging.Formatter):
    """`2026-01-31 12:00:00,000 INFO server.lifecycle serving ... name=value`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Returns the message with the fields of the record."""
        fields = getattr(record, "fields", {})
        return super().formatMessage(record) + "".join(f" {name}={_plain(value)}" for name, value in fields.items())


class Json(logging.Formatter):
    """`time` (UTC), `level`, `logger`, `message`, the fields, and `exception` with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns one JSON object."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _plain(value: str | float | None) -> str:
    """One word: a request's own text must not begin a line."""
    if isinstance(value, float):
        return f"{value:.6f}"
    return repr(value) if isinstance(value, str) and not value.isidentifier() else str(value)


def log_request(request: "RequestRecord") -> None:
    """The line of one request, in debug; what did not happen, such as the execution of a refused one, is absent."""
    fields: Fields = {
        "request_id": request.request_id[:LONGEST],
        "model": request.model[:LONGEST],
        "variant": request.variant[:LONGEST],
        "code": request.code.name,
        "seconds": request.seconds,
    }
    if request.answered:
        fields |= {"queue_seconds": request.queue_seconds, "compute_seconds": request.compute_seconds}
    requests.debug("request", extra={"fields": fields})


def log_fault(logger: logging.Logger, method: str, request_id: str, error: BaseException) -> None:
    """The line of a call that failed by our fault, with the whole of the error."""
    fields: Fields = {"request_id": request_id[:LONGEST]} if request_id else {}
    logger.error("%s failed", method, exc_info=error, extra={"fields": fields})


def log_serving(plan: Plan, front: str, grpc: str, metrics: str) -> None:
    """Says that the ports answer and loading begins, in words that programs wait for; `front` takes ModelInfer."""
    logger.info("plan: %s, front %s", plan, front)
    logger.info("serving grpc=%s metrics=%s", grpc, metrics)


def log_loaded(ready: int, failed: int, cold: int) -> None:
    """Says that start-up loading has finished, in words that programs wait for."""
    logger.info("%d variants are READY, %d FAILED%s", ready, failed, f", {cold} COLD" if cold else "")
