"""The history of a folder's runs: a page with p50, p99 and throughput of all.

A line of a plot is one variant under one load. It breaks where the machine changed: figures travel with it.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import plotly.graph_objects as go
import plotly.offline
from plotly.subplots import make_subplots

from loadtest.analysis.history import Entry
from loadtest.report.plot_style import INK, axis, escape, layout, of_variant
from protos.support.plots import style
from protos.support.plots.bundle import cut

FIGURES = {"p50_ms": "p50, ms", "p99_ms": "p99, ms", "throughput_rps": "answers per second"}
ROW_PIXELS, MOST_TICKS = 260, 10


def page(entries: Sequence[Entry]) -> str:
    """Returns a page that opens from disk, with no network."""
    loads = [*dict.fromkeys(cell.load for entry in entries for cell in entry.cells)]
    plot = make_subplots(len(FIGURES), max(1, len(loads)), shared_xaxes=True, column_titles=[*map(escape, loads)])
    plot.update_layout({**layout("", "", ROW_PIXELS * len(FIGURES)), "margin": {"t": 48}})
    for row, (figure, title) in enumerate(FIGURES.items(), 1):
        plot.update_yaxes(axis(""), row=row)
        plot.update_yaxes(title=title, row=row, col=1)
        for column, load in enumerate(loads, 1):
            plot.add_traces([*_lines(entries, load, figure, legend=row == column == 1)], rows=row, cols=column)
    plot.update_xaxes(axis(""), tick0=1, dtick=math.ceil(len(entries) / MOST_TICKS))
    plot.update_xaxes(title="run", row=len(FIGURES))
    for number, (before, after) in enumerate(itertools.pairwise(entries), 1):
        if before.machine != after.machine:
            plot.add_vline(number + 0.5, line={"color": INK, "dash": "dot", "width": 1})
    text: str = plot.to_html(full_html=True, include_plotlyjs=False)
    library = f"<script>{cut(plotly.offline.get_plotlyjs())}</script>"
    return text.replace("<head>", f"<head><title>history of load tests</title>{library}", 1)


def _lines(entries: Sequence[Entry], load: str, figure: str, legend: bool) -> Iterator[go.Scatter]:
    """Yields a line for each variant of each model under a load."""
    for model, variant in sorted({(e.model, cell.variant) for e in entries for cell in e.cells}):
        mine = ((at, e, cell) for at, e in enumerate(entries, 1) if e.model == model for cell in e.cells)
        points = [each for each in mine if (each[2].variant, each[2].load) == (variant, load)]
        xs, ys, texts = _broken([(at, entry, getattr(cell, figure)) for at, entry, cell in points])
        name, (recipe, _, runtime) = f"{model} {variant}", variant.partition(" @ ")[0].rpartition("-")
        color, shape = style.color(runtime), style.shape(recipe)
        yield go.Scatter(
            **of_variant(name, f", {escape(load)}<br>%{{y:.4g}}<br>%{{text}}"),
            x=xs,
            y=ys,
            text=texts,
            mode="lines+markers",
            showlegend=legend,
            line={"color": color, "dash": shape.dash},
            marker={"symbol": shape.marker},
        )


def _broken(
    points: Sequence[tuple[int, Entry, float | None]],
) -> tuple[list[int | None], list[float | None], list[str]]:
    """Returns numbers of runs, values and texts, with a gap wherever the machine changed."""
    xs, ys, texts = list[int | None](), list[float | None](), list[str]()
    for number, (at, entry, value) in enumerate(points):
        if number and points[number - 1][1].machine != entry.machine:
            xs, ys, texts = [*xs, None], [*ys, None], [*texts, ""]
        said = [f"{entry.run}, {entry.finished}", f"commit {(entry.commit or 'unknown')[:10]}", entry.machine]
        xs, ys, texts = [*xs, at], [*ys, value], [*texts, "<br>".join(map(escape, said))]
    return xs, ys, texts
