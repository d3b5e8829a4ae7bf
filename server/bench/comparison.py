"""Our servers beside the others of one run: unary calls of tensors, which all of them take."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from protos.support import markdown
from server.bench.engine_loop import EngineSpeed
from server.bench.table import BARE, OURS, Row, number

COLUMNS = (
    *("server", "in flight", "RPC/s against the best peer", "against bare batching", "against the engine's best batch"),
    *("server CPU against bare batching", "p50 less the engine's, ms"),
)


@dataclass(frozen=True)
class Comparison:
    """One of our servers at one depth; None where a part of a ratio was not measured."""

    server: str
    in_flight: int
    best_peer: str | None
    """The peer with the most answers per second at this depth."""
    rps_to_best_peer: float | None
    rps_to_bare: float | None
    rps_to_engine: float | None
    """Against the rows per second of one engine, in one thread, at its fastest batch size."""
    cpu_to_bare: float | None
    p50_beyond_engine_ms: float | None
    """Against the engine's time for a batch of one; only with one call in flight, since more of them wait."""


def comparisons(rows: Sequence[Row], speeds: Sequence[EngineSpeed], peers: Collection[str]) -> list[Comparison]:
    """Returns what each of our servers is beside the others, in the order of `rows`; `peers` are names of servers."""
    asked = [row for row in rows if (row.mode, row.form) == ("unary", "tensor")]
    return [_comparison(row, asked, speeds, peers) for row in asked if row.server.startswith(OURS)]


def _comparison(ours: Row, rows: Sequence[Row], speeds: Sequence[EngineSpeed], peers: Collection[str]) -> Comparison:
    beside = {row.server: row for row in rows if row.in_flight == ours.in_flight}
    best = max((row for name, row in beside.items() if name in peers and row.rps), key=_rps, default=None)
    bare = beside.get(BARE)
    alone_ms = 1e3 / speeds[0].rows_per_second
    return Comparison(
        server=ours.server,
        in_flight=ours.in_flight,
        best_peer=best.server if best else None,
        rps_to_best_peer=_ratio(ours.rps, best.rps if best else None),
        rps_to_bare=_ratio(ours.rps, bare.rps if bare else None),
        rps_to_engine=_ratio(ours.rps, max(speed.rows_per_second for speed in speeds)),
        cpu_to_bare=_ratio(ours.server_cpu_us, bare.server_cpu_us if bare else None),
        p50_beyond_engine_ms=None if ours.in_flight > 1 or ours.p50_ms is None else ours.p50_ms - alone_ms,
    )


def text(comparisons: Sequence[Comparison]) -> str:
    """Returns the table in Markdown."""
    return markdown.table(COLUMNS, [*map(_shown, comparisons)], right=1)


def _shown(each: Comparison) -> tuple[str, ...]:
    peer = number(each.rps_to_best_peer, 2) + (f" ({each.best_peer})" if each.best_peer else "")
    ratios = (each.rps_to_bare, each.rps_to_engine, each.cpu_to_bare, each.p50_beyond_engine_ms)
    return (each.server, str(each.in_flight), peer, *(number(ratio, 2) for ratio in ratios))


def _rps(row: Row) -> float:
    return row.rps or 0.0


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None
