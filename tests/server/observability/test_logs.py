"""Lines for a person and lines of JSON; one for each request in debug, and nothing of it otherwise."""

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.tensors import encode_request
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from server.observability.exporters import Exporters
from server.observability.logs import Json, Text, configure
from server.settings import Settings
from tests.support import toy
from tests.support.server.standins import Faulty, host, raising, running
from tests.support.serving import serving

REQUEST = encode_request("toy", "", {"input": toy.images(1)}, "id-17")


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def record(message: str, *values: object, fields: dict[str, object] | None = None) -> logging.LogRecord:
    made = logging.LogRecord("server.test", logging.WARNING, __file__, 1, message, values, None)
    if fields is not None:
        made.fields = fields
    return made


def test_a_line_of_json_is_one_object_whatever_it_says() -> None:
    text = 'two\nlines, "quotes", \u2028 and \x00'
    line = Json().format(record("%s", text, fields={"request_id": text, "seconds": 0.5}))
    assert "\n" not in line
    document = json.loads(line)
    assert document.pop("time").endswith("+00:00")
    assert document == {
        "level": "WARNING",
        "logger": "server.test",
        "message": text,
        "request_id": text,
        "seconds": 0.5,
    }


def test_an_exception_is_part_of_its_line_of_json() -> None:
    made = record("failed")
    try:
        raise RuntimeError("why")
    except RuntimeError:
        made.exc_info = sys.exc_info()
    line = Json().format(made)
    assert "\n" not in line
    assert "RuntimeError: why" in json.loads(line)["exception"]


def test_fields_of_a_line_of_text_cannot_begin_another_line() -> None:
    line = Text().format(record("request", fields={"request_id": "a\nb ERROR", "code": "OK", "seconds": 0.25}))
    assert line.endswith("WARNING server.test request request_id='a\\nb ERROR' code=OK seconds=0.250000")
    assert "\n" not in line


@pytest.mark.parametrize(("level", "exported"), [("debug", True), ("info", False)])
def test_requests_are_exported_in_debug_only(
    repository: Path, root_logger: logging.Logger, level: str, exported: bool
) -> None:
    configure(level, "json", io.StringIO())

    async def run() -> None:
        async with running(repository) as server:
            assert bool(server.application.exporters.active) == exported

    asyncio.run(run())


def lines(stream: io.StringIO, logger: str) -> list[dict[str, Any]]:
    documents = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [document for document in documents if document["logger"] == logger]


@pytest.mark.usefixtures("front")
def test_in_debug_each_request_is_a_line_with_its_id_variant_code_and_times(
    repository: Path, root_logger: logging.Logger
) -> None:
    configure("debug", "json", stream := io.StringIO())

    async def run() -> None:
        async with running(repository) as server, grpc.aio.insecure_channel(server.grpc_address) as channel:
            stub = GRPCInferenceServiceStub(channel)
            await stub.ModelInfer(REQUEST, timeout=30)
            missing = encode_request("nope", "", {"input": toy.images(1)}, "x" * 5000)
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.ModelInfer(missing, timeout=30)
            host(server, Faulty(raising))
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.ModelInfer(REQUEST, timeout=30)

    asyncio.run(run())
    right, unknown, failed = lines(stream, "server.requests")
    assert (right["level"], right["message"]) == ("DEBUG", "request")
    assert [right[key] for key in ("request_id", "model", "variant", "code")] == [
        "id-17",
        "toy",
        "fp32-onnxruntime",
        "OK",
    ]
    assert right["queue_seconds"] >= 0
    assert 0 < right["queue_seconds"] + right["compute_seconds"] <= right["seconds"]
    assert [unknown["code"], unknown["model"], unknown["request_id"]] == ["NOT_FOUND", "nope", "x" * 200]
    assert "queue_seconds" not in unknown
    assert [failed["code"], failed["variant"]] == ["INTERNAL", "fp32-onnxruntime"]
    (error,) = [line for line in lines(stream, "server.api.edge") if line["level"] == "ERROR"]
    assert (error["message"], error["request_id"]) == ("ModelInfer failed", "id-17")
    assert "secret of /home/someone" in error["exception"]


@pytest.mark.usefixtures("front")
def test_a_server_writes_json_and_nothing_else_where_it_is_told_to(repository: Path) -> None:
    with serving(repository, "--log-format", "json", "--log-level", "debug") as server, server.stub() as stub:
        stub.ModelInfer(REQUEST, timeout=30)
        server.signal()
        assert server.wait() == 0
    documents = [json.loads(line) for line in server.log.splitlines()]
    assert [d["request_id"] for d in documents if d["logger"] == "server.requests"] == ["id-17"]
    assert documents[-1]["message"] == "stopped"


def test_nothing_is_shown_anywhere_by_default(repository: Path, root_logger: logging.Logger) -> None:
    configure("info", "text", io.StringIO())
    assert Exporters(Settings(repository), {}).active == []
