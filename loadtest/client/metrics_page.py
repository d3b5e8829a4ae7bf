"""The server's side of the story, read from its metrics page before and after each block.

Only counters that moved between two readings are used, so that what other runs did does not count. A server
without the page, or one that does not export a figure, leaves it None: absent, never zero.
"""

import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from protos import telemetry
from protos.errors import ParetoServeError

TIMEOUT_SECONDS = 5.0

CPU_SECONDS = "process_cpu_seconds_total"
"""Exported by the Prometheus client itself, one for each server process."""


class ScrapeError(ParetoServeError):
    """The metrics page cannot be read."""


@dataclass(frozen=True)
class Sample:
    """One line of the page."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Facts:
    """What the server says about a variant; None where it does not say."""

    recipe: str | None = None
    runtime: str | None = None
    precision: str | None = None
    top1: float | None = None
    agreement: float | None = None
    artifact_bytes: int | None = None
    memory_bytes: int | None = None
    """What loading it and answering once adds to a process; from its manifest, the server does not export it."""
    serving: str | None = None
    """How it is served, as its configuration says: threads and batches."""


@dataclass(frozen=True)
class Page:
    """One reading of the metrics page."""

    samples: tuple[Sample, ...]

    def total(self, name: str, **labels: str) -> float | None:
        """Sum of the samples of that name with at least these labels; None where there are none."""
        values = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(values) if values else None

    def facts(self, model: str, variant: str) -> Facts:
        """What the page says about a variant."""
        labels = {"model": model, "variant": variant}
        info = next(
            (
                s.labels
                for s in self.samples
                if s.name == _name(telemetry.VARIANT_INFO) and labels.items() <= s.labels.items()
            ),
            {},
        )
        quality, size = _name(telemetry.VARIANT_QUALITY), self.total(_name(telemetry.VARIANT_ARTIFACT_BYTES), **labels)
        return Facts(
            recipe=info.get("recipe"),
            runtime=info.get("runtime"),
            precision=info.get("precision"),
            top1=self.total(quality, metric=telemetry.TOP1, **labels),
            agreement=self.total(quality, metric=telemetry.AGREEMENT, **labels),
            artifact_bytes=None if size is None else int(size),
        )


@dataclass(frozen=True)
class Deltas:
    """What the server did for one variant between two readings; None where it does not say."""

    requests: float | None
    queue_seconds: float | None
    queue_count: float | None
    compute_seconds: float | None
    compute_count: float | None
    cpu_seconds: float | None
    handler_seconds: float | None = None
    """From parsed requests to finished messages: queue, engine, and what lies before and after it."""
    handler_count: float | None = None
    batch_rows: float | None = None
    """Rows that the engine was given."""
    batch_count: float | None = None
    """Executions of the engine."""


def scrape(url: str) -> Page:
    """Reads the page; `ScrapeError` where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            text = response.read().decode()
        families = list(text_string_to_metric_families(text))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ScrapeError(f"metrics page {url}: {error}") from error
    return Page(tuple(Sample(s.name, s.labels, s.value) for family in families for s in family.samples))


def deltas(before: Page, after: Page, model: str, variant: str) -> Deltas:
    """What moved between two readings of one server's page."""
    labels = {"model": model, "variant": variant}

    def moved(name: str, **labels: str) -> float | None:
        now, then = after.total(name, **labels), before.total(name, **labels)
        return None if now is None else now - (then or 0.0)  # a labelled counter appears with its first event

    queue, compute = telemetry.QUEUE_DURATION.name, telemetry.COMPUTE_DURATION.name
    handler, batch = telemetry.REQUEST_DURATION.name, telemetry.BATCH_SIZE.name
    return Deltas(
        requests=moved(_name(telemetry.REQUESTS), **labels),
        queue_seconds=moved(f"{queue}_sum", **labels),
        queue_count=moved(f"{queue}_count", **labels),
        compute_seconds=moved(f"{compute}_sum", **labels),
        compute_count=moved(f"{compute}_count", **labels),
        cpu_seconds=moved(CPU_SECONDS),
        handler_seconds=moved(f"{handler}_sum", **labels),
        handler_count=moved(f"{handler}_count", **labels),
        batch_rows=moved(f"{batch}_sum", **labels),
        batch_count=moved(f"{batch}_count", **labels),
    )


def _name(metric: telemetry.Metric) -> str:
    """The page's name of a counter or gauge."""
    return metric.series[0]
