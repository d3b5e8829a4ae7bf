"""The reference of the metrics page, docs/metrics.md, made of `protos.telemetry`.

Run `python -m server.observability.metrics_reference > docs/metrics.md` after a change; a test compares the two.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, ProcessCollector

from protos import telemetry
from protos.support import markdown
from protos.telemetry import Metric

HEAD = """\
# Metrics

<!-- Made by `python -m server.observability.metrics_reference > docs/metrics.md` of protos/telemetry.py. -->

`http://HOST:8002/metrics` (`--host`, `--metrics-port`) has these, in Prometheus' text format, and no others. The
series of a variant are there, with 0, from when it is registered, so that `rate()` sees their first burst, and go when
it is unloaded; with `--max-memory`, those that grow are there from its first load. What a manifest does not say, such
as memory, is absent. `model` and `variant` are names of variants of the repository, never a request's own text.
"""

WORKERS = """\
With `--workers` the page is one for all: counters, histograms, `pareto_inflight_requests` and `pareto_queue_depth` are
sums over the workers, of ended ones too where they count events; of the other gauges the largest is shown.
"""

JOINS = """\
Gauges of 0 and 1 select what others measure. The p99 of each model's default variant, for those that had requests:

```promql
histogram_quantile(0.99, sum by (model, variant, le) (rate(pareto_request_duration_seconds_bucket[5m]))) >= 0
  and on (model, variant) max by (model, variant) (pareto_default_variant) == 1
```

An idle variant's quantile is NaN, and so is its mean; `>= 0` leaves both out.
"""

LABELS = {
    "model": "name of the model",
    "variant": "name of the variant, `RECIPE-RUNTIME`",
    "code": "gRPC status, such as `OK`",
    "stage": "`receive`: its bytes are parsed; `decode`: it is checked, its tensors or images are read, a cold variant "
    "is loaded; `respond`: from the engine's end until the way back begins; `encode`: its response is made bytes",
    "reason": "of a rejected request: why; of a restart: the signal that ended the worker, or `exit`",
    "recipe": "what was done to the weights",
    "runtime": "what executes them",
    "precision": "of weights and activations",
    "measured": "`here`, or `elsewhere`: whether the manifest's figures are from a CPU like this one",
    "state": "`LOADING`, `READY`, `COLD`: to be loaded when it is asked for, `FAILED` or `UNLOADING`",
    "metric": "of the variant's task, such as `top1`; with `_parent` or `_fp32` behind it, that of the network before "
    "its last compression, or of the FP32 network; `agreement` is the share of FP32's predictions kept",
    "grpc_type": "`unary`, `server_stream` or `bidi_stream`",
    "grpc_service": "full name of the service",
    "grpc_method": "name of the method",
    "grpc_code": "gRPC status, such as `OK`",
    "version": "of the package `paretoserve`",
    "python": "of the interpreter",
    "worker": "number of the worker process, or `supervisor`; absent without `--workers`",
}


def page() -> str:
    """Returns the text of docs/metrics.md."""
    process = list(_process_metrics())
    sections = [
        HEAD, _table(telemetry.METRICS), "## Several workers\n", WORKERS, _table(telemetry.SUPERVISOR_METRICS),
        "## The process\n", "prometheus_client's own, on Linux; with `--workers`, those of each process.\n",
        _table(process), "## Labels\n", _labels([*telemetry.METRICS, *telemetry.SUPERVISOR_METRICS, *process]),
        "## Buckets\n", _buckets(), "## Joining\n", JOINS,
    ]  # fmt: skip
    return "\n".join(sections)


def _table(metrics: Iterable[Metric]) -> str:
    columns = ("metric", "kind", "unit", "labels", "help")
    return markdown.table(columns, [_row(metric) for metric in metrics]) + "\n"


def _row(metric: Metric) -> tuple[str, ...]:
    name = metric.series[0] if metric.kind == "counter" else metric.name
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"`{name}`", metric.kind, metric.unit, labels, metric.help


def _process_metrics() -> Iterable[Metric]:
    for family in ProcessCollector(registry=CollectorRegistry()).collect():
        unit = family.name.rpartition("_")[2]
        yield Metric(
            family.name, "counter" if family.type == "counter" else "gauge",
            unit if unit in ("seconds", "bytes") else "descriptors", family.documentation, ("worker",),
        )  # fmt: skip


def _labels(metrics: Iterable[Metric]) -> str:
    used = dict.fromkeys(label for metric in metrics for label in metric.labels)
    return markdown.table(("label", "value"), [(f"`{label}`", LABELS[label]) for label in used]) + "\n"


def _buckets() -> str:
    edges = telemetry.SECONDS_BUCKETS, telemetry.ROWS_BUCKETS
    seconds, rows = (", ".join(f"{edge:g}" for edge in each) for each in edges)
    return f"Upper edges of histograms of seconds: {seconds}.\n\nThose of `{telemetry.BATCH_ROWS.name}`: {rows}.\n"


if __name__ == "__main__":
    print(page(), end="")
