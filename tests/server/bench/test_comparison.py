"""Ratios of made-up rows."""

from server.bench.comparison import Comparison, comparisons, text
from server.bench.engine_loop import EngineSpeed
from server.bench.load import Mode
from server.bench.payloads import Form
from server.bench.table import BARE, FLOOR, Row

SPEEDS = [EngineSpeed(1, 4000.0, 250.0), EngineSpeed(8, 5000.0, 200.0), EngineSpeed(32, 4500.0, 222.0)]
PEERS = ("mlserver", "kserve")
NATIVE = "pareto-serve --front native"


def row(
    server: str, in_flight: int, rps: float | None, mode: Mode = "unary", form: Form = "tensor", cpu: float | None = 400
) -> Row:
    p50 = None if rps is None else 1e3 * in_flight / rps
    return Row(server, mode, form, in_flight, 1, rps, p50, p50, p50, cpu, 10.0)


def test_ours_is_compared_with_the_best_peer_the_bare_server_and_the_engine_at_its_depth() -> None:
    rows = [
        *(row(FLOOR, 8, 9000.0), row(BARE, 8, 2000.0), row(BARE, 1, 1000.0)),
        *(row(NATIVE, 1, 2000.0), row(NATIVE, 8, 4000.0, cpu=300.0)),
        *(row("mlserver", 8, 1000.0), row("kserve", 8, 1600.0), row("kserve", 1, 800.0)),
    ]
    assert comparisons(rows, SPEEDS, PEERS) == [
        Comparison(NATIVE, 1, "kserve", 2.5, 2.0, 0.4, 1.0, 0.25),
        Comparison(NATIVE, 8, "kserve", 2.5, 2.0, 0.8, 0.75, None),
    ]


def test_streams_and_files_are_compared_with_nobody() -> None:
    rows = [row(NATIVE, 8, 4000.0, mode="stream"), row(NATIVE, 8, 4000.0, form="jpeg")]
    assert comparisons(rows, SPEEDS, PEERS) == []


def test_what_was_not_measured_is_a_dash() -> None:
    rows = [row(NATIVE, 1, None), row(BARE, 1, 1000.0, cpu=None), row("kserve", 1, None)]
    assert text(comparisons(rows, SPEEDS, PEERS)).splitlines()[2:] == [f"| {NATIVE} | 1 | - | - | - | - | - |"]


def test_the_best_peer_is_named_beside_the_ratio() -> None:
    compared = comparisons([row(NATIVE, 8, 4000.0), row("kserve", 8, 1600.0)], SPEEDS, PEERS)
    assert text(compared).splitlines()[2:] == [f"| {NATIVE} | 8 | 2.50 (kserve) | - | 0.80 | - | - |"]
