"""What the samples say: medians over the rounds, one row for each server, way of calling and depth.

`overhead` is what a request costs the server beyond the engine and beyond gRPC: its CPU, less that of the bare
engine for one row (at batch 1 where one call is in flight or nothing is batched, else at its best batch), less
that of the floor at the same depth. What was not measured is None, and a dash in the table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from protos.support import markdown
from server.bench.engine_loop import EngineSpeed
from server.bench.load import Mode, Sample
from server.bench.payloads import Form

FLOOR, BARE, OURS = "floor", "bare batching", "pareto-serve"
"""The names of the bare servers, and what those of ours begin with."""
ALONE = "--batch-max 1"


@dataclass(frozen=True)
class Key:
    """One row: a target, how it is called, with what, and how many calls are in flight."""

    server: str
    mode: Mode
    form: Form
    in_flight: int


@dataclass(frozen=True)
class Cell:
    """One round of one row."""

    sample: Sample
    server_cpu_seconds: float | None


@dataclass(frozen=True)
class Row(Key):
    """The medians of one row."""

    rounds: int
    rps: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    server_cpu_us: float | None
    client_cpu_us: float | None
    overhead_us: float | None = None
    failures: int = 0


COLUMNS = (
    *("server", "mode", "form", "in flight", "RPC/s", "p50 ms", "p95", "p99"),
    *("server us", "client us", "overhead us"),
)
DIGITS = (0, 2, 2, 2, 0, 0, 0)
"""Decimals of the columns from RPC/s on."""


def rows_of(speeds: Sequence[EngineSpeed], cells: Mapping[Key, Sequence[Cell]]) -> list[Row]:
    """Returns the table's rows, with the overhead of those whose parts are known."""
    measured = {key: row(key, kept) for key, kept in cells.items()}
    best = min(speed.cpu_us for speed in speeds)
    for key, found in measured.items():
        floor = measured.get(replace(key, server=FLOOR))
        if key.server != FLOOR and floor and floor.server_cpu_us is not None and found.server_cpu_us is not None:
            engine = speeds[0].cpu_us if key.in_flight == 1 or ALONE in key.server else best
            measured[key] = replace(found, overhead_us=found.server_cpu_us - floor.server_cpu_us - engine)
    return list(measured.values())


def row(key: Key, cells: Sequence[Cell]) -> Row:
    """Returns the medians over the rounds of one row; rounds without an answer count as not measured."""
    answered = [cell for cell in cells if cell.sample.latencies_us]

    def middle(measure: Callable[[Cell], float | None]) -> float | None:
        values = [value for cell in answered if (value := measure(cell)) is not None]
        return median(values) if values else None

    def percentile(share: float) -> float | None:
        return middle(lambda cell: float(np.percentile(cell.sample.latencies_us, share)) / 1e3)

    return Row(
        **vars(key),
        rounds=len(answered),
        rps=middle(lambda cell: len(cell.sample.latencies_us) / cell.sample.seconds),
        p50_ms=percentile(50),
        p95_ms=percentile(95),
        p99_ms=percentile(99),
        server_cpu_us=middle(
            lambda cell: cell.server_cpu_seconds and cell.server_cpu_seconds * 1e6 / cell.sample.calls
        ),
        client_cpu_us=middle(lambda cell: cell.sample.cpu_seconds * 1e6 / cell.sample.calls),
        failures=sum(len(cell.sample.failures) for cell in cells),
    )


def text(rows: Sequence[Row]) -> str:
    """Returns the table in Markdown."""
    return markdown.table(COLUMNS, [*map(_shown, rows)], right=COLUMNS.index("in flight"))


def number(value: float | None, digits: int) -> str:
    """Returns a figure with so many decimals, a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def _shown(row: Row) -> tuple[str, ...]:
    rates = (row.rps, row.p50_ms, row.p95_ms, row.p99_ms, row.server_cpu_us, row.client_cpu_us, row.overhead_us)
    shown = (number(value, digits) for value, digits in zip(rates, DIGITS, strict=True))
    failed = f" ({row.failures} failed)" if row.failures else ""
    return (row.server + failed, row.mode, row.form, str(row.in_flight), *shown)
