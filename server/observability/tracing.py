"""OpenTelemetry: a span for each inference request, with one for each part of its way. Needs the extra `tracing`.

    inference.GRPCInferenceService/ModelInfer     child of the `traceparent` that the client sent
        receive    its bytes are parsed
        decode     it is checked, its tensors or images are read; ends at admission
        queue      until its batch began
        compute    the execution of the batch that it was part of
        respond    until the way back begins
        encode     from there to the response's bytes

Spans are made when a request has ended, of times that were taken on its way, and exported by a thread in
batches. Sampling, the service's name and all else is told by the OTEL_* variables of the SDK.
Source: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
"""

import os
from collections.abc import Callable, Iterator
from time import perf_counter, time_ns

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server.observability.logs import LONGEST
from server.observability.request_record import RequestRecord

SERVICE, METHOD = "inference.GRPCInferenceService", "ModelInfer"


def exporting(endpoint: str) -> "Tracing":
    """Spans go to `endpoint`, or where the OTEL_* variables say if that is empty."""
    return Tracing(BatchSpanProcessor(OTLPSpanExporter(endpoint or None)))


class Tracing:
    """Makes spans of requests and hands them to `processor`."""

    def __init__(self, processor: SpanProcessor) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME", "paretoserve")
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("paretoserve")

    def export(self, record: RequestRecord) -> None:
        """The spans of a request that ended."""
        at, name = _clock(), f"{SERVICE}/{METHOD}"
        headers = {key: value for key, value in record.metadata() if isinstance(value, str)}
        parent, attributes = TraceContextTextMapPropagator().extract(headers), _attributes(record)
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes, start_time=at(record.began))
        if record.code.name != "OK":
            span.set_status(Status(StatusCode.ERROR, record.code.name))
        if span.is_recording():
            inside = set_span_in_context(span)
            for part, began, ended in _parts(record):
                self._tracer.start_span(part, inside, start_time=at(began)).end(at(ended))
        span.end(at(record.ended))

    def close(self) -> None:
        """Exports what is left; blocks as long as the exporter's timeout, at most."""
        self._provider.shutdown()


def _parts(record: RequestRecord) -> Iterator[tuple[str, float, float]]:
    """Name, begin and end of each part that took place."""
    yield "receive", record.began, record.arrived
    yield "decode", record.arrived, record.admitted or record.ended
    if record.answered:
        began = record.admitted + record.queue_seconds
        ended = began + record.compute_seconds
        yield "queue", record.admitted, began
        yield "compute", began, ended
        yield "respond", ended, record.answered
        yield "encode", record.answered, record.ended
    elif record.admitted:
        yield "queue", record.admitted, record.ended


def _attributes(record: RequestRecord) -> dict[str, str | int]:
    return {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": METHOD,
        "rpc.grpc.status_code": record.code.value[0],
        "paretoserve.request_id": record.request_id[:LONGEST],
        "paretoserve.model": record.model[:LONGEST],
        "paretoserve.variant": record.variant[:LONGEST],
    }


def _clock() -> Callable[[float], int]:
    """From a time of `perf_counter` to nanoseconds since the epoch."""
    now, now_ns = perf_counter(), time_ns()
    return lambda moment: now_ns + round((moment - now) * 1e9)
