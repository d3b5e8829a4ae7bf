"""What is shown of a cell, in the table on the terminal and in the report's: each column is written once."""

from collections.abc import Callable
from dataclasses import dataclass

from loadtest.analysis.results import Cell


@dataclass(frozen=True)
class Column:
    """A heading, what it means, and a cell's value with its format."""

    title: str
    meaning: str
    value: Callable[[Cell], str | float | None]
    form: str = "{}"
    brief: bool = True
    """Shown on the terminal too."""
    percentile: bool = False

    def text(self, cell: Cell, brief: bool = False) -> str:
        """The value for people; 'n/a' if not measured, or of too few samples (how many, unless brief)."""
        value = self.value(cell)
        if value is not None:
            return self.form.format(value)
        return f"n/a ({cell.samples} samples)" if self.percentile and not brief else "n/a"


COLUMNS = (
    Column("variant", "recipe and runtime", lambda cell: cell.variant),
    Column(
        "load", "concurrent users, each waiting for its answer, or requests that arrive", lambda cell: cell.load.name
    ),
    Column("top-1", "accuracy on the whole test set, as the server states it", lambda cell: cell.facts.top1, "{:.2%}"),
    Column(
        "agreement",
        "share of test images with FP32's prediction",
        lambda cell: cell.facts.agreement,
        "{:.2%}",
        brief=False,
    ),
    Column("p50 ms", "half of the answers came within", lambda cell: cell.latency_ms.p50, "{:.2f}", percentile=True),
    Column("p95 ms", "95% of the answers came within", lambda cell: cell.latency_ms.p95, "{:.2f}", percentile=True),
    Column("p99 ms", "99% of the answers came within", lambda cell: cell.latency_ms.p99, "{:.2f}", percentile=True),
    Column("rps", "successful answers per second", lambda cell: cell.throughput_rps, "{:,.0f}"),
    Column("asked rps", "requests that arrived in a second", lambda cell: cell.asked_rps, "{:,.0f}", brief=False),
    Column(
        "rows/s", "successful rows per second", lambda cell: cell.rows * cell.throughput_rps, "{:,.0f}", brief=False
    ),
    Column("queue ms", "mean wait inside the server", lambda cell: cell.server.queue_ms_mean, "{:.2f}", brief=False),
    Column("compute ms", "mean time inside the engine", lambda cell: cell.server.compute_ms_mean, "{:.2f}"),
    Column(
        "server CPU µs",
        "server CPU time by requests",
        lambda cell: cell.server.cpu_us_per_request,
        "{:,.0f}",
        brief=False,
    ),
    Column(
        "first ms", "median first call; it opens a connection", lambda cell: cell.first_call_ms, "{:.1f}", brief=False
    ),
    Column("size MB", "artifact on disk", lambda cell: _megabytes(cell.facts.artifact_bytes), "{:.2f}", brief=False),
    Column(
        "generator CPU",
        "share of time for which the thread of the load generator's users was busy",
        lambda cell: cell.generator_cpu,
        "{:.0%}",
    ),
    Column(
        "lag ms", "p99 of how late the generator's timers were", lambda cell: cell.lag_ms_p99, "{:.2f}", brief=False
    ),
    Column("requests", "all calls, warm-up included", lambda cell: cell.requests, "{:,}", brief=False),
    Column("failures", "all failed calls, warm-up included", lambda cell: cell.failures, "{:,}"),
)


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / 1e6
