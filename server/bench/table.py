"""What the samples say: medians over the rounds, one row for each server, way of calling and depth.

`overhead` is what a request costs the server beyond the engine and beyond gRPC: its CPU, less that of the bare
engine for one row (at batch 1 where one call is in flight or nothing is batched, else at its best batch), less
that of the floor at the same depth. A figure that was not measured is None, and a dash in the table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from server.bench.load import Mode, Sample


@dataclass(frozen=True)
class Key:
    """One row: a target, how it is called, and how many calls are in flight."""

    server: str
    mode: Mode
    in_flight: int


@dataclass(frozen=True)
class Cell:
    """One round of one row."""

    sample: Sample
    server_cpu_seconds: float | None


@dataclass(frozen=True)
class Row:
    """The medians of one row."""

    server: str
    mode: Mode
    in_flight: int
    rounds: int
    rps: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    server_cpu_us: float | None
    client_cpu_us: float | None
    overhead_us: float | None = None
    failures: int = 0


COLUMNS = ("server", "mode", "in flight", "RPC/s", "p50 ms", "p95", "p99", "server us", "client us", "overhead us")


def row(key: Key, cells: Sequence[Cell]) -> Row:
    """The medians over the rounds of one row; rounds without an answer count as not measured."""
    answered = [cell for cell in cells if cell.sample.latencies_us]

    def middle(figure: Callable[[Cell], float | None]) -> float | None:
        values = [value for cell in answered if (value := figure(cell)) is not None]
        return median(values) if values else None

    def percentile(share: float) -> float | None:
        return middle(lambda cell: float(np.percentile(cell.sample.latencies_us, share)) / 1e3)

    return Row(
        server=key.server,
        mode=key.mode,
        in_flight=key.in_flight,
        rounds=len(answered),
        rps=middle(lambda cell: len(cell.sample.latencies_us) / cell.sample.seconds),
        p50_ms=percentile(50),
        p95_ms=percentile(95),
        p99_ms=percentile(99),
        server_cpu_us=middle(_server_us),
        client_cpu_us=middle(lambda cell: cell.sample.cpu_seconds * 1e6 / cell.sample.calls),
        failures=sum(len(cell.sample.failures) for cell in cells),
    )


def text(rows: Sequence[Row]) -> str:
    """The table for people."""
    lines = [COLUMNS, *(_shown(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(_aligned(*cell) for cell in zip(range(10), line, widths, strict=True)) for line in lines)


def _server_us(cell: Cell) -> float | None:
    return None if cell.server_cpu_seconds is None else cell.server_cpu_seconds * 1e6 / cell.sample.calls


def _shown(row: Row) -> tuple[str, ...]:
    figures = (
        (row.rps, 0), (row.p50_ms, 2), (row.p95_ms, 2), (row.p99_ms, 2), (row.server_cpu_us, 0),
        (row.client_cpu_us, 0), (row.overhead_us, 0),
    )  # fmt: skip
    shown = ("-" if value is None else f"{value:.{digits}f}" for value, digits in figures)
    failed = f" ({row.failures} failed)" if row.failures else ""
    return (row.server + failed, row.mode, str(row.in_flight), *shown)


def _aligned(column: int, cell: str, width: int) -> str:
    return cell.ljust(width) if column < 2 else cell.rjust(width)
