"""The report's plots in a real browser: when they are drawn, where limits are, who stands out, and what is readable."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.wait import WebDriverWait

from loadtest.analysis.results import Results, Stretch
from loadtest.measure.host import Conditions
from tests.support.browser import open_page
from tests.support.loadtest.cells import cell, closed, comparison, results
from tests.support.loadtest.report_pages import draw_all, write
from tests.support.loadtest.runs import Run

WINNER, SECOND, FP32, SLOW, SILENT = (
    "int8-openvino",
    "int8-onnxruntime",
    "fp32-pytorch",
    "half-pytorch",
    "half-onnxruntime",
)
CONDITIONS = Conditions(5.0, steal=0.0, throttled_seconds=None, load=0.5, own=0.4, others=0.01)
PLOT = "const plot = document.getElementById(arguments[0]); stale.has(plot) && draw(plot);"


def made_up() -> Results:
    """Under either load a winner, one that is close to it, FP32, one that is too slow, and one with too few answers."""
    cells = [
        cell(name, None if p99 is None else p99 * users, accuracy, rps=rps * users, users=users)
        for users in (1, 2)
        for name, p99, accuracy, rps in (
            (WINNER, 4.0, 0.9935, 300.0),
            (SECOND, 5.0, 0.9934, 290.0),
            (FP32, 9.0, 0.9940, 100.0),
            (SLOW, 30.0, 0.9931, 30.0),
            (SILENT, None, 0.9932, 3.0),
        )
    ]
    shows = tuple(comparison(WINNER, SECOND, 1.1, "likely", users=users) for users in (1, 2))
    run = results(*cells, users=(1, 2), comparisons=shows)
    stretches = tuple(Stretch(closed(users), 1, 1, 9.0 * users, CONDITIONS, 0.03, {}) for users in (1, 2))
    return replace(run, stretches=stretches, plan=replace(run.plan, p99=20.0, max_drop=0.2))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(made_up(), tmp_path_factory.mktemp("plots"))


@pytest.fixture
def page(browser: Chrome, written: Path) -> Iterator[Chrome]:
    """The page, opened anew; nothing may have been said in the console when a test is done."""
    open_page(browser, written)
    yield browser
    assert browser.get_log("browser") == []


def shapes(page: Chrome, plot: str) -> dict[str, list[float]]:
    """Limits and feasible area of a plot: x0, x1, y0 and y1, the ends of an axis as they are written."""
    script = f"{PLOT} return plot.layout.shapes.map(({{name, x0, x1, y0, y1}}) => [name, [x0, x1, y0, y1]])"
    return dict(page.execute_script(script, plot))


def coloured(page: Chrome, plot: str) -> set[str]:
    """The variants of a plot that are not grey."""
    script = f"""{PLOT} return plot.data.filter(({{meta}}) => meta !== undefined)
        .filter(({{marker, line}}) => (line ?? marker).color !== OTHERS).map(({{meta}}) => meta)"""
    return set(page.execute_script(script, plot))


def traces(page: Chrome, plot: str) -> list[str]:
    found: list[str] = page.execute_script(f"{PLOT} return plot.data.map(({{meta}}) => meta)", plot)
    return found


def texts(page: Chrome, plot: str) -> list[str]:
    """What is written beside points and lines."""
    found: list[str] = page.execute_script(f"{PLOT} return plot.layout.annotations.map(({{text}}) => text)", plot)
    return found


def beside(page: Chrome, plot: str, selector: str) -> str:
    """The text of an element of a plot's card."""
    script = f"{PLOT} return plot.closest('.card').querySelector(arguments[1]).textContent"
    return str(page.execute_script(script, plot, selector))


def decide(page: Chrome, shown: str = "closed-2", picked: tuple[str, ...] = (), **limits: float) -> None:
    """Says to the page that the reader chose this and that the slow variant ships."""
    standings = [{"variant": SLOW, "place": "winner"}, {"variant": SECOND, "place": "ruled out"}]
    loads = [{"load": load, "standings": standings} for load in ("closed-1", "closed-2")]
    detail: dict[str, Any] = {"decision": {"loads": loads, "shown": shown}, "limits": limits}
    script = """document.dispatchEvent(new CustomEvent("decided", {
        detail: {...arguments[0], picked: new Set(arguments[1])}}))"""
    page.execute_script(script, detail, picked)


def repeated(page: Chrome) -> list[list[str]]:
    """Plots, axes and texts of ticks that stand twice on one axis."""
    draw_all(page)
    script = """return plots.flatMap((plot) => {
        const labels = [...plot.querySelectorAll("g[class$=tick]")].map((g) => g.getAttribute("class") + g.textContent);
        return labels.filter((label, i) => labels.indexOf(label) < i).map((label) => [plot.id, label]);
    })"""
    found: list[list[str]] = page.execute_script(script)
    return found


@pytest.mark.parametrize("plot", ["picture", "p99-closed-2", "p99-closed-1"])
def test_limits_are_drawn_where_they_are_and_what_meets_both_is_shaded(page: Chrome, plot: str) -> None:
    drawn = shapes(page, plot)
    assert drawn["limit"][:2] == [20.0, 20.0]
    assert drawn["floor"][2:] == pytest.approx([0.992, 0.992])
    left, right, low, high = drawn["feasible"]
    assert (right, low) == (20.0, pytest.approx(0.992))
    assert left < 1e-3 < 1 < high
    script = f"""{PLOT} const {{xaxis, yaxis, _size}} = plot._fullLayout, box = plot.getBoundingClientRect();
        const at = [...plot.querySelectorAll(".shapelayer path")].map((path) => path.getBoundingClientRect());
        const [limit, floor] = at.slice(-2);
        return [limit.x + limit.width / 2 - box.x - _size.l - xaxis.d2p(20),
                floor.y + floor.height / 2 - box.y - _size.t - yaxis.d2p(0.992)]"""
    assert page.execute_script(script, plot) == pytest.approx([0, 0], abs=1)


def test_limits_and_the_load_that_is_shown_follow_the_reader(page: Chrome) -> None:
    assert beside(page, "picture", "h3") == "Accuracy against p99, 2 users"
    decide(page, "closed-1", p99=6.0, rate=150.0)
    assert shapes(page, "picture").keys() == {"feasible", "limit"}
    assert shapes(page, "picture")["limit"][:2] == [6.0, 6.0]
    assert shapes(page, "rps-closed-1")["limit"][:2] == [150.0, 150.0]
    assert beside(page, "picture", "h3") == "Accuracy against p99, 1 user"
    decide(page)
    gone = "return document.querySelectorAll('#picture .shapelayer path').length === 0"
    WebDriverWait(page, 10).until(lambda _: page.execute_script(gone))


def test_a_limit_beyond_the_axis_is_told_at_its_end(page: Chrome) -> None:
    decide(page, p99=9000.0, max_drop=30.0)
    assert {"p99 limit 9000 ms →", "accuracy floor 69.4% ↓"} < {*texts(page, "picture")}


def test_winner_runner_up_and_fp32_stand_out_and_are_named(page: Chrome) -> None:
    named = {f"{WINNER} (winner)", f"{SECOND} (runner-up)", f"{FP32} (FP32)"}
    for plot in ("picture", "p99-closed-1", "rps-closed-2"):
        assert coloured(page, plot) == {WINNER, SECOND, FP32}
        assert named < {*texts(page, plot)}
    for plot in ("latency-closed-1", "curve-p99-closed", "timeline"):
        assert coloured(page, plot) == {WINNER, SECOND, FP32}
    ring = f"{PLOT} const ring = plot.data.at(-1); return [ring.marker.symbol, ring.x, ring.y]"
    assert page.execute_script(ring, "picture") == ["circle-open", [8.0], [0.9935]]
    decide(page)
    assert coloured(page, "timeline") == {SLOW, FP32}
    assert f"{SLOW} (winner)" in texts(page, "picture")


def test_picked_variants_have_the_colours_to_themselves(page: Chrome) -> None:
    decide(page, picked=(SECOND, SLOW))
    assert coloured(page, "picture") == coloured(page, "timeline") == {SECOND, SLOW}
    assert traces(page, "heat-closed-1") == [SECOND, SLOW]


def test_latency_over_time_is_of_the_variants_that_matter(page: Chrome) -> None:
    assert traces(page, "heat-closed-2") == [WINNER, SECOND, FP32]


def test_a_variant_that_a_plot_leaves_out_is_named_under_it(page: Chrome) -> None:
    said = f"Not in this chart: {SILENT} (no p99: 120 answers of 299 needed)."
    assert beside(page, "p99-closed-1", ".left-out") == beside(page, "picture", ".left-out") == said
    assert beside(page, "rps-closed-1", ".left-out") == ""


def test_the_legend_is_beside_a_wide_plot_and_below_a_narrow_one(page: Chrome) -> None:
    script = f"""{PLOT} const legend = plot.querySelector("g.legend").getBoundingClientRect();
        const area = plot.querySelector(".xy .bglayer, .bglayer .bg, .plot").getBoundingClientRect();
        return [legend.left >= area.right - 2, legend.top >= area.bottom - 2]"""
    assert page.execute_script(script, "timeline") == [True, False]
    page.execute_script(
        "document.querySelector('#timeline').style.width = '400px'; draw(document.querySelector('#timeline'))"
    )
    assert page.execute_script(script, "timeline") == [False, True]


def test_no_axis_has_the_same_label_twice(page: Chrome) -> None:
    assert repeated(page) == []


def test_a_plot_is_drawn_when_it_comes_into_view(browser: Chrome, written: Path) -> None:
    open_page(browser, written)
    drawn = "return document.getElementById(arguments[0]).querySelector('svg.main-svg') !== null"
    WebDriverWait(browser, 10).until(lambda _: browser.execute_script(drawn, "picture"))
    assert not browser.execute_script(drawn, "timeline")
    browser.execute_script("document.getElementById('timeline').scrollIntoView()")
    WebDriverWait(browser, 10).until(lambda _: browser.execute_script(drawn, "timeline"))


def test_on_paper_all_plots_are_drawn_one_in_a_row_and_none_overlaps(browser: Chrome, written: Path) -> None:
    open_page(browser, written)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    script = """return plots.map((plot) => plot.querySelector("svg.main-svg").getBoundingClientRect())
        .map(({left, top, bottom}) => [left, top, bottom]).sort((a, b) => a[1] - b[1])"""
    boxes = browser.execute_script(script)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(boxes) == 17
    assert len({left for left, _, _ in boxes}) == 1
    assert all(bottom <= top for (_, _, bottom), (_, top, _) in itertools.pairwise(boxes))


def test_the_page_of_a_real_run_is_light_and_its_labels_differ(run: Run, browser: Chrome) -> None:
    assert (run.out / "report.html").stat().st_size < 2e6
    open_page(browser, run.out / "report.html")
    assert repeated(browser) == []
    assert len(traces(browser, "heat-closed-1")) >= 1
