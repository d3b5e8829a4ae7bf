"""The report's frontiers as Plotly figures: accuracy against what it costs, each variant a point."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from loadtest.analysis.results import Cell
from loadtest.analysis.validity import p99_frontier, spoiled, throughput_frontier
from loadtest.report.plot_style import INK, PlotStyle, escape, layout, log_ticks
from protos.frontier import pareto_frontier

_LABEL_SPACE = 0.65
"""Room for names beside the outermost frontier point, as a share of the points' span."""


def accuracy_against_p99(cells: Sequence[Cell], style: PlotStyle) -> go.Figure:
    """Top-1 over p99 for the cells of one load; the upper left is good."""
    shown = [cell for cell in cells if cell.latency_ms.p99 is not None and cell.facts.top1 is not None]
    xs = [cell.latency_ms.p99 or math.nan for cell in shown]
    return _scatter(shown, xs, p99_frontier(shown), style, "p99 latency, ms", "left")


def accuracy_against_throughput(cells: Sequence[Cell], style: PlotStyle) -> go.Figure:
    """Top-1 over throughput for the cells of one load; the upper right is good."""
    shown = [cell for cell in cells if cell.throughput_rps and cell.facts.top1 is not None]
    xs = [cell.throughput_rps for cell in shown]
    return _scatter(shown, xs, throughput_frontier(shown)[::-1], style, "throughput, requests per second", "right")


def accuracy_against_size(cells: Sequence[Cell], style: PlotStyle) -> go.Figure:
    """Top-1 over the artifact's size, the same under every load; the upper left is good."""
    shown = [cell for cell in cells if cell.facts.artifact_bytes and cell.facts.top1 is not None]
    xs = [(cell.facts.artifact_bytes or 0) / 1e6 for cell in shown]
    best = [shown[i] for i in pareto_frontier(xs, [cell.facts.top1 or 0.0 for cell in shown])]
    return _scatter(shown, xs, best, style, "artifact on disk, MB", "left")


def _scatter(
    cells: Sequence[Cell], xs: Sequence[float], best: Sequence[Cell], style: PlotStyle, title: str, good: str
) -> go.Figure:
    """Points, the frontier through `best` (by rising x) as stairs, and its points named."""
    figure = go.Figure()
    where = dict(zip((cell.variant for cell in cells), xs, strict=True))
    figure.add_scatter(
        x=[where[cell.variant] for cell in best],
        y=[cell.facts.top1 for cell in best],
        mode="lines",
        line={"color": INK, "width": 1.5, "dash": "dot", "shape": "hv" if good == "left" else "vh"},
        hoverinfo="skip",
        name="frontier",
    )
    names = {cell.variant for cell in best}
    for cell in cells:
        on = cell.variant in names
        figure.add_scatter(
            x=[where[cell.variant]],
            y=[cell.facts.top1],
            mode="markers",
            name=cell.variant,
            meta=cell.variant,
            marker={
                "color": style.color(cell),
                "symbol": style.symbol(cell),
                "size": 13 if on else 10,
                "opacity": 1 if on else 0.75,
                "line": {"width": 1.5, "color": style.color(cell)},
            },
            hovertemplate=_hover(cell),
        )
    figure.update_layout(layout(title, "top-1 accuracy", 380))
    if cells:
        left, right = (_LABEL_SPACE, 0.08) if good == "left" else (0.08, _LABEL_SPACE)
        x_range = _padded([math.log10(x) for x in xs], left, right)
        y_range = _padded([cell.facts.top1 or 0.0 for cell in cells], 0.12, 0.3)
        spans = (x_range[1] - x_range[0], y_range[1] - y_range[0])
        figure.update_layout(annotations=_labels(best, where, good, spans))
        figure.update_yaxes(tickformat=".1%", range=y_range)
        figure.update_xaxes(type="log", range=x_range, tickvals=log_ticks(xs))
    return figure


def _labels(
    best: Sequence[Cell], where: dict[str, float], good: str, spans: tuple[float, float]
) -> list[dict[str, object]]:
    """A name at each frontier point, on the side where no point can lie; names of neighbours are stacked.

    `spans` are the lengths of both axes, the first in powers of ten.
    """
    labels, level, before = list[dict[str, object]](), 0, (math.inf, math.inf)
    for cell in best if good == "left" else best[::-1]:
        x, y = math.log10(where[cell.variant]), cell.facts.top1 or 0.0
        close = abs(x - before[0]) < spans[0] * 0.4 and abs(y - before[1]) < spans[1] * 0.1
        level, before = (level + 1 if close else 0), (x, y)
        labels.append(
            {
                "x": x,
                "y": y,
                "text": escape(cell.variant),
                "showarrow": True,
                "arrowwidth": 1,
                "arrowhead": 0,
                "arrowcolor": INK,
                "ax": -20 if good == "left" else 20,
                "ay": -14 - 17 * level,
                "xanchor": "right" if good == "left" else "left",
                "font": {"size": 11.5},
                "standoff": 7,
            }
        )
    return labels


def _hover(cell: Cell) -> str:
    parts = [f"<b>{escape(cell.variant)}</b>", f"top-1 {cell.facts.top1:.2%}"]
    parts += [f"{name} {value:.2f} ms" for name, value in vars(cell.latency_ms).items() if value is not None]
    parts.append(f"{cell.throughput_rps:,.0f} requests/s")
    if cell.facts.artifact_bytes:
        parts.append(f"{cell.facts.artifact_bytes / 1e6:.2f} MB")
    if spoiled(cell):
        parts.append("limited by the load generator" if cell.generator_limited else "calls failed")
    return "<br>".join(parts) + "<extra></extra>"


def _padded(values: Sequence[float], below: float, above: float) -> list[float]:
    """A range around the values, wider by shares of their span."""
    low, high = min(values), max(values)
    span = max(high - low, 0.01)
    return [low - below * span, high + above * span]
