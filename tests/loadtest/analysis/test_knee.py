"""Where a curve of latency over throughput bends."""

from loadtest.analysis.knee import knee
from loadtest.analysis.results import Cell
from tests.support.loadtest.cells import cell


def loads(*figures: tuple[float, float | None]) -> list[Cell]:
    """Cells of one variant by rising load: throughput, and a p50 in milliseconds that is a quarter of the p99."""
    return [cell("a-x", p50 and 4 * p50, rps=rps, users=2**i) for i, (rps, p50) in enumerate(figures)]


def test_the_knee_is_where_throughput_over_latency_is_highest() -> None:
    line = loads((100, 10), (190, 11), (200, 20), (201, 40))  # 10, 17, 10 and 5 per ms
    assert knee(line) is line[1]


def test_a_curve_that_falls_from_the_first_load_has_its_knee_there() -> None:
    line = loads((100, 10), (110, 20), (111, 40))
    assert knee(line) is line[0]


def test_a_curve_that_still_rises_and_one_of_two_loads_have_none() -> None:
    assert knee(loads((100, 10), (200, 11), (400, 12))) is None
    assert knee(loads((100, 10), (101, 20))) is None
