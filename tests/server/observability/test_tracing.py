"""Spans of requests, read from the SDK's own exporter in memory; off by default."""

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from protos.tensors import encode_request
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from server.lifecycle import Server
from server.observability.exporters import traced
from server.observability.tracing import Tracing
from server.settings import Settings
from tests.support import toy
from tests.support.server.standins import Faulty, host, raising, running
from tests.support.serving import ROOT, eventually, serving

REQUEST = encode_request("toy", "", {"input": toy.images(2)}, "id-17")
TRACE, PARENT = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
TRACEPARENT = f"00-{TRACE:032x}-{PARENT:016x}"


def spans(
    repository: Path, play: Callable[[GRPCInferenceServiceStub, Server], Awaitable[object]]
) -> list[ReadableSpan]:
    """The spans of what `play` asks of a server that traces."""
    exporter = InMemorySpanExporter()
    finished: list[ReadableSpan] = []

    async def run() -> None:
        async with running(repository) as server:
            server.application.exporters.active.append(Tracing(SimpleSpanProcessor(exporter)).export)
            async with grpc.aio.insecure_channel(server.grpc_address) as channel:
                await play(GRPCInferenceServiceStub(channel), server)
            finished.extend(exporter.get_finished_spans())

    asyncio.run(run())
    return finished


def ends(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def named(found: Sequence[ReadableSpan]) -> dict[str, ReadableSpan]:
    assert len({span.name for span in found}) == len(found)
    return {span.name: span for span in found}


WHOLE = "inference.GRPCInferenceService/ModelInfer"
PARTS = ("receive", "decode", "queue", "compute", "respond", "encode")


@pytest.mark.usefixtures("front")
def test_a_request_is_a_span_with_the_parts_of_its_way_one_after_the_other(repository: Path) -> None:
    found = named(spans(repository, lambda stub, _: stub.ModelInfer(REQUEST, timeout=30)))
    assert set(found) == {WHOLE, *PARTS}
    whole = found[WHOLE]
    assert whole.kind == SpanKind.SERVER
    assert dict(whole.attributes or {}) == {
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "rpc.method": "ModelInfer",
        "rpc.grpc.status_code": 0,
        "paretoserve.request_id": "id-17",
        "paretoserve.model": "toy",
        "paretoserve.variant": "fp32-onnxruntime",
    }
    parts = [ends(found[name]) for name in PARTS]
    begin, end = ends(whole)
    assert (begin, end) == (parts[0][0], parts[-1][1])
    for (began, ended), (next_began, _) in itertools.pairwise(parts):
        assert began <= ended
        assert abs(next_began - ended) <= 1000  # ns: rounding of the two clocks
    assert ends(found["compute"])[0] < ends(found["compute"])[1]
    assert {span.parent.span_id for name, span in found.items() if name != WHOLE and span.parent} == {
        whole.context.span_id
    }


@pytest.mark.usefixtures("front")
def test_a_span_belongs_to_the_trace_that_the_client_began(repository: Path) -> None:
    metadata = [("traceparent", f"{TRACEPARENT}-01"), ("tracestate", "vendor=1")]
    found = spans(repository, lambda stub, _: stub.ModelInfer(REQUEST, timeout=30, metadata=metadata))
    assert {span.context.trace_id for span in found} == {TRACE}
    parent = named(found)[WHOLE].parent
    assert parent is not None
    assert (parent.span_id, parent.is_remote) == (PARENT, True)


@pytest.mark.usefixtures("front")
@pytest.mark.parametrize("value", ["", "nonsense", "00-0-0-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 5000])
def test_a_traceparent_that_is_none_begins_a_trace(repository: Path, value: str) -> None:
    metadata = [("traceparent", value), ("some-bin", b"\xff\x00")]
    whole = named(spans(repository, lambda stub, _: stub.ModelInfer(REQUEST, timeout=30, metadata=metadata)))[WHOLE]
    assert whole.parent is None


@pytest.mark.usefixtures("front")
def test_a_client_that_does_not_sample_is_not_recorded(repository: Path) -> None:
    metadata = [("traceparent", f"{TRACEPARENT}-00")]
    assert spans(repository, lambda stub, _: stub.ModelInfer(REQUEST, timeout=30, metadata=metadata)) == []


@pytest.mark.usefixtures("front")
def test_a_failed_request_has_the_parts_that_took_place_and_no_text_of_the_fault(repository: Path) -> None:
    async def play(stub: GRPCInferenceServiceStub, server: Server) -> None:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ModelInfer(encode_request("nope", "", {"input": toy.images(1)}, "x" * 5000), timeout=30)
        host(server, Faulty(raising))
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ModelInfer(REQUEST, timeout=30)

    found = spans(repository, play)
    assert [span.name for span in found] == ["receive", "decode", WHOLE, "receive", "decode", "queue", WHOLE]
    unknown, failed = found[2], found[6]
    assert [(span.status.status_code, span.status.description) for span in (unknown, failed)] == [
        (StatusCode.ERROR, "NOT_FOUND"),
        (StatusCode.ERROR, "INTERNAL"),
    ]
    assert dict(unknown.attributes or {})["paretoserve.request_id"] == "x" * 200
    assert "secret" not in "".join(span.to_json() for span in found)


@pytest.mark.parametrize(
    ("endpoint", "environment", "on"),
    [
        ("", {}, False),
        ("http://127.0.0.1:4317", {}, True),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}, True),
        ("", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4317"}, True),
        ("", {"OTEL_SERVICE_NAME": "mine"}, False),
        ("http://127.0.0.1:4317", {"OTEL_SDK_DISABLED": "true"}, False),
        ("http://127.0.0.1:4317", {"OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_tracing_is_on_where_it_is_asked_for_and_not_forbidden(
    repository: Path, endpoint: str, environment: dict[str, str], on: bool
) -> None:
    assert traced(Settings(repository, trace=endpoint), environment) == on


def test_a_server_that_does_not_trace_does_not_load_opentelemetry() -> None:
    script = "import sys, server.lifecycle; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"]


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the names of the spans that come over the wire."""

    def __init__(self) -> None:
        self.services: set[str] = set()
        self.names: list[str] = []

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
            self.names += [span.name for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.mark.usefixtures("front")
def test_a_server_sends_its_spans_to_a_collector_all_of_them_at_its_end(repository: Path) -> None:
    collector = Collector()
    receiver = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, receiver)
    port = receiver.add_insecure_port("127.0.0.1:0")
    receiver.start()
    try:
        with serving(repository, "--trace", f"http://127.0.0.1:{port}") as server, server.stub() as stub:
            for _ in range(3):
                stub.ModelInfer(REQUEST, timeout=30)
            server.signal()
            assert server.wait() == 0, server.log
        asyncio.run(eventually(lambda: collector.names.count(WHOLE), 3))
        assert collector.names.count("compute") == 3
        assert collector.services == {"paretoserve"}
    finally:
        receiver.stop(0).wait()
