"""The report of a made-up run as a page, and its plots in a browser."""

from pathlib import Path

import numpy as np
from selenium.webdriver import Chrome

from loadtest.analysis.results import Results
from loadtest.decision.decision import decide
from loadtest.report.page import write_report
from loadtest.users.recorder import SAMPLE, STEADY, Samples


def write(run: Results, folder: Path) -> Path:
    """The page of a run whose calls all took a millisecond."""
    variants = tuple(dict.fromkeys(cell.variant for cell in run.cells))
    loads = tuple(load.key for load in run.plan.loads)
    rows = [
        (variants.index(c.variant), loads.index(c.load.key), 1, STEADY, 0, i, 0, 0.001)
        for c in run.cells
        for i in range(10)
    ]
    samples = Samples(np.array(rows, SAMPLE), variants, loads)
    write_report(run, decide(run), samples, folder / "report.html")
    return folder / "report.html"


def draw_all(browser: Chrome) -> None:
    """Draws all plots of a page, those too that have not come into view."""
    browser.execute_script("for (const plot of plots) draw(plot)")
