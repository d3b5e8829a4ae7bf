"""`report.html`: what it says, and in a real browser, from disk: what it draws, sorts and filters, with no network."""

from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from loadtest.analysis.results import Results, ServerSide, Stretch
from loadtest.measure.accuracy import Accuracy
from loadtest.measure.host import Conditions
from loadtest.measure.measurement import Ceiling, ObjectLatency, Search
from loadtest.measure.rate_search import Found, Objective, Trial
from loadtest.tasks.classification import ClassFlip
from loadtest.tasks.detection import ObjectFlip
from protos.telemetry import Stage
from tests.support.browser import open_page
from tests.support.loadtest.cells import cell, closed, comparison, results
from tests.support.loadtest.report_pages import draw_all, write
from tests.support.loadtest.runs import Run

FACE = (10.0, 10.0, 30.0, 30.0)
CONDITIONS = Conditions(5.0, steal=0.0, throttled_seconds=None, load=0.5, own=0.4, others=0.01)
EVIL = "</script><script>document.title='broken'</script>"


class Text(HTMLParser):
    """What a reader sees of a page, its script and styles left out."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words, self.hidden = list[str](), 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.hidden += tag in ("script", "style", "nav")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style", "nav")

    def handle_data(self, data: str) -> None:
        self.words += [] if self.hidden else data.split()


def text(run: Results, folder: Path) -> str:
    return " ".join(Text(write(run, folder).read_text()).words)


def test_p50_is_compared_with_the_fastest_and_sorted_by(tmp_path: Path) -> None:
    shows = (comparison("a-x", "b-x", 4.0, figure="p50"),)
    cells = cell("b-x", 8.0), cell("a-x", 2.0), cell("c-x", generator_limit="thread")
    page = text(results(*cells, comparisons=shows), tmp_path)
    assert "1 user variant p50 ms slowdown a-x 0.50 b-x 2.00 4.00 (2.00 to 8.00), clear" in page
    assert (
        "Not compared: c-x (limited by the generator (its thread was busy for more than 90% of the time), p99" in page
    )


def test_unknown_accuracy_is_said_where_the_plots_would_be(tmp_path: Path) -> None:
    page = text(results(cell("v1", quality=None)), tmp_path)
    assert page.count("The accuracy of the variants is not known: the server does not export it.") == 3


def test_an_unknown_size_is_said_where_its_plot_would_be(tmp_path: Path) -> None:
    made = cell("v1")
    page = text(results(replace(made, facts=replace(made.facts, artifact_bytes=None))), tmp_path)
    assert page.count("The size of the variants is not known.") == 1


def test_a_cell_without_a_single_success_does_not_break_the_page(tmp_path: Path) -> None:
    page = text(results(cell("fp32-pytorch", None, 0.98, rps=0.0, failures=1000)), tmp_path)
    assert page.count("No measurement has enough samples.") == 2
    assert "(fp32-pytorch at 1 user, 1000 of 1000: 1000 UNAVAILABLE)" in page


def test_no_name_of_a_variant_ends_the_script_element_that_its_plots_stand_in(tmp_path: Path) -> None:
    evil, good = (write(results(cell(f"{name}-x")), tmp_path).read_text() for name in (EVIL, "int8"))
    assert evil.count("<script") == good.count("<script")


def test_the_way_in_is_told_where_it_is_known(tmp_path: Path) -> None:
    run = results(cell("a-x"))
    told = text(replace(run, way_in="ModelInfer by pygrpc-native"), tmp_path)
    assert "way in ModelInfer by pygrpc-native inputs golden" in told
    assert "way in ModelInfer" not in text(run, tmp_path)


def test_the_legend_names_the_parts_of_the_bars_and_no_others(tmp_path: Path) -> None:
    stages: dict[Stage, float] = {"receive": 0.01, "decode": 0.02, "respond": 0.03, "encode": 0.04}
    told = cell("a-x", server=ServerSide(1, 0.1, 0.6, 900.0, 0.8, None, stages))
    page = text(results(told), tmp_path)
    assert "receive measured: parsing the request decode measured: checking it" in page
    assert "processing measured" not in page
    untold = text(results(cell("a-x", server=ServerSide(1, 0.1, 0.6, 900.0, 0.8))), tmp_path)
    assert "processing measured: the rest of the server's handler" in untold
    assert "receive measured" not in untold


def test_the_plan_is_shown_as_its_file(tmp_path: Path) -> None:
    assert 'target = "localhost:1" model = "toy"' in text(results(cell("a-x")), tmp_path)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("localhost:1", "100 requests/s by a-x, it took 0.75 of 2 cores and left 1.25"),
        ("elsewhere:1", "everything: the server has a machine of its own"),
    ],
)
def test_what_the_generator_leaves_for_the_server_is_told(tmp_path: Path, target: str, words: str) -> None:
    run = results(cell("a-x"))
    run = replace(run, plan=replace(run.plan, target=target), ceilings=(Ceiling(closed(1), 6000.0, 0.15, 142.0),))
    page = text(run, tmp_path)
    assert "1 user 6,000 0.15 142" in page
    assert words in page


def test_a_detector_s_page_tells_objects_and_average_precision(tmp_path: Path) -> None:
    flips = (ObjectFlip(3, 0, FACE, True, FACE, None), ObjectFlip(3, 0, FACE, False, None, FACE))
    accuracy = Accuracy("int8-x", 12, "ap", 0.912, 0.912 + 1e-7, flips, {}, None)
    accuracy = replace(accuracy, interval=(0.9, 0.925), drop_interval=(-0.001, 0.0123))
    by_objects = (
        ObjectLatency("int8-x", 1, 1, 3, 8, 400, 2.5, 3.75),
        ObjectLatency("int8-x", 10, 9, 9, 1, 20, 4.0, None),
    )
    run = replace(results(cell("int8-x", 9.0, 0.912, metric="ap")), accuracy=(accuracy,), objects=by_objects)
    page = text(replace(run, plan=replace(run.plan, repository=tmp_path / "none")), tmp_path)
    assert "variant images AP AP at build lost gained AP, 95% points below FP32, 95%" in page
    assert "int8-x 12 91.20% 91.20% 1 1 90.00 to 92.50 -0.10 to 1.23" in page
    assert "int8-x: 1 lost, 1 gained class lost gained class 0 1 1 2 more in" in page
    assert "int8-x 1 1 to 3 8 400 2.50 3.75 int8-x 10 9 1 20 4.00 n/a" in page
    assert "The test split has no images with about 0 or 100 objects." in page
    assert "top-1" not in page
    assert "| int8-x | 1 to 3 | 400 | 2.50 | 3.75 |" in (tmp_path / "report.md").read_text()


def searched() -> Results:
    """A run that only searched: one variant that was narrowed, and one that nothing was tried of."""
    shown = [(80.0, 10.0, False), (100.0, 19.0, False), (101.0, 30.0, False), (125.0, None, True), (50.0, 40.0, False)]
    trials = tuple(Trial(rate, rate, 1000, 0, p99, False, early) for rate, p99, early in shown)
    found = (Found(90.0, 100.5, (95.0, 106.0), "p99", trials), Found(None, None, None, "p99", ()))
    searches = (Search(name, Objective(20.0), each) for name, each in zip(("int8-x", "fp32-x"), found, strict=True))
    run = results(users=())
    plan = replace(run.plan, find_max_rate=True, p99=20.0, repository=Path("none"))
    return replace(run, plan=plan, searches=tuple(searches))


def test_a_run_that_only_searched_names_the_variant_with_the_highest_rate(tmp_path: Path) -> None:
    page = text(searched(), tmp_path)
    said = "half of the trials hold at 100.5 (95% interval 95 to 106), rely on 90"
    assert "2 variants served by" in page
    assert f"int8-x carries the highest rate per second: {said}." in page
    assert "int8-x 90.0 100.5 95.0 to 106.0 p99 5, of which 1 contradicts fp32-x none n/a n/a p99 0" in page
    assert "No rate was tried" in page
    assert "Slowdown against the fastest" not in page
    exported = (tmp_path / "report.md").read_text()
    assert f"**int8-x** carries the highest rate per second: {said}." in exported
    assert "| int8-x | 90.0 | 100.5 | 95.0 to 106.0 | p99 | 5, of which 1 contradicts |" in exported
    assert "## All measurements" not in exported


def test_a_run_in_which_no_rate_held_names_no_variant(tmp_path: Path) -> None:
    run = searched()
    assert "No answer: no rate held for any variant." in text(replace(run, searches=run.searches[1:]), tmp_path)


def made_up(repository: Path) -> Results:
    """Three variants under two loads: one is limited by the generator, one was checked and flipped an image."""
    cells = [
        replace(made, facts=replace(made.facts, artifact_bytes=size))
        for users in (1, 8)
        for made, size in (
            (cell("fp32-pytorch", 100.0, 0.98, users=users, server=ServerSide(1, 0.1, 0.6, 900.0, 0.8)), 4000),
            (cell("int8-openvino", 9.0, 0.97, users=users, rps=300.0), 1000),
            (
                cell(
                    "int8-onnxruntime",
                    None,
                    0.97,
                    users=users,
                    rps=999.0,
                    generator_limit="thread" if users == 8 else None,
                ),
                1100,
            ),
        )
    ]
    run = results(*cells, users=(1, 8))
    flipped = Accuracy(
        "int8-openvino", 12, "top1", 0.75, 0.75, (ClassFlip(1, 1, 1, 0), ClassFlip(3, 1, 0, 1)), {}, None
    )
    return replace(
        run,
        server=EVIL,
        stretches=tuple(Stretch(closed(users), 1, 1, 9.0 * users, CONDITIONS, 0.03, {}) for users in (1, 8)),
        plan=replace(run.plan, repository=repository, check_accuracy=True),
        accuracy=(flipped,),
        ceilings=tuple(Ceiling(closed(users), 6000.0, 0.15, 142.0) for users in (1, 8)),
    )


@pytest.fixture
def page(browser: Chrome, written: Path) -> Iterator[Chrome]:
    """The made-up page as a reader opens it; nothing may have been said in the console when a test is done."""
    if browser.current_url != written.as_uri():
        open_page(browser, written)
        draw_all(browser)
    yield browser
    browser.execute_script("pick('')")
    assert browser.get_log("browser") == []


@pytest.fixture(scope="module")
def written(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(made_up(repository), tmp_path_factory.mktemp("made-up"))


def find(browser: Chrome, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def names(browser: Chrome) -> list[str]:
    """The variants of the table's rows that are shown."""
    return [name.text for name in find(browser, "table.cells tbody .name") if name.is_displayed()]


def coloured(browser: Chrome, plot: str) -> set[str]:
    """The variants of a plot that are not greyed."""
    script = """const plot = document.getElementById(arguments[0]);
        stale.has(plot) && draw(plot);
        return plot.data.filter(t => t.meta !== undefined).filter(t => (t.opacity ?? 1) === 1).map(t => t.meta)"""
    return set(browser.execute_script(script, plot))


def sort_by(browser: Chrome, title: str) -> None:
    (button,) = [each for each in find(browser, "table.cells th button") if each.text.split() == title.split()]
    button.click()


PLOTS = [
    "picture",
    *(f"{kind}-closed-{users}" for users in (1, 8) for kind in ("p99", "rps")),
    *("size", "time-closed-1", "time-closed-8", "curve-p50-closed", "curve-p99-closed"),
    *(f"{kind}-closed-{users}" for users in (1, 8) for kind in ("latency", "tail", "heat")),
    "timeline",
]


def drawn(browser: Chrome) -> list[str]:
    """The plots in which at least one trace is drawn."""
    traces = "svg.main-svg .trace, svg.main-svg .hm"
    return [
        str(plot.get_attribute("id")) for plot in find(browser, ".plot") if plot.find_elements(By.CSS_SELECTOR, traces)
    ]


def test_every_plot_of_a_real_run_is_drawn_and_nothing_is_loaded(run: Run, browser: Chrome) -> None:
    open_page(browser, run.out / "report.html")
    draw_all(browser)
    few = ("picture", "p99-", "curve-p99")  # a slow machine has too few answers for a p99
    shown = [plot for plot in drawn(browser) if not plot.startswith(few)]
    assert shown == [plot.replace("closed-8", "closed-4") for plot in PLOTS if not plot.startswith(few)]
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_the_trials_of_a_search_are_drawn(browser: Chrome, tmp_path: Path) -> None:
    open_page(browser, write(searched(), tmp_path))
    draw_all(browser)
    assert drawn(browser) == ["trials-0"]


def test_every_plot_of_made_up_cells_is_drawn(page: Chrome) -> None:
    assert drawn(page) == PLOTS


def test_a_click_on_a_heading_sorts_by_it_and_a_second_turns_the_order(page: Chrome) -> None:
    def p99() -> list[str]:
        return [row.text for row in find(page, "table.cells tbody td:nth-child(3)")]

    sort_by(page, "p99 ms")
    assert p99() == ["9.00"] * 2 + ["100.00"] * 2 + ["n/a"] * 2
    sort_by(page, "p99 ms")
    assert p99() == ["100.00"] * 2 + ["9.00"] * 2 + ["n/a"] * 2
    sort_by(page, "variant")
    assert names(page) == [name for name in ("fp32-pytorch", "int8-onnxruntime", "int8-openvino") for _ in range(2)]
    sort_by(page, "load")
    headings = [heading.get_attribute("aria-sort") for heading in find(page, "table.cells th")[:3]]
    assert headings == ["none", "ascending", "none"]


def test_a_click_on_a_point_filters_the_page_and_there_is_a_way_back(page: Chrome) -> None:
    place = "return document.getElementById('size').data.findIndex(t => t.meta === 'int8-openvino')"
    (point,) = find(page, f"#size .scatterlayer .trace:nth-child({page.execute_script(place) + 1}) .point")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(page).move_to_element(point).pause(0.3).click().perform()
    WebDriverWait(page, 5).until(lambda _: find(page, "#filtered")[0].is_displayed())
    assert names(page) == ["int8-openvino"] * 2
    assert find(page, "#filtered")[0].text.startswith("Shown: int8-openvino")
    for plot in PLOTS:
        assert coloured(page, plot) == {"int8-openvino"}
    find(page, "#filtered button")[0].click()
    assert len(names(page)) == 6
    assert coloured(page, "timeline") == {"int8-openvino", "fp32-pytorch"}
    assert not find(page, "#filtered")[0].is_displayed()


def test_a_cell_that_the_generator_limited_is_red_and_hollow(page: Chrome) -> None:
    (row,) = find(page, "table.cells tr.bad")
    assert row.text.split("\n")[0].startswith("int8-onnxruntime")
    assert "generator thread" in row.text
    script = """return Object.fromEntries(document.getElementById('rps-closed-8').data
        .filter(trace => trace.meta !== undefined).map(trace => [trace.meta, trace.marker.symbol]))"""
    symbols = {"fp32-pytorch": "circle", "int8-openvino": "square", "int8-onnxruntime": "square-open"}
    assert page.execute_script(script) == symbols


def test_images_of_flips_are_drawn_when_their_list_is_opened(page: Chrome) -> None:
    (listed,) = find(page, "details.flips")
    images = listed.find_elements(By.TAG_NAME, "img")
    assert [image.get_attribute("src") for image in images] == [None, None]
    page.execute_script("arguments[0].open = true", listed)
    WebDriverWait(page, 5).until(lambda _: page.execute_script("return arguments[0].naturalWidth", images[1]) == 4)
    assert "green → red" in listed.text
    assert "red → green" in listed.text


def test_a_phone_does_not_scroll_sideways(page: Chrome) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        page.refresh()
        draw_all(page)
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
        answer, limits = (find(page, selector)[0].rect["y"] for selector in ("#answer", "#limits"))
        assert answer < limits
        assert answer < 400
        assert all(box.rect["x"] + box.rect["width"] <= 390 for box in find(page, "#limits input"))
        assert drawn(page) == PLOTS
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_in_dark_mode_the_page_is_dark_and_its_plots_are_on_its_cards(page: Chrome) -> None:
    style = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    preference = {"name": "prefers-color-scheme", "value": "dark"}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [preference]})
    try:
        assert page.execute_script(style, "body", "backgroundColor") == "rgb(15, 23, 42)"
        assert page.execute_script(style, "#size svg.main-svg", "backgroundColor") == "rgba(0, 0, 0, 0)"
        assert page.execute_script(style, "#size .xtick text", "fill") == "rgb(182, 194, 211)"
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_plots_are_as_wide_as_a_printed_sheet_and_then_as_before(page: Chrome) -> None:
    width = "return document.querySelector('#timeline svg.main-svg').clientWidth"
    draw_all(page)
    before = page.execute_script(width)
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert page.execute_script(width) < 720 < before  # 190 mm are 718 pixels
    page.execute_script("dispatchEvent(new Event('afterprint'))")
    assert page.execute_script(width) == before


def test_what_a_server_calls_itself_is_text_and_never_markup(page: Chrome) -> None:
    assert EVIL in find(page, "main")[0].text
    assert page.title == "toy: which variant to ship"
