"""`report.html` in a real browser, from disk: what it draws, what it says, and that it needs no network."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from loadtest.recorder import SAMPLE, STEADY, Samples
from loadtest.report import write_report
from loadtest.results import Results
from tests.browser import chromium, open_page
from tests.loadtest.cells import cell, results
from tests.loadtest.conftest import Run


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


def rendered(browser: Chrome, folder: Path, run: Results) -> str:
    """The text of the page of a run whose calls all took a millisecond."""
    variants = tuple(dict.fromkeys(cell.variant for cell in run.cells))
    loads = tuple(load.key for load in run.plan.loads)
    rows = [
        (variants.index(c.variant), loads.index(c.load.key), 1, STEADY, 0, i, 0, 0.001)
        for c in run.cells
        for i in range(10)
    ]
    write_report(run, Samples(np.array(rows, SAMPLE), variants, loads), folder / "report.html")
    return open_page(browser, folder / "report.html")


def column(browser: Chrome, index: int) -> list[str]:
    selector = f"table.cells tbody td:nth-child({index})"
    return [found.text for found in browser.find_elements(By.CSS_SELECTOR, selector)]


def sort_by(browser: Chrome, title: str) -> None:
    buttons = browser.find_elements(By.CSS_SELECTOR, "table.cells th button")
    (button,) = [button for button in buttons if button.text.split() == title.split()]
    button.click()


def test_every_plot_of_a_real_run_is_drawn(run: Run, browser: Chrome) -> None:
    open_page(browser, run.out / "report.html")
    plots = browser.find_elements(By.CSS_SELECTOR, ".plot")
    assert [plot.get_attribute("id") for plot in plots] == [
        f"{p}-closed-{u}" for u in (1, 4) for p in ("p99", "rps", "latency")
    ]
    for plot in plots:
        assert plot.find_elements(By.CSS_SELECTOR, "svg.main-svg .trace")


def test_the_page_loads_nothing_but_itself(run: Run, browser: Chrome) -> None:
    open_page(browser, run.out / "report.html")
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_a_click_on_a_heading_sorts_by_it_and_a_second_turns_the_order(browser: Chrome, tmp_path: Path) -> None:
    rendered(browser, tmp_path, results(cell("b-x", 10.0), cell("c-x", None), cell("a-x", 9.0), cell("d-x", 100.0)))
    sort_by(browser, "p99 ms")
    assert column(browser, 7) == ["9.00", "10.00", "100.00", "n/a (900 samples)"]
    sort_by(browser, "p99 ms")
    assert column(browser, 7) == ["100.00", "10.00", "9.00", "n/a (900 samples)"]
    sort_by(browser, "variant")
    assert [name.split()[0] for name in column(browser, 1)] == ["a-x", "b-x", "c-x", "d-x"]


def test_the_sorted_column_is_marked_for_screen_readers(browser: Chrome, tmp_path: Path) -> None:
    rendered(browser, tmp_path, results(cell("a-x"), cell("b-x")))
    sort_by(browser, "load")
    headings = browser.find_elements(By.CSS_SELECTOR, "table.cells th")
    assert [heading.get_attribute("aria-sort") for heading in headings[:3]] == ["none", "ascending", "none"]


def test_the_answer_names_the_fastest_variant_within_a_point(browser: Chrome, tmp_path: Path) -> None:
    text = rendered(
        browser, tmp_path, results(cell("fp32-pytorch", 8.0, 0.98, rps=100), cell("int8-openvino", 2.0, 0.975, rps=450))
    )
    assert "Fastest within 1 point of FP32: int8-openvino" in text
    assert "answers 4.5 times as many requests, its p99 is 4.0 times lower" in text


def test_a_faster_variant_that_could_not_be_judged_is_named_beside_the_answer(browser: Chrome, tmp_path: Path) -> None:
    cells = [
        cell("fp32-pytorch", 8.0, 0.98),
        cell("int8-openvino", 1.5, 0.98, generator_limited=True),
        cell("int8-pytorch", 4.0, 0.98),
        cell("int8-onnxruntime", None, 0.98),
    ]
    text = rendered(browser, tmp_path, results(*cells))
    assert "Fastest within 1 point of FP32: int8-pytorch" in text
    assert "int8-openvino could not be judged: limited by the generator, p99 at most 1.50 ms." in text
    assert "int8-onnxruntime could not be judged: too few samples." in text


def test_a_baseline_that_wins_is_said_to_be_unbeaten_only_if_all_others_were_judged(
    browser: Chrome, tmp_path: Path
) -> None:
    claim, baseline = "No compressed variant is faster and as accurate.", cell("fp32-pytorch", 8.0, 0.98)
    assert claim in rendered(browser, tmp_path, results(baseline, cell("int8-openvino", 9.0, 0.98)))
    assert claim in rendered(browser, tmp_path, results(baseline, cell("a-x", 1.0, 0.9, generator_limited=True)))
    for rest in (cell("a-x", 9.0, 0.98, generator_limited=True), cell("a-x", None, 0.98), cell("a-x", failures=1)):
        text = rendered(browser, tmp_path, results(baseline, replace(rest, facts=baseline.facts)))
        assert claim not in text
        assert "None of the compressed variants that could be judged is faster and as accurate." in text


def test_a_baseline_that_could_not_be_judged_is_compared_with_nothing(browser: Chrome, tmp_path: Path) -> None:
    cells = [cell("fp32-pytorch", 8.0, 0.98, generator_limited=True), cell("int8-openvino", 2.0, 0.98)]
    text = rendered(browser, tmp_path, results(*cells))
    assert (
        "fp32-pytorch, the FP32 baseline, could not be judged: limited by the generator, p99 at most 8.00 ms." in text
    )
    assert "times as many requests" not in text


def test_unknown_accuracy_is_said_where_the_plots_would_be(browser: Chrome, tmp_path: Path) -> None:
    text = rendered(browser, tmp_path, results(cell("v1", top1=None)))
    assert "No answer: the server does not say how accurate its variants are." in text
    assert text.count("The accuracy of the variants is not known: the server does not export it.") == 2
    assert [plot.get_attribute("id") for plot in browser.find_elements(By.CSS_SELECTOR, ".plot")] == [
        "latency-closed-1"
    ]


def test_a_generator_limited_cell_is_badged_and_not_on_the_frontier(browser: Chrome, tmp_path: Path) -> None:
    cells = [cell("fp32-pytorch", 8.0, 0.98), cell("int8-openvino", 1.0, 0.99, rps=999, generator_limited=True)]
    text = rendered(browser, tmp_path, results(*cells))
    badges = [badge.text for badge in browser.find_elements(By.CSS_SELECTOR, "table.cells .badge")]
    assert badges == ["frontier", "generator limit"]
    assert "the load generator's thread used 97% of a core in round 2" in text


def test_what_a_server_calls_itself_is_text_and_never_markup(browser: Chrome, tmp_path: Path) -> None:
    evil = "</script><script>document.title='broken'</script>"
    run = replace(results(cell(f"{evil}-x", top1=0.9)), server=evil)
    assert evil in rendered(browser, tmp_path, run)
    assert browser.title == "toy: which variant to ship"


def test_a_cell_without_a_single_success_does_not_break_the_page(browser: Chrome, tmp_path: Path) -> None:
    text = rendered(browser, tmp_path, results(cell("fp32-pytorch", None, 0.98, rps=0.0, failures=1000)))
    assert text.count("No cell has enough samples.") == 2
    assert "1000 of 1000 calls failed (1000 UNAVAILABLE)" in text
