"""The plots of a run over time, and of latency over load, as figures."""

from dataclasses import replace

import numpy as np
import pytest

from loadtest.analysis.results import ServerSide
from loadtest.report.plot_style import PlotStyle
from loadtest.report.plots import distributions, load_curves
from loadtest.report.timeline import timeline
from loadtest.users.recorder import SAMPLE, STEADY, Samples
from tests.support.loadtest.cells import cell, closed


def calls(count: int, seconds: float = 2.0, begin: float = 10.0) -> Samples:
    """Calls of `a-x` in round 1, evenly spread; the first half take 1 ms, the second 3."""
    due = np.linspace(begin, begin + seconds, count)
    latency = np.where(np.arange(count) < count / 2, 0.001, 0.003)
    rows = np.array([(0, 0, 1, STEADY, 0, d, 0, x) for d, x in zip(due, latency, strict=True)], SAMPLE)
    return Samples(rows, ("a-x",), (closed(1).key,))


def traces(samples: Samples) -> dict[str, list[tuple[float, float]]]:
    """Points by what the traces' hover texts call them."""
    made = cell("a-x", server=ServerSide(1, 0.25, 1.5, None))
    figure = timeline([made], samples, PlotStyle([made]))
    words = ("p50", "p99", "compute", "queue", "noise probe", "the run itself", "others", "steal")
    assert len(figure.data) == len(words)
    return {
        word: [(x, y) for x, y in zip(trace.x, trace.y, strict=True) if x is not None]
        for word, trace in zip(words, figure.data, strict=True)
    }


def test_percentiles_are_of_each_second_where_it_has_enough_calls() -> None:
    drawn = traces(calls(1000))
    assert drawn["p50"] == drawn["p99"] == [(10.5, 1.0), (11.5, 3.0)]


def test_where_a_second_has_too_few_calls_they_are_of_longer() -> None:
    drawn = traces(calls(400))
    assert drawn["p50"] == [(10.5, 1.0), (11.5, 3.0)]
    assert drawn["p99"] == [(11.0, 3.0)]


def test_where_the_block_has_too_few_there_is_no_p99() -> None:
    assert traces(calls(100))["p99"] == []


def test_server_and_machine_are_drawn_where_the_block_lies() -> None:
    drawn = traces(calls(1000))
    assert drawn["compute"] == [(11.0, 1.5)]
    assert drawn["queue"] == [(11.0, 0.25)]
    assert drawn["noise probe"] == [(11.0, 30.0)]
    assert (drawn["the run itself"], drawn["others"], drawn["steal"]) == ([(11.0, 0.4)], [(11.0, 0.01)], [(11.0, 0.0)])


@pytest.mark.parametrize(
    ("reruns", "steady", "color"), [(0, True, "#64748b"), (1, True, "#d97706"), (1, False, "#b42318")]
)
def test_blocks_around_which_the_machine_changed_are_marked(reruns: int, steady: bool, color: str) -> None:
    made = cell("a-x")
    made = replace(made, rounds=(replace(made.rounds[0], reruns=reruns, steady=steady),))
    (probe,) = [
        trace for trace in timeline([made], calls(10), PlotStyle([made])).data if "noise probe" in trace.hovertemplate
    ]
    assert probe.marker.color == (color,)


def test_curves_go_through_the_loads_of_a_variant_and_need_two() -> None:
    cells = [cell("a-x", 20.0, rps=400.0, users=8), cell("a-x", 10.0, rps=200.0, users=1, generator_limit="thread")]
    figure = load_curves(cells, "closed", "p99", PlotStyle(cells))
    assert figure is not None
    (line,) = figure.data
    assert (line.x, line.y, line.text) == ((200.0, 400.0), (10.0, 20.0), ("1 user", "8 users"))
    assert line.marker.symbol == ("circle-open", "circle")
    assert load_curves(cells[:1], "closed", "p99", PlotStyle(cells)) is None
    assert load_curves(cells, "server", "p99", PlotStyle(cells)) is None


def test_distribution_and_tail_are_of_the_same_calls() -> None:
    made, samples = cell("a-x"), calls(4)
    (within,), (longer,) = (plot.data for plot in distributions([made], samples, PlotStyle([made])))
    assert within.x == longer.x == (1.0, 1.0, 3.0, 3.0)
    assert within.y == (0.25, 0.5, 0.75, 1.0)
    assert longer.y == (1.0, 0.75, 0.5, 0.25)
