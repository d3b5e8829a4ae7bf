"""The first screen in a real browser: the answer, the limits that a reader moves, and the variants that he chooses."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from loadtest.analysis.comparison import Comparison
from loadtest.analysis.results import Cell, Results, ServerSide
from loadtest.measure.measurement import Stop
from loadtest.report.live import live_script
from tests.support.loadtest.cells import cell, closed, comparison, results
from tests.support.loadtest.report_pages import write

CELLS = (
    cell("fp32-pytorch", 18.0, 0.98, rps=120, megabytes=70),
    cell("int8-openvino", 3.0, 0.97, rps=350, megabytes=20),
    cell("half-pytorch", 9.0, 0.98, rps=200, megabytes=40),
    cell("fp32-pytorch", 90.0, 0.98, rps=130, users=8, megabytes=70),
    cell("int8-openvino", 16.0, 0.97, rps=500, users=8, megabytes=20),
    cell("half-pytorch", 40.0, 0.98, rps=260, users=8, megabytes=40),
)
RUN = results(*CELLS, users=(1, 8), comparisons=(comparison("int8-openvino", "half-pytorch", 1.7),))
ASKED = replace(RUN, plan=replace(RUN.plan, p99=20.0))
"""Asked for 20 ms, `int8-openvino` ships at 8 users."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(ASKED, tmp_path_factory.mktemp("first-screen")).as_uri()


@pytest.fixture
def page(browser: Chrome, written: str) -> Iterator[Chrome]:
    """The page as it was written; nothing may have been said in the console when a test is done."""
    if browser.current_url.partition("#")[0] != written:
        browser.get(written)
    told(browser, ASKED)
    yield browser
    assert browser.get_log("browser") == []


def find(browser: Chrome, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def words(browser: Chrome, selector: str) -> str:
    """What is written in the first element, hidden or not."""
    text: str = browser.execute_script("return document.querySelector(arguments[0]).textContent", selector)
    return " ".join(text.split())


def told(browser: Chrome, run: Results, **limits: float) -> str:
    """The card of a run, shown in the page of another."""
    data = live_script(replace(run, plan=replace(run.plan, **limits)))
    browser.execute_script(f"Object.assign(run, {data}); choose({{ limits: run.limits, picked: [] }})")
    return words(browser, "#answer")


def type_limit(browser: Chrome, name: str, text: str) -> None:
    (box,) = find(browser, f"#limits input[name={name}]")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(Keys.BACKSPACE, text)


def rows(browser: Chrome) -> list[str]:
    """The variants that the table of all measurements shows."""
    return [name.text for name in find(browser, "table.cells tbody .name") if name.is_displayed()]


def test_the_card_says_what_ships_why_and_how_sure_that_is(page: Chrome) -> None:
    winner = cell("int8-openvino", 9.0, 0.94, rps=450, users=8, server=ServerSide(1, 0.1, 1.0, 900.0, None, 2.5))
    winner = replace(winner, facts=replace(winner.facts, artifact_bytes=11_300_000))
    second, slow = (cell(f"{name}-x", 9.5, 0.93, users=8, rps=400) for name in ("next", "slow"))
    shows = (
        comparison("int8-openvino", "next-x", 1.21, "likely", users=8),
        comparison("int8-openvino", "slow-x", 4.0, users=8),
    )
    card = told(page, results(winner, second, slow, users=(8,), comparisons=shows), p99=20.0)
    assert "Ship int8-openvino at 8 users2.25 ms p50" in card
    assert "9.00 ms p99 (8.10 to 9.90)" in card
    assert "450 requests/s94.00% top-111.30 MB on disk" in card
    assert "3 of 3 variants meet every limit at 8 users; of these it answers the most requests per second." in card
    sure = "How sure: every limit is met with 95% confidence; 1 of the 2 others is clearly slower, with 95% confidence"
    assert f"{sure} in all together; next-x may be as fast." in card
    runner_up = "Runner-up: next-x: p99 9.50 ms and 400 requests/s at 8 users, top-1 93.00%; takes 1.21 times"
    assert runner_up in card
    assert "fp32 by openvino; 2.5 rows in each run of the engine on average; 900 µs of server CPU" in card


@pytest.mark.parametrize(
    ("small", "shows", "why"),
    [
        (True, comparison("a-x", "b-x", 1.1, "likely", "p99"), "but it is not clearly faster, and b-x is smaller."),
        (False, comparison("b-x", "a-x", 1.4, figure="p50"), "but compared round by round it is clearly slower."),
    ],
)
def test_a_winner_that_is_not_the_fastest_is_explained(page: Chrome, small: bool, shows: Comparison, why: str) -> None:
    fast, other = cell("a-x", 2.0), cell("b-x", 2.1)
    other = replace(other, facts=replace(other.facts, artifact_bytes=10 if small else 1000))
    run = replace(results(fast, other, cell("fp32-pytorch", 9.0)), comparisons=(shows,))
    assert f"Of these a-x has the lowest p99, {why}" in told(page, run, max_drop=9.0)


def test_doubts_about_the_winner_are_in_the_card(page: Chrome) -> None:
    card = told(page, results(cell("a-x", 8.0)), p99=8.5)
    assert "It is the only variant, and meets every limit at 1 user." in card
    assert "How sure: p99 at 1 user is 8.00 ms (7.20 to 8.80), not 95% sure." in card
    card = told(page, results(cell("a-x", None, megabytes=5), cell("b-x", megabytes=90)), max_memory=9.0)
    assert "n/a p99: not enough samples (120 of 299)" in card
    assert "It is the only one of 2 variants that meets every limit at 1 user." in card


def test_limits_other_than_those_a_run_was_stopped_early_for_are_less_sure(page: Chrome) -> None:
    stop = Stop("half-pytorch", closed(8), 9, "40.00 ms", 0.01)
    assert "less is sure" not in told(page, replace(ASKED, stops=(stop,)))
    type_limit(page, "max_drop", "0.5")
    assert "less is sure" in words(page, "#answer")


def test_a_card_without_a_winner_says_what_comes_nearest(page: Chrome) -> None:
    card = told(page, results(cell("a-x", 30.0), cell("b-x", 25.0)), p99=20.0)
    assert card.startswith("No variant meets every limit at 1 user.Nearest: b-x: p99 25.00 ms and")
    assert "5.00 more than the 20 allowed." in card


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (cell("a-x", quality=None), "the server does not say how accurate its variants are"),
        (cell("a-x", generator_limit="thread"), "no measurement is valid, see the warnings"),
    ],
)
def test_an_empty_frontier_says_why(page: Chrome, made: Cell, why: str) -> None:
    assert told(page, results(made)) == f"No answer: {why}."


def test_without_limits_the_frontier_of_each_load_is_told_until_one_is_typed(page: Chrome) -> None:
    card = told(page, RUN)
    assert "no variant is ruled out" in card
    assert "1 userint8-openvinop99 3.00 ms and 350 requests/s at 1 user, top-1 97.00%, " in card
    assert "the fastest.half-pytorchp99 9.00 ms" in card
    assert "8 usersint8-openvinop99 16.00 ms" in card
    assert find(page, "#loads details") == []
    type_limit(page, "max_memory", "50")
    assert words(page, "#answer").startswith("Ship int8-openvino at 1 user")
    assert len(find(page, "#loads details")) == 2


def test_each_load_has_a_table_of_variants_and_limits_and_the_reasons(page: Chrome) -> None:
    one, eight = find(page, "#loads details")
    assert (one.get_attribute("open"), eight.get_attribute("open")) == (None, "true")
    heads = "variant p99 within 20 ms verdict"
    table = [
        heads,
        "int8-openvino 16.00 (14.40 to 17.60) met ships",
        "half-pytorch 40.00 (36.00 to 44.00) broken ruled out",
    ]
    assert eight.text.split("\n")[:4] == ["8 users: ship int8-openvino", *table]
    missed = "p99 at 8 users is 40.00 ms (36.00 to 44.00), 20.00 more than the 20 allowed"
    assert f"Why not the others\nhalf-pytorch: {missed}" in eight.text
    assert words(page, "#loads details summary") == "1 user: ship int8-openvino"
    assert "half-pytorch: takes 1.70 times as long per answer (1.30 to 2.22), clear" in words(page, "#loads .reasons")


def test_typing_a_limit_decides_anew_and_tells_all_that_listen(page: Chrome) -> None:
    page.execute_script("document.addEventListener('decided', ({ detail }) => { window.heard = detail; })")
    type_limit(page, "max_drop", "0.5")
    assert words(page, "#answer").startswith("Ship half-pytorch at 1 user")
    assert words(page, "#loads details[open] summary") == "1 user: ship half-pytorch"
    heard = page.execute_script("return [heard.decision.shown, heard.limits, [...heard.picked]]")
    limits = {"p99": 20, "rate": None, "max_drop": 0.5, "max_memory": None, "max_size": None}
    assert heard == ["closed-1", limits, []]
    type_limit(page, "max_drop", "")
    assert words(page, "#answer").startswith("Ship int8-openvino at 8 users")
    loaded = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_the_address_keeps_limits_and_variants_and_a_page_opened_with_it_shows_them(page: Chrome, written: str) -> None:
    type_limit(page, "p99", "")
    type_limit(page, "max_memory", "45.5")
    for variant in ("half-pytorch", "fp32-pytorch"):
        page.execute_script("pick(arguments[0])", variant)
    address, card = page.current_url, words(page, "#answer")
    assert address == f"{written}#p99=&max_memory=45.5&only=half-pytorch&only=fp32-pytorch"
    page.get("about:blank")
    page.get(address)
    assert words(page, "#answer") == card
    values = [box.get_attribute("value") for box in find(page, "#limits input")]
    assert values == ["", "", "", "45.5", ""]
    assert set(rows(page)) == {"half-pytorch", "fp32-pytorch"}
    find(page, "#limits button")[0].click()
    assert page.current_url == f"{written}#only=half-pytorch&only=fp32-pytorch"
    assert not find(page, "#limits button")[0].is_enabled()
    assert words(page, "#answer").startswith("Ship int8-openvino at 8 users")


def test_an_address_is_followed_and_what_it_says_wrongly_is_left_out(page: Chrome) -> None:
    page.execute_script("location.hash = '#p99=-4&max_size=x&rate=1e999&max_drop=0.5&only=nobody&only=fp32-pytorch'")
    WebDriverWait(page, 5).until(lambda _: words(page, "#answer").startswith("Ship half-pytorch at 1 user"))
    assert page.execute_script("return [chosen.limits, [...chosen.picked]]") == [
        {"p99": None, "rate": None, "max_drop": 0.5, "max_memory": None, "max_size": None},
        ["fp32-pytorch"],
    ]


def test_a_link_to_a_section_leaves_limits_and_address(page: Chrome) -> None:
    type_limit(page, "max_drop", "0.5")
    address = page.current_url
    page.execute_script("document.querySelector('nav a[href=\"#how\"]').click()")
    assert page.current_url == address
    assert page.execute_script("return scrollY") > 300
    assert words(page, "#answer").startswith("Ship half-pytorch")


def test_names_and_the_menu_choose_several_variants_and_escape_shows_all(page: Chrome) -> None:
    page.execute_script("document.querySelector('#loads [data-pick=\"int8-openvino\"]').click()")
    assert set(rows(page)) == {"int8-openvino"}
    Select(find(page, "#menu")[0]).select_by_visible_text("fp32-pytorch")
    assert set(rows(page)) == {"int8-openvino", "fp32-pytorch"}
    assert words(page, "#filtered b") == "int8-openvino, fp32-pytorch"
    assert page.execute_script("return document.querySelector('#menu').selectedOptions[0].text") == "2 variants"
    page.execute_script("document.querySelector('.cells [data-pick=\"fp32-pytorch\"]').click()")
    assert set(rows(page)) == {"int8-openvino"}
    assert page.execute_script("return document.querySelector('#menu').value") == "int8-openvino"
    reasons = page.execute_script("return [...document.querySelectorAll('.reasons')].map((each) => each.hidden)")
    assert reasons == [True, True]
    find(page, "body")[0].send_keys(Keys.ESCAPE)
    assert len(rows(page)) == len(CELLS)
    assert not find(page, "#filtered")[0].is_displayed()
