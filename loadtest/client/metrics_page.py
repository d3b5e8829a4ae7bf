"""What the server did, read from its metrics page before and after each block.

Only what moved between two readings is used, so that other runs do not count. What a server does not export is None:
absent, never zero.
"""

import http.client
import logging
import math
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from loadtest.tasks.table import METRICS
from protos import telemetry
from protos.errors import ParetoServeError
from protos.support.significance import Interval
from protos.telemetry import Stage

TIMEOUT_SECONDS = 5.0

CPU_SECONDS = "process_cpu_seconds_total"
"""Exported by the Prometheus client itself, one for each server process."""


class ScrapeError(ParetoServeError):
    """The metrics page cannot be read."""


@dataclass(frozen=True)
class Facts:
    """What the server says about a variant; None where it does not say."""

    recipe: str | None = None
    runtime: str | None = None
    precision: str | None = None
    metric: str | None = None
    """What `quality` is: the metric of the variant's task."""
    quality: float | None = None
    """From 0 to 1."""
    quality_interval: Interval | None = field(default=None, kw_only=True)
    """The 95% interval of `quality`, by the manifest; the next, of how far it is below that of `fp32-pytorch`."""
    drop_interval: Interval | None = field(default=None, kw_only=True)
    agreement: float | None = None
    artifact_bytes: int | None = None
    memory_bytes: int | None = None
    """What loading it and answering once added to a process when it was built."""
    serving: str | None = None
    """Threads and batches, by its configuration."""


@dataclass(frozen=True)
class Page:
    """One reading of the metrics page."""

    samples: tuple[Sample, ...]

    def total(self, name: str, **labels: str) -> float | None:
        """Returns the sum of the samples of that name with at least these labels; None where there are none."""
        values = [sample.value for sample in self._chosen(name, labels)]
        return sum(values) if values else None

    def facts(self, model: str, variant: str) -> Facts:
        """Returns what the page says about a variant."""
        labels, quality = {"model": model, "variant": variant}, telemetry.VARIANT_QUALITY.name
        infos = self._chosen(telemetry.VARIANT_INFO.name, labels)
        info = infos[0].labels if infos else {}
        size = self.total(telemetry.VARIANT_ARTIFACT_BYTES.name, **labels)
        memory = self.total(telemetry.VARIANT_MEMORY_BYTES.name, **labels)
        values = {metric: self.total(quality, metric=metric, **labels) for metric in METRICS}
        metric = next((metric for metric, value in values.items() if value is not None), None)
        return Facts(
            recipe=info.get("recipe"),
            runtime=info.get("runtime"),
            precision=info.get("precision"),
            metric=metric,
            quality=values.get(metric or ""),
            agreement=self.total(quality, metric=telemetry.AGREEMENT, **labels),
            artifact_bytes=None if size is None else int(size),
            memory_bytes=None if memory is None else int(memory),
        )

    def _chosen(self, name: str, labels: dict[str, str]) -> list[Sample]:
        return [each for each in self.samples if each.name == name and labels.items() <= each.labels.items()]


_DURATIONS = (telemetry.QUEUE_DURATION, telemetry.COMPUTE_DURATION, telemetry.REQUEST_DURATION, telemetry.BATCH_ROWS)
_MOVING = (
    *(telemetry.REQUESTS.series[0], telemetry.STAGE_SECONDS.series[0], CPU_SECONDS),
    *(f"{metric.name}_{what}" for metric in _DURATIONS for what in ("sum", "count")),
)
"""The series that `deltas` looks at: without the buckets of histograms a page is a twentieth as long."""


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
    batch_count: float | None = None
    """Executions of the engine."""
    stage_seconds: dict[Stage, float] = field(default_factory=dict)
    """Of the successes, by stage; empty where the server does not say."""


def scrape(url: str, names: Sequence[str] = ()) -> Page:
    """Reads the page, of these series where any are named; raises `ScrapeError` where there is none.

    Prometheus' own client makes a page of only what `name[]` asks for, so that asking costs little; others ignore it.
    """
    if names:
        url += ("&" if "?" in url else "?") + "&".join(f"name[]={name}" for name in names)
    try:
        _ = urllib.parse.urlsplit(url).port  # raises where it is above 65535: a socket would take another one
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            text = response.read().decode()
        families = list(text_string_to_metric_families(text))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ScrapeError(f"metrics page {url}: {error}") from error
    return Page(tuple(sample for family in families for sample in family.samples))


def cpu_seconds(url: str | None) -> float:
    """Returns the CPU time of the server's processes so far, nan where it does not say."""
    try:
        page = scrape(url, [CPU_SECONDS]) if url else Page(())
    except ScrapeError:
        return math.nan
    total = page.total(CPU_SECONDS)
    return math.nan if total is None else total


def read_again(url: str | None) -> Page | None:
    """Reads what `deltas` needs of a page that was there before; None where there was none, or the server is gone."""
    try:
        return scrape(url, _MOVING) if url else None
    except ScrapeError as error:
        logging.warning("%s", error)
        return None


def read_pages(urls: Iterable[str | None]) -> dict[str, Page | None]:
    """Reads each page once, however many variants one server has."""
    return {url: read_again(url) for url in {*urls} if url}


def deltas(before: Page, after: Page, model: str, variant: str) -> Deltas:
    """Returns what moved between two readings of one server's page."""
    ours = {"model": model, "variant": variant}

    def moved(name: str, **labels: str) -> float | None:
        now, then = after.total(name, **labels), before.total(name, **labels)
        return None if now is None else now - (then or 0.0)  # a labelled counter appears with its first event

    def sum_and_count(metric: telemetry.Metric) -> tuple[float | None, float | None]:
        return moved(f"{metric.name}_sum", **ours), moved(f"{metric.name}_count", **ours)

    spent = {stage: moved(telemetry.STAGE_SECONDS.series[0], stage=stage, **ours) for stage in telemetry.STAGES}
    return Deltas(
        moved(telemetry.REQUESTS.series[0], **ours),
        *sum_and_count(telemetry.QUEUE_DURATION),
        *sum_and_count(telemetry.COMPUTE_DURATION),
        moved(CPU_SECONDS),
        *sum_and_count(telemetry.REQUEST_DURATION),
        *sum_and_count(telemetry.BATCH_ROWS),
        {stage: seconds for stage, seconds in spent.items() if seconds is not None},
    )
