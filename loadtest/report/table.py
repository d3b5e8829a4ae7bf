"""The columns that show a measurement, in the page, on a terminal and in Markdown, and those that show a search."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from loadtest.analysis.results import Cell
from loadtest.analysis.validity import title_of
from loadtest.decision.accuracy import drop_interval
from loadtest.measure.measurement import Search
from protos.support import significance

QUALITY = "accuracy"
"""What stands in titles for the metric, where it is not known which one that is (`titled`)."""
_SERVER = "the server's metrics page does not say it"
_BUILD = "no manifest in --repository and no metrics page of the server says it"


@dataclass(frozen=True)
class Column:
    """A heading, what it means, a measurement's value with its format, and why there may be none."""

    title: str
    meaning: str
    value: Callable[[Cell], str | float | None]
    form: str = "{}"
    missing: str = _SERVER
    share: float = 0.0
    """Of a percentile: the share of the answers that took no longer."""

    def text(self, cell: Cell, brief: bool = False) -> str:
        """Returns the value for people; 'n/a' if not measured, or of too few samples (how many, unless brief)."""
        value = self.value(cell)
        if value is not None:
            return self.form.format(value)
        return f"n/a ({cell.samples} samples)" if self.share and not brief else "n/a"

    def reason(self, cell: Cell) -> str:
        """Returns why there is no value."""
        if not self.share:
            return self.missing
        return f"too few samples: {cell.samples}, {significance.samples_needed(self.share)} needed"


def _percentile(name: str, share: float, value: Callable[[Cell], float | None]) -> Column:
    return Column(f"{name} ms", f"{share:.0%} of the answers took no longer", value, "{:.2f}", share=share)


COLUMNS = (
    Column("variant", "recipe and runtime", lambda c: c.variant),
    Column("load", "users, each waiting for its answer, or requests that arrive at a rate", lambda c: c.load.name),
    _percentile("p99", 0.99, lambda c: c.latency_ms.p99),
    Column("rps", "successful answers per second", lambda c: c.throughput_rps, "{:,.0f}"),
    Column(QUALITY, "accuracy on the whole test set, as the server states it", lambda c: c.facts.quality, "{:.2%}"),
    Column(
        f"{QUALITY}, 95%",
        "its interval, from the number of test images",
        lambda c: significance.percent(c.facts.quality_interval),
        missing=_BUILD,
    ),
    Column(
        "drop, 95%",
        "points below fp32-pytorch",
        lambda c: c.facts.drop_interval and significance.percent(drop_interval(c)),
        missing=_BUILD,
    ),
    Column("agreement", "share of test images with FP32's prediction", lambda c: c.facts.agreement, "{:.2%}"),
    _percentile("p50", 0.5, lambda c: c.latency_ms.p50),
    _percentile("p95", 0.95, lambda c: c.latency_ms.p95),
    Column(
        "asked rps",
        "requests that arrived per second",
        lambda c: c.asked_rps,
        "{:,.0f}",
        missing="the server sets the pace of this load",
    ),
    Column("rows/s", "successful rows per second", lambda c: c.rows * c.throughput_rps, "{:,.0f}"),
    Column("queue ms", "mean wait inside the server", lambda c: c.server.queue_ms_mean, "{:.2f}"),
    Column("compute ms", "mean time inside the engine", lambda c: c.server.compute_ms_mean, "{:.2f}"),
    Column(
        "CPU s per 1,000",
        "server CPU-seconds per thousand answers",
        lambda c: None if c.server.cpu_us_per_request is None else c.server.cpu_us_per_request / 1e3,
        "{:.3f}",
    ),
    Column(
        "first ms",
        "median of the first calls, which open connections",
        lambda c: c.first_call_ms,
        "{:.1f}",
        missing="no first call was answered",
    ),
    Column("size MB", "artifact on disk", lambda c: c.facts.artifact_bytes and c.facts.artifact_bytes / 1e6, "{:.2f}"),
    Column("generator CPU", "share of time in which the users' thread was busy", lambda c: c.generator_cpu, "{:.0%}"),
    Column(
        "lag ms",
        "p99 of how late the load generator's timers were",
        lambda c: c.lag_ms_p99,
        "{:.2f}",
        missing="too few timers were sampled",
    ),
    Column("requests", "all calls, warm-up included", lambda c: c.requests, "{:,}"),
    Column("failures", "all failed calls, warm-up included", lambda c: c.failures, "{:,}"),
)

LEAVE_OUT = ("generator CPU", "compute ms", "failures", "p95 ms")
"""Columns that a narrow terminal does without, in this order; the report has them all."""
TERMINAL = ("variant", "load", "p99 ms", "rps", QUALITY, "p50 ms", *LEAVE_OUT)
BRIEF = tuple(column for column in COLUMNS if column.title in TERMINAL)
"""Columns that the terminal and the Markdown export show."""


SEARCH_COLUMNS = ("variant", "rate to rely on", "half of the trials hold at", "95% interval", "limited by", "trials")
"""Columns that show a search for the highest rate."""


def titled(columns: Sequence[Column], cells: Sequence[Cell]) -> list[Column]:
    """Returns the columns with the name of the measurements' metric."""
    return [replace(column, title=column.title.replace(QUALITY, title_of(cells))) for column in columns]


def search_row(search: Search) -> list[str]:
    """Returns the texts of `SEARCH_COLUMNS`; trials that held above the interval or broke below it are counted."""
    found = search.found
    contradict = found.contradicting(search.objective)
    outside = f", of which {contradict} contradict{'s' if contradict == 1 else ''}" if contradict else ""
    return [
        search.variant,
        "none" if found.held is None else f"{found.held:,.1f}",
        "n/a" if found.crossing is None else f"{found.crossing:,.1f}",
        "n/a" if found.interval is None else "{:,.1f} to {:,.1f}".format(*found.interval),
        _limited_by(search),
        f"{len(found.trials)}{outside}",
    ]


def _limited_by(search: Search) -> str:
    """Says why higher rates do not hold; servers reject requests that they have no room for."""
    if search.found.bounded_by != "errors":
        return _LIMITS.get(search.found.bounded_by, search.found.bounded_by)
    rejected = all(each.status == "RESOURCE_EXHAUSTED" for each in search.failure_texts[:1])
    return "rejected requests" if rejected else "failed requests"


_LIMITS = {"generator": "the load generator", "highest": "nothing: all trials held"}
