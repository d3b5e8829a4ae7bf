"""The plots of a run over time, and of latency over load, as figures."""

from dataclasses import replace

import numpy as np

from loadtest.analysis.results import ServerSide, Stretch
from loadtest.measure.host import Conditions
from loadtest.report.plots import distributions, load_curves
from loadtest.report.timeline import timeline
from loadtest.users.recorder import SAMPLE, STEADY, Samples
from protos.support.plots.style import shape
from tests.support.loadtest.cells import cell, closed, results


def calls(*rounds: int) -> Samples:
    """So many calls of `a-x` in each round; those of odd rounds take 1 ms, of even ones 3."""
    rows = np.zeros(sum(rounds), SAMPLE)
    rows["round"] = np.repeat(np.arange(1, len(rounds) + 1), rounds)
    rows["phase"], rows["latency"] = STEADY, np.where(rows["round"] % 2, 0.001, 0.003)
    return Samples(rows, ("a-x",), (closed(1).key,))


def stretch(number: int, users: int = 1) -> Stretch:
    """One round, of five seconds."""
    conditions = Conditions(5.0, steal=0.0, throttled_seconds=None, load=0.5, own=0.4, others=0.01)
    return Stretch(
        closed(users), number, number, 10.0 * number, conditions, 0.03, {"a-x": ServerSide(1, 0.25, 1.5, None)}
    )


def traces(samples: Samples, *stretches: Stretch) -> dict[str, list[tuple[float, float]]]:
    """Points by what the traces' hover texts call them."""
    made = replace(results(cell("a-x")), stretches=stretches)
    figure = timeline(made, samples)
    words = ("p50", "p99", "compute", "queue", "CPU-speed check", "the run itself", "others", "steal")
    assert len(figure.data) == len(words)
    return {
        word: [(x, y) for x, y in zip(trace.x, trace.y, strict=True) if x is not None]
        for word, trace in zip(words, figure.data, strict=True)
    }


def test_percentiles_are_of_each_stretch_where_it_has_enough_calls() -> None:
    drawn = traces(calls(300, 400), stretch(1), stretch(2))
    assert drawn["p50"] == drawn["p99"] == [(12.5, 1.0), (22.5, 3.0)]


def test_where_a_stretch_has_too_few_calls_they_are_of_several() -> None:
    drawn = traces(calls(200, 200, 10), stretch(1), stretch(2), stretch(3))
    assert drawn["p50"] == [(12.5, 1.0), (22.5, 3.0), (32.5, 1.0)]
    assert drawn["p99"] == [(17.5, 3.0)]


def test_where_the_run_has_too_few_there_is_no_p99() -> None:
    assert traces(calls(100), stretch(1))["p99"] == []


def test_stretches_of_another_load_are_no_calls_of_this_one() -> None:
    assert traces(calls(300), stretch(1), stretch(1, users=8))["p50"] == [(12.5, 1.0)]


def test_server_and_machine_are_drawn_where_the_stretch_lies() -> None:
    drawn = traces(calls(300), stretch(1))
    assert (drawn["compute"], drawn["queue"]) == ([(12.5, 1.5)], [(12.5, 0.25)])
    assert drawn["CPU-speed check"] == [(15.0, 30.0)]
    assert (drawn["the run itself"], drawn["others"], drawn["steal"]) == ([(12.5, 0.4)], [(12.5, 0.01)], [(12.5, 0.0)])


def test_curves_go_through_the_loads_of_a_variant_and_need_two() -> None:
    cells = [cell("a-x", 20.0, rps=400.0, users=8), cell("a-x", 10.0, rps=200.0, users=1, generator_limit="thread")]
    figure = load_curves(cells, "closed", "p99")
    assert figure is not None
    (line,) = figure.data
    assert (line.x, line.y, line.text) == ((200.0, 400.0), (10.0, 20.0), ("1 user", "8 users"))
    assert line.marker.symbol == (f"{shape('a').marker}-open", shape("a").marker)
    assert load_curves(cells[:1], "closed", "p99") is None
    assert load_curves(cells, "server", "p99") is None


def test_distribution_and_tail_are_of_the_same_calls() -> None:
    made, samples = cell("a-x"), calls(2, 2)
    (within,), (longer,) = (plot.data for plot in distributions([made], samples))
    assert [*within.x] == [*longer.x] == [1.0, 1.0, 3.0, 3.0]
    assert [*within.y] == [0.25, 0.5, 0.75, 1.0]
    assert [*longer.y] == [1.0, 0.75, 0.5, 0.25]
