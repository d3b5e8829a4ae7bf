"""Metric names, labels and bucket edges: what the server exports, and what load tests and dashboards read.

All times are seconds and all sizes bytes, as Prometheus wants them. `model` and `variant` are labels of
loaded variants only, never a request's own text. Source: https://prometheus.io/docs/practices/naming/
"""

from dataclasses import dataclass
from typing import Literal, get_args

SECONDS_BUCKETS = (
    0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.010, 0.013, 0.016,
    0.020, 0.025, 0.030, 0.040, 0.050, 0.065, 0.080, 0.100, 0.130, 0.160, 0.200, 0.250, 0.300, 0.400, 0.500,
    0.650, 0.800, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
"""Upper edges in seconds. Finer than 1 ms at the start: that is where the variants differ."""

ROWS_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)

_VARIANT = ("model", "variant")

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True)
class Metric:
    """One metric family; `name` is without the suffix that its kind adds on the page."""

    name: str
    kind: Kind
    unit: str
    """What its value counts; 'flag' where that is 0 or 1."""
    help: str
    labels: tuple[str, ...] = _VARIANT
    buckets: tuple[float, ...] = SECONDS_BUCKETS
    """Used by histograms only."""

    @property
    def series(self) -> tuple[str, ...]:
        """Returns the names of its samples on the metrics page."""
        suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
        return tuple(self.name + suffix for suffix in suffixes[self.kind])


REQUESTS = Metric(
    "pareto_requests", "counter", "requests", "ModelInfer calls that named a loaded variant, by gRPC status code.",
    (*_VARIANT, "code"),
)  # fmt: skip
REQUEST_DURATION = Metric(
    "pareto_request_duration_seconds", "histogram", "seconds",
    "From the parsed request to the response's bytes, successes only; no parsing, no network.",
)  # fmt: skip
QUEUE_DURATION = Metric(
    "pareto_queue_duration_seconds", "histogram", "seconds",
    "From admission until execution began, the wait for a slot included.",
)  # fmt: skip
COMPUTE_DURATION = Metric("pareto_compute_duration_seconds", "histogram", "seconds", "Inside the engine.")
Stage = Literal["receive", "decode", "respond", "encode"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""What a request passes beside queue and compute, which have histograms and lie between decode and respond:

    receive   its bytes are parsed
    decode    it is checked, its tensors or images are read, a cold variant is loaded, until it is admitted
    respond   after the engine, until the way back begins: the rest of its batch, the event loop
    encode    its outputs are made a response, and that is made bytes

What is not in any of them: what gRPC and the kernel do with these bytes, and the wait until a call is taken up."""
STAGE_SECONDS = Metric(
    "pareto_stage_seconds", "counter", "seconds",
    "What successes spent around queue and compute; with these, all from the bytes at hand to the response's bytes.",
    (*_VARIANT, "stage"),
)  # fmt: skip
BATCH_ROWS = Metric(
    "pareto_batch_rows", "histogram", "rows", "Rows that one execution of the engine computed together.",
    buckets=ROWS_BUCKETS,
)  # fmt: skip
INFLIGHT = Metric("pareto_inflight_requests", "gauge", "requests", "Requests that arrived and are not yet answered.")
QUEUE_DEPTH = Metric("pareto_queue_depth", "gauge", "requests", "Requests that wait for the engine.")
REJECTED = Metric(
    "pareto_rejected", "counter", "requests", "Requests that were never executed, by reason.", (*_VARIANT, "reason")
)
LOAD_DURATION = Metric(
    "pareto_model_load_duration_seconds", "gauge", "seconds",
    "From the first byte read to READY, the golden check included.",
)  # fmt: skip
LOADS = Metric("pareto_variant_loads", "counter", "loads", "Times that the variant was loaded into memory.")
EVICTIONS = Metric(
    "pareto_variant_evictions", "counter", "evictions",
    "Times that the variant left memory, not asked for longest, to keep the server below --max-memory.",
)  # fmt: skip
VARIANT_INFO = Metric(
    "pareto_variant_info", "gauge", "flag",
    "Always 1; the labels say what the variant is, and whether it was measured here, on a CPU like this, or elsewhere.",
    (*_VARIANT, "recipe", "runtime", "precision", "measured"),
)  # fmt: skip
VARIANT_STATE = Metric(
    "pareto_variant_state", "gauge", "flag",
    "1 for the state that the variant is in, 0 for the others; of several workers, 1 where any of them says so.",
    (*_VARIANT, "state"),
)  # fmt: skip
DEFAULT_VARIANT = Metric(
    "pareto_default_variant", "gauge", "flag",
    "1 for the variant that answers where a request names none, 0 for the model's others.",
)  # fmt: skip
VARIANT_QUALITY = Metric(
    "pareto_variant_quality", "gauge", "ratio", "As measured by compressors on the whole test set.",
    (*_VARIANT, "metric"),
)  # fmt: skip
AGREEMENT = "agreement"
"""A value of its label `metric`: the share of FP32's predictions kept. The others are the metrics of the tasks; behind
`_parent` and `_fp32` stands the same of the variant's parent and of the FP32 variant."""
VARIANT_ARTIFACT_BYTES = Metric(
    "pareto_variant_artifact_bytes", "gauge", "bytes", "Size on disk of the files that the runtime loads."
)
VARIANT_MEMORY_BYTES = Metric(
    "pareto_variant_memory_bytes", "gauge", "bytes",
    "What loading it and answering once added to a process when it was built, at most; not what it takes now.",
)  # fmt: skip
GRPC_HANDLED = Metric(
    "grpc_server_handled", "counter", "calls", "RPCs completed on the server, by service, method and status code.",
    ("grpc_type", "grpc_service", "grpc_method", "grpc_code"),
)  # fmt: skip
BUILD_INFO = Metric(
    "pareto_build_info", "gauge", "flag",
    "Always 1; the labels say which version of the server this is, on which Python.",
    ("version", "python"),
)  # fmt: skip

METRICS = (
    REQUESTS, REQUEST_DURATION, QUEUE_DURATION, COMPUTE_DURATION, STAGE_SECONDS, BATCH_ROWS, INFLIGHT, QUEUE_DEPTH,
    REJECTED, LOAD_DURATION, LOADS, EVICTIONS, VARIANT_INFO, VARIANT_STATE, DEFAULT_VARIANT, VARIANT_QUALITY,
    VARIANT_ARTIFACT_BYTES, VARIANT_MEMORY_BYTES, GRPC_HANDLED, BUILD_INFO,
)  # fmt: skip

WORKERS = Metric("pareto_workers", "gauge", "processes", "Worker processes that listen now.", ())
WORKER_RESTARTS = Metric(
    "pareto_worker_restarts", "counter", "processes",
    "Worker processes that ended unasked and were started again, by the signal that ended them, or 'exit'.",
    ("reason",),
)  # fmt: skip

SUPERVISOR_METRICS = (WORKERS, WORKER_RESTARTS)
"""On the page only where there are several workers. `process_*` then bear the label `worker`."""
