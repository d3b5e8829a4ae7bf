"""Latency over time, as a figure."""

from dataclasses import replace

import numpy as np

from loadtest.analysis.results import Stretch
from loadtest.measure.host import Conditions
from loadtest.report.heatmap import MOST_COLUMNS, ROWS, latency_over_time
from loadtest.users.recorder import SAMPLE, STEADY, Samples
from tests.support.loadtest.cells import cell, closed, results

LATENCIES = {1: (0.001, 0.001, 0.001, 0.1), 2: (0.01, 0.01)}
"""Seconds that the calls of each round took."""


def stretch(number: int) -> Stretch:
    """One round, of five seconds."""
    conditions = Conditions(5.0, steal=0.0, throttled_seconds=None, load=0.5, own=0.4, others=0.01)
    return Stretch(closed(1), number, number, 10.0 * number, conditions, 0.03, {})


def calls(latencies: dict[int, tuple[float, ...]]) -> Samples:
    rows = np.zeros(sum(map(len, latencies.values())), SAMPLE)
    rows["round"] = np.repeat([*latencies], [*map(len, latencies.values())])
    rows["phase"], rows["latency"] = STEADY, np.concatenate([*latencies.values()])
    return Samples(rows, ("a-x", "b-x"), (closed(1).key,))


def test_each_stretch_is_a_column_of_shares_and_a_variant_without_calls_is_none() -> None:
    run = replace(results(cell("a-x"), cell("b-x")), stretches=(stretch(1), stretch(2)))
    figure = latency_over_time(run, closed(1), calls(LATENCIES))
    assert figure is not None
    (drawn,) = figure.data
    assert (drawn.meta, drawn.x, len(drawn.y)) == ("a-x", (10.0, 20.0, 25.0), ROWS + 1)
    rows, columns = np.nonzero(drawn.z)
    assert [*zip(columns.tolist(), drawn.z[rows, columns].tolist(), strict=True)] == [(0, 750), (1, 1000), (0, 250)]
    middles = [np.sqrt(drawn.y[row] * drawn.y[row + 1]) for row in rows]
    assert np.allclose(middles, [1, 10, 100], rtol=0.1)


def test_many_stretches_share_columns() -> None:
    rounds = MOST_COLUMNS + 1
    run = replace(results(cell("a-x")), stretches=tuple(map(stretch, range(1, rounds + 1))))
    figure = latency_over_time(run, closed(1), calls(dict.fromkeys(range(1, rounds + 1), (0.001, 0.002))))
    assert figure is not None
    assert figure.data[0].z.shape == (ROWS, 21)
    assert {*figure.data[0].z.sum(axis=0)} == {1000}


def test_a_load_without_a_stretch_has_no_heatmap() -> None:
    assert latency_over_time(results(cell("a-x")), closed(1), calls(LATENCIES)) is None
