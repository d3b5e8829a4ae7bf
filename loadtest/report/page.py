"""`report.html`: one file that opens from disk, with no network, and answers which variant to ship.

The page is `web/report.html.j2` with its sections, style sheets, scripts and Plotly's library in it. What it says
comes from `Results`; distributions, the run over time and the breakdowns come from the raw samples. Its first screen
decides anew when a reader moves a limit (see `live`). `report.md` and `measurements.csv` beside it say the same without
plots (see `markdown`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
import plotly.offline
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from loadtest import stats
from loadtest.analysis.breakdown import PARTS, break_down, summary
from loadtest.analysis.grouped_warning import split
from loadtest.analysis.max_rates import fastest
from loadtest.analysis.ranking import Ranking, by_p50, rank_cells
from loadtest.analysis.results import Cell, Results
from loadtest.analysis.validity import p99_frontier, throughput_frontier, title_of
from loadtest.decision.capacity import PRICE, capacities, default_rate, page_data
from loadtest.decision.decision import Decision
from loadtest.generator.opinion import sentences
from loadtest.measure.measurement import OBJECT_LEVELS
from loadtest.plan import Scenario
from loadtest.report import markdown, plots, search_plot
from loadtest.report.flips import gallery
from loadtest.report.heatmap import latency_over_time
from loadtest.report.live import in_script, live_script
from loadtest.report.table import COLUMNS, SEARCH_COLUMNS, TERMINAL, search_row, titled
from loadtest.report.timeline import timeline
from loadtest.users.recorder import Samples
from protos.support import options, significance
from protos.support.plots.bundle import cut

NEARLY_ALL = 0.75
"""No badge where more than this share of the measurements would bear it."""
WEB = "web"
"""The folder of templates, style sheets and scripts."""


@dataclass(frozen=True)
class Plot:
    """One plot of the page; where it cannot be drawn, `missing` says why."""

    id: str
    title: str
    json: Markup | None
    missing: str = ""
    left_out: str = ""
    """The variants that it does not show, with the reasons."""


def write_report(results: Results, decision: Decision, samples: Samples, path: Path) -> None:
    """Renders the page of a run to `path`, and writes `report.md` and `measurements.csv` beside it."""
    cells, seen = results.cells, gallery(results)
    by_size = plots.accuracy_against_size(cells)
    rankings = [rank_cells(results, load) for load in results.plan.loads]
    page = _template().render(
        results=results,
        variants=tuple(dict.fromkeys([c.variant for c in cells] + [s.variant for s in results.searches])),
        fastest=fastest(results.searches),
        trials=tuple(_trials(results)),
        decision=decision,
        metric=title_of(cells),
        live=live_script(results),
        groups=[_group(results, ranking, samples) for ranking in rankings],
        picture=Plot("picture", "Accuracy against p99", Markup("null")),
        size=_scatter(
            "size", "Accuracy against size", by_size, cells, "size", "The size of the variants is not known."
        ),
        curves=tuple(_curves(cells)),
        timeline=_plot("timeline", "What clients, server and machine saw", timeline(results, samples)),
        gallery=seen,
        levels=OBJECT_LEVELS,
        lacking=[level for level in OBJECT_LEVELS if level not in {each.level for each in results.objects}],
        failed=tuple(results.failure_texts),
        opinions=tuple(sentences(results.second_opinion)),
        columns=[c for c in titled(COLUMNS, cells) if c.share or any(c.value(cell) is not None for cell in cells)],
        brief=(*TERMINAL, title_of(cells)),
        badges=_badges(cells),
        winners=_winners(decision),
        capacities=capacities(results),
        capacity_data=page_data(results),
        capacity_rate=f"{default_rate(results, decision):.10g}",
        capacity_price=PRICE,
    )
    path.write_text(page, encoding="utf-8")
    path.with_name("measurements.csv").write_text(markdown.measurements_csv(results), encoding="utf-8")
    path.with_suffix(".md").write_text(markdown.markdown(results, decision, rankings, seen), encoding="utf-8")


def _template() -> Template:
    """Returns the page's template with what is the same for every run."""
    loader = PackageLoader("loadtest.report", WEB)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"show": _show, "toml": options.to_toml}
    environment.globals |= {"parts": PARTS, "stats": stats, "significance": significance, "search_row": search_row}
    environment.globals |= {"search_columns": SEARCH_COLUMNS, "split_warnings": split}
    environment.globals |= {"plotly": Markup(cut(plotly.offline.get_plotlyjs())), "inline": _inline}
    return environment.get_template("report.html.j2")


def _inline(name: str) -> Markup:
    """Returns a style sheet or a script of the page, to be written into it."""
    return Markup((Path(__file__).parent / WEB / name).read_text(encoding="utf-8"))


def _group(results: Results, ranking: Ranking, samples: Samples) -> dict[str, object]:
    """Returns what the page shows for one load."""
    load = ranking.load
    mine = [cell for cell in results.cells if cell.load == load]
    ceiling = next((each for each in results.ceilings if each.load == load), None)
    split = [each for cell in mine if (each := break_down(cell, samples, ceiling))]
    within, longer = plots.distributions(mine, samples)
    by_p99, by_rate = plots.accuracy_against_p99(mine), plots.accuracy_against_throughput(mine)
    bars, heat = plots.breakdown_bars(split) if split else None, latency_over_time(results, load, samples)
    silent = plots.absent(mine, "answers")
    return {
        "load": load,
        "ranking": ranking,
        "cells": by_p50(mine),
        "frontier": {cell.variant for cell in _frontier(mine)},
        "plots": (
            _scatter(f"p99-{load.key}", "Accuracy against p99", by_p99, mine, "p99"),
            _scatter(f"rps-{load.key}", "Accuracy against throughput", by_rate, mine, "throughput"),
        ),
        "breakdown": _plot(f"time-{load.key}", load.name, bars, "No call succeeded in the steady state.", silent),
        "parts": [part for each in split for part in each.parts],
        "saved": summary(split),
        "distributions": (
            _plot(f"latency-{load.key}", "Share of answers within a time", within, left_out=silent),
            _plot(f"tail-{load.key}", "The tail: share that takes longer", longer, left_out=silent),
        ),
        "over_time": _plot(f"heat-{load.key}", "Latency over time", heat, "No slice was measured.", silent),
        "busiest": max(mine, key=lambda cell: cell.throughput_rps),
    }


def _frontier(cells: Sequence[Cell]) -> list[Cell]:
    """Returns the measurements of one load that are on either frontier."""
    return p99_frontier(cells) + throughput_frontier(cells)


def _badges(cells: Sequence[Cell]) -> set[str]:
    """Returns the badges that tell measurements apart: one of nearly all says nothing, and a warning says it once."""
    loads = {cell.load for cell in cells}
    best = [each for load in loads for each in _frontier([cell for cell in cells if cell.load == load])]
    bearers = {
        "frontier": len({(cell.variant, cell.load) for cell in best}),
        "generator": sum(cell.generator_limited for cell in cells),
        "failures": sum(cell.failures > 0 for cell in cells),
    }
    return {badge for badge, count in bearers.items() if count <= NEARLY_ALL * len(cells)}


def _winners(decision: Decision) -> dict[str, str]:
    """Returns the winner under each load by the load's key, and under the one that decides by an empty one."""
    shown = {"": decision.shown} if decision.shown else {}
    loads = {each.load.key: each for each in decision.loads} | shown
    return {key: each.winner.variant for key, each in loads.items() if each.winner}


def _trials(results: Results) -> Iterator[Plot]:
    """Yields a plot of the trials of each search."""
    for number, search in enumerate(results.searches):
        drawn = search_plot.trials(search) if search.found.trials else None
        yield _plot(f"trials-{number}", search.variant, drawn, "No rate was tried: one call alone takes too long.")


def _curves(cells: Sequence[Cell]) -> Iterator[Plot]:
    units: dict[Scenario, str] = {"closed": "users", "server": "arrivals per second", "offline": "rows per request"}
    percentiles: tuple[plots.Percentile, ...] = ("p50", "p99")
    for scenario, unit in units.items():
        for percentile in percentiles:
            if drawn := plots.load_curves(cells, scenario, percentile):
                lacking = plots.absent_points(cells, scenario, percentile)
                title = f"{percentile} against throughput, over {unit}"
                yield _plot(f"curve-{percentile}-{scenario}", title, drawn, left_out=lacking)


def _scatter(
    id_: str,
    title: str,
    drawn: go.Figure,
    cells: Sequence[Cell],
    what: plots.What,
    empty: str = "No measurement has enough samples.",
) -> Plot:
    """Returns a plot of accuracy; `empty` says why there are no points in it, where accuracy is known."""
    if all(cell.facts.quality is None for cell in cells):
        empty = "The accuracy of the variants is not known: the server does not export it."
    shown = drawn if any(trace.mode == "markers" for trace in drawn.data) else None
    once = [*{cell.variant: cell for cell in cells}.values()]
    return _plot(id_, title, shown, empty, plots.absent(once, what) if shown else "")


def _plot(id_: str, title: str, drawn: go.Figure | None, missing: str = "", left_out: str = "") -> Plot:
    return Plot(id_, title, in_script(drawn.to_json()) if drawn else None, missing, left_out)


def _show(value: str | float | None, form: str) -> str:
    return "n/a" if value is None else form.format(value)
