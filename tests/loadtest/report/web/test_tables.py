"""Tables of the report in a real browser: their width, their winner, what a filter leaves, capacity, and warnings."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from loadtest.analysis.results import Results
from loadtest.client.failures import Failure
from loadtest.measure.measurement import Search
from loadtest.measure.rate_search import Found, Objective
from tests.support.browser import open_page
from tests.support.loadtest.cells import NO_SERVER, cell, comparison, results
from tests.support.loadtest.report_pages import write

LONG = "channels50-int8-clustered-onnxruntime"
BEYOND = """
const wide = (element) => element.getBoundingClientRect().right > innerWidth + 1 && element.getClientRects().length;
return [...document.querySelectorAll("nav select, main *")].filter(wide)
  .filter((element) => !element.parentElement.closest(".scroll, .plot, pre")).map((element) => element.outerHTML);
"""
"""What is cut at the right edge: not what scrolls inside its card."""
SPILT = """
return [...document.querySelectorAll("main table td:first-child")]
  .filter((name) => name.scrollWidth > name.clientWidth + 1).map((name) => name.textContent);
"""
"""Names that run into the next column."""


def page_of(run: Results, folder: Path, **constraints: float) -> Path:
    """The page of a run under constraints."""
    return write(replace(run, plan=replace(run.plan, **constraints)), folder)


def made_up() -> Results:
    """Three variants under two loads with p99 within 20 ms in mind: one wins both, one fails, one was searched."""
    cpu = replace(NO_SERVER, cpu_us_per_request=1250.0)
    failed = replace(cell("fp32-x", 40.0, rps=80.0, failures=2), failure_texts=(Failure("UNAVAILABLE", "gone", 2),))
    cells = (
        cell("int8-x", 9.0, rps=300.0, megabytes=50, server=cpu),
        cell("int8-x", 12.0, rps=400.0, users=8, megabytes=50, generator_limit="thread"),
        cell(LONG, 15.0, rps=250.0, megabytes=40),
        cell(LONG, 18.0, rps=260.0, users=8, megabytes=40),
        failed,
        cell("fp32-x", None, rps=90.0, users=8),
    )
    found = Search(LONG, Objective(20.0), Found(333.3, 350.0, (340.0, 360.0), "p99", ()))
    shows = [comparison("int8-x", other, 1.5, users=users) for other in (LONG, "fp32-x") for users in (1, 8)]
    return replace(results(*cells, users=(1, 8), comparisons=tuple(shows)), searches=(found,))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(made_up(), tmp_path_factory.mktemp("made-up"), p99=20.0)


@pytest.fixture
def page(browser: Chrome, written: Path) -> Iterator[Chrome]:
    """The made-up page as it is when it was just opened; nothing may be said in the console."""
    open_page(browser, written)
    yield browser
    browser.execute_script("choose({ limits: run.limits, picked: [] })")
    assert browser.get_log("browser") == []


@contextmanager
def as_wide_as(browser: Chrome, width: int, media: str = "screen") -> Iterator[None]:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    try:
        browser.refresh()
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def find(browser: Chrome, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def test_on_a_phone_nothing_is_cut_and_only_tables_scroll_sideways(page: Chrome) -> None:
    with as_wide_as(page, 390):
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
        assert page.execute_script(BEYOND) == []
        assert page.execute_script(SPILT) == []
        left = "return arguments[0].getBoundingClientRect().left"
        (card,) = find(page, ".scroll:has(> .cells)")
        page.execute_script("arguments[0].scrollLeft = 300", card)
        assert page.execute_script("return arguments[0].scrollLeft", card) == 300
        first, second = find(page, ".cells tbody tr:first-child td")[:2]
        assert page.execute_script(left, first) == pytest.approx(page.execute_script(left, card), abs=2)
        assert page.execute_script(left, second) < page.execute_script(left, card)


def test_on_a_phone_a_menu_leads_to_each_section(page: Chrome) -> None:
    (menu,) = find(page, "#sections")
    assert not menu.is_displayed()
    with as_wide_as(page, 390):
        (menu,) = find(page, "#sections")
        assert not any(link.is_displayed() for link in find(page, "nav a"))
        for words, section in (("Measurements", "measurements"), ("Capacity", "capacity"), ("Decision", "decision")):
            Select(menu).select_by_visible_text(words)
            top = page.execute_script(f"return document.getElementById('{section}').getBoundingClientRect().top")
            assert 0 <= top < 200
        known = {link.get_attribute("hash") for link in find(page, "nav a")}
        assert {f"#{option.get_attribute('value')}" for option in Select(menu).options[1:]} == known


def test_on_paper_tables_fit_the_sheet_with_fewer_columns(page: Chrome) -> None:
    with as_wide_as(page, 718, "print"):  # 190 mm
        assert page.execute_script(BEYOND) == []
        (table,) = find(page, "table.cells")
        assert page.execute_script("return arguments[0].getBoundingClientRect().right", table) <= 718
        headings = [heading.text for heading in find(page, ".cells th") if heading.is_displayed()]
        always = ["variant", "load", "p99 ms", "rps", "top-1", "p50 ms", "p95 ms"]
        assert headings == [*always, "generator CPU", "failures"]


def choose(browser: Chrome, **limits: float) -> None:
    """Moves limits, as a reader does on the first screen."""
    browser.execute_script("choose({ limits: arguments[0] })", limits)


def marked(browser: Chrome, table: str) -> list[tuple[str, str]]:
    rows = find(browser, f"{table} tr[data-wins]")
    return [(str(row.get_attribute("data-variant")), str(row.get_attribute("data-load"))) for row in rows]


def test_the_winner_is_marked_in_tables_and_anew_when_another_is_decided(page: Chrome) -> None:
    assert marked(page, ".cells") == [("int8-x", "closed-1"), ("int8-x", "closed-8")]
    assert marked(page, "#capacity-table") == [("int8-x", "")]
    color = "return getComputedStyle(document.querySelector(arguments[0])).backgroundColor"
    won, lost = (page.execute_script(color, f".cells tr{kind} td") for kind in ("[data-wins]", ":not([data-wins])"))
    assert won != lost
    choose(page, max_memory=45)
    assert marked(page, ".cells") == [(LONG, "closed-1"), (LONG, "closed-8")]
    assert marked(page, "#capacity-table") == [(LONG, "")]


def test_a_filter_leaves_no_empty_table_and_no_stray_label(page: Chrome) -> None:
    headings = ("failures", "rates", "slowdown", "capacity", "measurements")
    assert all(find(page, f"#{heading}")[0].is_displayed() for heading in headings)
    (name,) = [each for each in find(page, "#capacity-table .name") if each.text == "int8-x"]
    page.execute_script("arguments[0].click()", name)
    assert [find(page, f"#{heading}")[0].is_displayed() for heading in headings] == [False, False, True, True, True]
    shown = [table for table in find(page, "main table:has([data-variant])") if table.is_displayed()]
    assert len(shown) >= 4
    assert all(table.find_elements(By.CSS_SELECTOR, "[data-variant]:not([hidden])") for table in shown)
    (left_out,) = [each.text for each in find(page, "p.left-out[data-of-variants]") if each.is_displayed()]
    assert left_out.startswith("Not compared: int8-x (limited by the generator")
    assert "fp32-x" not in left_out


def test_what_is_not_known_says_why(page: Chrome) -> None:
    (row,) = [row for row in find(page, ".cells tbody tr") if row.text.startswith("fp32-x") and "8 users" in row.text]
    (p99,) = row.find_elements(By.CSS_SELECTOR, "td:nth-child(3) abbr")
    assert (p99.text, p99.get_attribute("title")) == ("n/a", "too few samples: 120, 299 needed")


def capacity(browser: Chrome) -> dict[str, list[str]]:
    """The cells of the capacity table that are computed, by variant, in their order."""
    return {
        str(row.get_attribute("data-variant")): [
            each.get_attribute("textContent") or "" for each in row.find_elements(By.CSS_SELECTOR, "[data-is]")
        ]
        for row in find(browser, "#capacity-table tbody tr")
    }


def give(browser: Chrome, **values: object) -> None:
    script = """
    const input = document.querySelector("#capacity-inputs").elements[arguments[0]];
    input.value = arguments[1];
    input.dispatchEvent(new Event("input", { bubbles: true }));
    """
    for name, value in values.items():
        browser.execute_script(script, name, value)


def test_capacity_is_computed_for_the_rate_and_the_price_that_are_given(page: Chrome) -> None:
    rate = "return document.querySelector('#capacity-inputs').elements.rate.value"
    assert page.execute_script(rate) == "400"  # the winner's throughput
    give(page, rate=1000, price=0.5)
    assert capacity(page) == {
        "int8-x": ["at most 0.833", "at most 3", "at most 6", "at most 150", "at least 400", "8 users, p99 12.00 ms"],
        LONG: ["1.11", "4", "8", "160", "333", "--find-max-rate, p99 20.00 ms"],
        "fp32-x": ["n/a"] * 6,
    }
    assert [*capacity(page)] == ["int8-x", LONG, "fp32-x"]  # the cheapest first
    assert find(page, "#capacity-table tr:last-child abbr")[0].get_attribute("title") == (
        "no measurement has a p99 within 20 ms"
    )
    give(page, rate=260)
    assert capacity(page)[LONG][:4] == ["1.07", "1", "2", "40"]
    give(page, rate="", price="")
    assert capacity(page)[LONG] == ["n/a", "n/a", "n/a", "n/a", "333", "--find-max-rate, p99 20.00 ms"]
    cpu = [row.find_elements(By.TAG_NAME, "td")[-1].text for row in find(page, "#capacity-table tbody tr")]
    assert cpu[0] == "1.250"


def test_another_p99_changes_the_rate_that_a_server_carries(page: Chrome) -> None:
    choose(page, p99=10, rate=600)
    assert capacity(page)["int8-x"][1:] == ["2", "4", "100", "300", "1 user, p99 9.00 ms"]
    assert capacity(page)[LONG] == ["n/a"] * 6


def test_a_server_on_another_machine_is_asked_for_its_vcpus(browser: Chrome, tmp_path: Path) -> None:
    run = made_up()
    open_page(browser, page_of(replace(run, plan=replace(run.plan, target="elsewhere:1")), tmp_path, p99=20.0))
    assert capacity(browser)[LONG][:4] == ["n/a", "2", "n/a", "80"]
    give(browser, cores=4)
    assert capacity(browser)[LONG][1:4] == ["2", "8", "80"]


def test_warnings_are_one_line_for_each_cause_and_their_details_folded(page: Chrome) -> None:
    (banner,) = find(page, ".warnings")
    assert banner.text.splitlines() == [
        "3 warnings",
        "Calls failed in 1 of 6 measurements (fp32-x at 1 user, 2 of 1000: 2 UNAVAILABLE, most often: gone): see What"
        " failed in the report, and the server's log",
        "The load generator may have been the limit in 1 of 6 measurements (int8-x at 8 users, its thread used 97% of"
        " a core): put the load generator on a machine of its own, or ask for less load",
        "Too few samples for p99 in 1 of 6 measurements (fp32-x at 8 users, 120 of 299): raise --duration",
    ]
    page.execute_script("arguments[0].open = true", find(page, ".warnings details")[0])
    assert "fp32-x 1 user 2 of 1000: 2 UNAVAILABLE, most often: gone" in " ".join(banner.text.split())


@pytest.mark.parametrize(("limited", "badges"), [(3, 3), (4, 0)])
def test_no_badge_is_on_nearly_all_measurements(limited: int, badges: int, browser: Chrome, tmp_path: Path) -> None:
    names = "abcd"
    cells = [cell(f"{name}-x", generator_limit="thread" if i < limited else None) for i, name in enumerate(names)]
    open_page(browser, page_of(results(*cells), tmp_path))
    assert (len(find(browser, ".cells .badge.bad")), len(find(browser, ".cells tr.bad"))) == (badges, badges)
    said = f"The load generator may have been the limit in {limited} of 4 measurements"
    assert find(browser, ".warnings")[0].text.count(said) == 1


@pytest.mark.parametrize("width", [1280, 1800])
def test_tables_use_the_width_of_the_page(width: int, page: Chrome) -> None:
    with as_wide_as(page, width):
        (card,) = find(page, ".scroll:has(> .cells)")
        assert card.size["width"] >= min(width, 1760) - 60
