"""Rows of made-up samples: medians, overheads, failures."""

from server.bench import table
from server.bench.engine_loop import EngineSpeed
from server.bench.load import Sample
from server.bench.table import BARE, FLOOR, Cell, Key, row, text


def test_a_row_is_the_median_of_its_rounds_and_tells_of_failures() -> None:
    cells = [
        Cell(Sample([1000.0 * factor] * 10, 2.0, 20, cpu_seconds=0.002), server_cpu_seconds=0.004 * factor)
        for factor in (1, 5, 2)
    ]
    cells.append(Cell(Sample([], 0.0, 7, 0.1, ["UNAVAILABLE"]), 9.0))
    figures = row(Key("ours", "unary", "tensor", 8), cells)
    assert (figures.rounds, figures.failures, figures.rps, figures.p50_ms) == (3, 1, 5.0, 2.0)
    assert (figures.server_cpu_us, figures.client_cpu_us) == (400.0, 100.0)
    assert text([figures]).splitlines()[2:] == [
        "| ours (1 failed) | unary | tensor | 8 | 5 | 2.00 | 2.00 | 2.00 | 400 | 100 | - |"
    ]


def test_overhead_is_what_is_left_beside_engine_and_floor() -> None:
    def cell(us: float) -> list[Cell]:
        return [Cell(Sample([1.0], 1.0, 1, 0.0), us / 1e6)]

    speeds = [EngineSpeed(1, 1.0, cpu_us=50.0), EngineSpeed(8, 1.0, cpu_us=30.0)]
    cells = {
        Key(FLOOR, "unary", "tensor", 1): cell(100.0),
        Key(FLOOR, "unary", "tensor", 8): cell(80.0),
        Key("ours", "unary", "tensor", 1): cell(200.0),
        Key(BARE, "unary", "tensor", 8): cell(150.0),
        Key("ours --batch-max 1", "unary", "tensor", 8): cell(150.0),
        Key("ours", "stream", "tensor", 8): cell(150.0),
        Key("ours", "unary", "jpeg", 8): cell(150.0),
    }
    overheads = [figures.overhead_us for figures in table.rows_of(speeds, cells)]
    assert [value and round(value) for value in overheads] == [None, None, 50, 40, 20, None, None]
