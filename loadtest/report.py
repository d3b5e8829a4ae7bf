"""`report.html`: one file that opens from disk, with no network, and answers which variant to ship.

The page is `report.html.j2` with its style sheet, its script and Plotly's own library written into it.
What it says comes from `Results`; the distributions come from the raw samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
import plotly.offline
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from loadtest import figures, stats
from loadtest.columns import COLUMNS
from loadtest.plan import Load
from loadtest.recorder import Samples
from loadtest.results import Cell, Results
from loadtest.verdict import POINTS, Verdict, doubt, p99_frontier, throughput_frontier, verdict


@dataclass(frozen=True)
class Plot:
    """One figure of the page; where it cannot be drawn, `missing` says why."""

    id: str
    title: str
    figure: Markup | None
    missing: str = ""


@dataclass(frozen=True)
class Group:
    """What the page shows for one load."""

    load: Load
    verdict: Verdict
    frontier: frozenset[str]
    plots: tuple[Plot, ...]
    distributions: Plot


def write_report(results: Results, samples: Samples, path: Path) -> None:
    """Renders the page of a run to `path`."""
    environment = Environment(
        loader=PackageLoader("loadtest", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["show"] = _show
    look = figures.Look(results.cells)
    page = environment.get_template("report.html.j2").render(
        results=results,
        groups=[_group(results.cells, load, samples, look) for load in results.plan.loads],
        columns=COLUMNS,
        look=look,
        points=POINTS,
        doubt=doubt,
        stats=stats,
        css=_asset("report.css"),
        script=_asset("report.js"),
        plotly=Markup(plotly.offline.get_plotlyjs()),
    )
    path.write_text(page, encoding="utf-8")


def _group(cells: Sequence[Cell], load: Load, samples: Samples, look: figures.Look) -> Group:
    mine = [cell for cell in cells if cell.load == load]
    best = p99_frontier(mine) + throughput_frontier(mine)
    return Group(
        load=load,
        verdict=verdict(mine, load),
        frontier=frozenset(cell.variant for cell in best),
        plots=(
            _plot(f"p99-{load.key}", "Accuracy against p99", figures.accuracy_against_p99(mine, look), mine),
            _plot(
                f"rps-{load.key}", "Accuracy against throughput", figures.accuracy_against_throughput(mine, look), mine
            ),
        ),
        distributions=Plot(
            f"latency-{load.key}", "Latency distributions", _json(figures.latency_distributions(mine, samples, look))
        ),
    )


def _plot(id_: str, title: str, figure: go.Figure, cells: Sequence[Cell]) -> Plot:
    if all(cell.facts.top1 is None for cell in cells):
        return Plot(id_, title, None, "The accuracy of the variants is not known: the server does not export it.")
    if not any(len(trace.x) for trace in figure.data if trace.mode == "markers"):
        return Plot(id_, title, None, "No cell has enough samples.")
    return Plot(id_, title, _json(figure))


def _json(figure: go.Figure) -> Markup:
    """A figure as JSON that cannot end the script element it stands in."""
    text: str = figure.to_json()
    return Markup(text.replace("<", "\\u003c"))


def _show(value: str | float | None, form: str) -> str:
    return "n/a" if value is None else form.format(value)


def _asset(name: str) -> Markup:
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8"))
