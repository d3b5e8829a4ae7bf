"""`report.html`: one file that opens from disk, with no network, and answers which variant to ship.

The page is `report.html.j2` with its style sheet, its script and Plotly's own library written into it. What it says
comes from `Results`; distributions, the run over time and the breakdowns come from the raw samples. `report.md` and
`cells.csv` beside it say the same without plots (see `markdown`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import plotly.graph_objects as go
import plotly.offline
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from loadtest import stats
from loadtest.analysis.breakdown import PARTS, break_down, summary
from loadtest.analysis.decision import Constraints, Decision
from loadtest.analysis.ranking import Ranking, rank_cells
from loadtest.analysis.results import Cell, Results
from loadtest.analysis.validity import p99_frontier, throughput_frontier
from loadtest.plan import Load, Scenario
from loadtest.report import markdown, plots
from loadtest.report.flips import gallery
from loadtest.report.plot_style import PlotStyle
from loadtest.report.table import COLUMNS, confirmed
from loadtest.report.timeline import timeline
from loadtest.users.recorder import Samples
from protos.support import options

NO_ACCURACY = "The accuracy of the variants is not known: the server does not export it."
NO_SAMPLES = "No cell has enough samples."


@dataclass(frozen=True)
class Plot:
    """One plot of the page; where it cannot be drawn, `missing` says why."""

    id: str
    title: str
    json: Markup | None
    missing: str = ""


@dataclass(frozen=True)
class Group:
    """What the page shows for one load."""

    load: Load
    ranking: Ranking
    frontier: frozenset[str]
    plots: tuple[Plot, ...]
    breakdown: Plot
    saved: str
    """Where the fastest variant saves time, in words."""
    distributions: tuple[Plot, ...]
    busiest: Cell
    """The cell with the highest throughput."""


def write_report(results: Results, decision: Decision, samples: Samples, path: Path) -> None:
    """Renders the page of a run to `path`, and writes `report.md` and `cells.csv` beside it."""
    style = PlotStyle(results.cells)
    groups, seen = [_group(results, load, samples, style) for load in results.plan.loads], gallery(results)
    page = _template().render(
        results=results,
        variants=tuple(dict.fromkeys(cell.variant for cell in results.cells)),
        decision=decision,
        asked=asked(decision.constraints),
        no_frontier=_no_frontier(results.cells),
        groups=groups,
        size=_size(results.cells, style),
        curves=tuple(_curves(results.cells, style)),
        timeline=_plot("timeline", "What clients, server and machine saw", timeline(results.cells, samples, style)),
        gallery=seen,
        columns=[c for c in COLUMNS if c.percentile or any(c.value(cell) is not None for cell in results.cells)],
        style=style,
    )
    path.write_text(page, encoding="utf-8")
    path.with_name("cells.csv").write_text(markdown.cells_csv(results.cells), encoding="utf-8")
    rankings = [group.ranking for group in groups]
    text = markdown.markdown(results, decision, asked(decision.constraints), rankings, seen)
    path.with_suffix(".md").write_text(text, encoding="utf-8")


def _template() -> Template:
    """Returns the page's template with what is the same for every run."""
    environment = Environment(
        loader=PackageLoader("loadtest.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"show": _show, "toml": options.to_toml}
    environment.globals |= {
        "parts": PARTS,
        "stats": stats,
        "confirmed": confirmed,
        "css": _asset("report.css"),
        "script": _asset("report.js"),
        "plotly": Markup(plotly.offline.get_plotlyjs()),
    }
    return environment.get_template("report.html.j2")


def asked(constraints: Constraints) -> str:
    """Says what is asked for, in words; empty without constraints."""
    limits = {
        "p99 within {:g} ms": constraints.p99_ms,
        "{:g} requests per second": constraints.rate,
        "top-1 at most {:g} points below FP32": constraints.max_drop,
        "at most {:g} MB of memory": constraints.max_megabytes,
    }
    return ", ".join(words.format(limit) for words, limit in limits.items() if limit is not None)


def _no_frontier(cells: Sequence[Cell]) -> str:
    """Says why no cell is on a frontier."""
    if all(cell.facts.top1 is None for cell in cells):
        return "the server does not say how accurate its variants are"
    return "no cell is valid, see the warnings"


def _group(results: Results, load: Load, samples: Samples, style: PlotStyle) -> Group:
    mine = [cell for cell in results.cells if cell.load == load]
    ceiling = next((each for each in results.ceilings if each.load == load), None)
    by_p99, by_rate = p99_frontier(mine), throughput_frontier(mine)
    p99, rate = plots.accuracy_against_p99(mine, by_p99, style), plots.accuracy_against_throughput(mine, by_rate, style)
    split = [each for cell in mine if (each := break_down(cell, samples, ceiling))]
    within, longer = plots.distributions(mine, samples, style), plots.tails(mine, samples, style)
    bars = plots.breakdown_bars(split) if split else None
    return Group(
        load=load,
        ranking=rank_cells(mine, load),
        frontier=frozenset(cell.variant for cell in by_p99 + by_rate),
        plots=(
            _scatter(f"p99-{load.key}", "Accuracy against p99", p99, mine),
            _scatter(f"rps-{load.key}", "Accuracy against throughput", rate, mine),
        ),
        breakdown=_plot(f"time-{load.key}", load.name, bars, "No call succeeded in the steady state."),
        saved=summary(split),
        distributions=(
            _plot(f"latency-{load.key}", "Share of answers within a time", within),
            _plot(f"tail-{load.key}", "The tail: share that takes longer", longer),
        ),
        busiest=max(mine, key=lambda cell: cell.throughput_rps),
    )


def _size(cells: Sequence[Cell], style: PlotStyle) -> Plot:
    """Plots each variant once: its size is the same under every load."""
    once = list({cell.variant: cell for cell in cells}.values())
    if all(cell.facts.artifact_bytes is None for cell in once):
        return Plot("size", "Accuracy against size", None, "The size of the variants is not known: see the warnings.")
    return _scatter("size", "Accuracy against size", plots.accuracy_against_size(once, style), once)


def _curves(cells: Sequence[Cell], style: PlotStyle) -> Iterator[Plot]:
    titles = {"closed": "users", "server": "arrivals per second", "offline": "rows per request"}
    for scenario in get_args(Scenario):
        for percentile in ("p50", "p99"):
            drawn = plots.load_curves(cells, scenario, percentile, style)
            if drawn:
                title = f"{percentile} against throughput, over {titles[scenario]}"
                yield _plot(f"curve-{percentile}-{scenario}", title, drawn)


def _scatter(id_: str, title: str, drawn: go.Figure, cells: Sequence[Cell]) -> Plot:
    if all(cell.facts.top1 is None for cell in cells):
        return Plot(id_, title, None, NO_ACCURACY)
    if not any(len(trace.x) for trace in drawn.data if trace.mode == "markers"):
        return Plot(id_, title, None, NO_SAMPLES)
    return _plot(id_, title, drawn)


def _plot(id_: str, title: str, drawn: go.Figure | None, missing: str = "") -> Plot:
    """Returns a plot as JSON that cannot end the script element it stands in."""
    return Plot(id_, title, Markup(drawn.to_json().replace("<", "\\u003c")) if drawn else None, missing)


def _show(value: str | float | None, form: str) -> str:
    return "n/a" if value is None else form.format(value)


def _asset(name: str) -> Markup:
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8"))
