"""The plot of a search's trials."""

import pytest

from loadtest.measure.measurement import Search
from loadtest.measure.rate_search import Found, Objective, Trial
from loadtest.report.search_plot import trials

TRIALS = (
    Trial(80.0, 80.0, 1000, 0, 10.0, False),
    Trial(120.0, 120.0, 1000, 0, 40.0, False),
    Trial(200.0, 200.0, 90, 0, None, False, ended_early=True),
    Trial(400.0, 300.0, 1000, 2, 25.0, False),
)


def found(crossing: float | None, interval: tuple[float, float] | None) -> Search:
    return Search("a-x", Objective(20.0), Found(75.0, crossing, interval, "p99", TRIALS))


def test_each_trial_is_a_point_under_what_it_showed() -> None:
    drawn = {trace.name: [*zip(trace.x, trace.y, strict=True)] for trace in trials(found(100.0, (90.0, 110.0))).data}
    assert drawn == {"holds": [(80, 10)], "broken": [(120, 40), (200, 40)], "proves nothing": [(400, 25)]}


def test_a_point_says_how_its_trial_ended() -> None:
    _, broken, nothing = trials(found(None, None)).data
    assert broken.text == ("p99 40.00 ms of 1,000 calls", "too few calls for a p99 of 90 calls; ended early")
    assert nothing.text == ("p99 25.00 ms of 1,000 calls, 2 failed",)


@pytest.mark.parametrize(("crossing", "interval", "lines"), [(100.0, (90.0, 110.0), 3), (None, None, 1)])
def test_limit_crossing_and_interval_are_marked_where_they_are_known(
    crossing: float | None, interval: tuple[float, float] | None, lines: int
) -> None:
    shapes = trials(found(crossing, interval)).layout.shapes
    assert len(shapes) == lines
    assert (shapes[0].y0, shapes[0].y1) == (20, 20)
    if interval:
        assert (shapes[1].x0, shapes[1].x1, shapes[2].x0) == (*interval, crossing)
