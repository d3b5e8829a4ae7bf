"""The report's plots: accuracy against what it costs, how latencies are distributed, and where the time goes."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from loadtest import stats
from loadtest.analysis.breakdown import PARTS, Breakdown
from loadtest.analysis.results import Cell
from loadtest.analysis.validity import is_valid, p99_frontier, throughput_frontier, title_of
from loadtest.decision.accuracy import frontier
from loadtest.measure.measurement import steady_latencies
from loadtest.plan import Scenario
from loadtest.report.plot_style import INK, PlotStyle, escape, layout, log_ticks, of_variant, rounded
from loadtest.users.recorder import Samples

_LABEL_SPACE = 0.65
"""Room for names beside the outermost frontier point, as a share of the points' span."""

CURVE_POINTS = 240
"""Points drawn of each distribution; percentiles are made of all samples."""


def accuracy_against_p99(cells: Sequence[Cell], style: PlotStyle) -> go.Figure:
    """Plots quality over p99 for the cells of one load; the upper left is good."""
    return _scatter(cells, lambda cell: cell.latency_ms.p99, p99_frontier(cells), style, "p99 latency, ms", "left")


def accuracy_against_throughput(cells: Sequence[Cell], style: PlotStyle) -> go.Figure:
    """Plots quality over throughput for the cells of one load; the upper right is good."""
    best, title = throughput_frontier(cells)[::-1], "throughput, requests per second"
    return _scatter(cells, lambda cell: cell.throughput_rps, best, style, title, "right")


def accuracy_against_size(cells: Sequence[Cell], style: PlotStyle) -> go.Figure:
    """Plots quality over the artifact's size, each variant once; the upper left is good."""
    once = {cell.variant: cell for cell in cells}.values()
    shown = [cell for cell in once if cell.facts.artifact_bytes and cell.facts.quality is not None]
    sizes = {cell.variant: (cell.facts.artifact_bytes or 0) / 1e6 for cell in shown}
    best = frontier(shown, lambda cell: sizes[cell.variant])
    return _scatter(shown, lambda cell: sizes[cell.variant], best, style, "artifact on disk, MB", "left")


def distributions(cells: Sequence[Cell], samples: Samples, style: PlotStyle) -> tuple[go.Figure, go.Figure]:
    """Plots the share of answers within a time for the cells of one load, and the share that took longer.

    The second is on a log axis: one in a thousand has as much room as one in ten.
    """
    within, longer = go.Figure(), go.Figure()
    for cell in cells:
        values = np.sort(steady_latencies(samples.of_figures(cell.variant, cell.load)) * 1e3)
        ranks = stats.thin(len(values), CURVE_POINTS)
        xs, count = rounded(np.take(values, ranks)), max(1, len(values))
        line = {"color": style.color(cell), "dash": style.shape(cell).dash, "width": 1.8}
        for plot, shares, text in (
            (within, (ranks + 1) / count, "%{y:.1%} within"),
            (longer, 1 - ranks / count, "%{y:.3~%} take at least"),
        ):
            hover = of_variant(cell.variant, f"<br>{text} %{{x:.2f}} ms")
            plot.add_scatter(x=xs, y=rounded(shares), mode="lines", line=line, **hover)
    for plot in (within, longer):
        plot.update_layout(layout("latency, ms", "share of answers", 380))
        plot.update_xaxes(type="log", tickvals=log_ticks(x for trace in plot.data for x in trace.x))
    within.update_yaxes(tickformat=".0%", range=[0, 1.01])
    longer.update_yaxes(type="log", tickformat="~%", dtick=1)
    return within, longer


def load_curves(
    cells: Sequence[Cell], scenario: Scenario, percentile: Literal["p50", "p99"], style: PlotStyle
) -> go.Figure | None:
    """Plots a percentile over the throughput reached, one line a variant through its loads; None with a single load."""
    mine = [cell for cell in cells if cell.load.scenario == scenario]
    if len({cell.load for cell in mine}) < 2:
        return None
    plot = go.Figure()
    for variant in dict.fromkeys(cell.variant for cell in mine):
        line = sorted((cell for cell in mine if cell.variant == variant), key=lambda cell: cell.load)
        plot.add_scatter(
            x=rounded(cell.rows * cell.throughput_rps for cell in line),
            y=[getattr(cell.latency_ms, percentile) for cell in line],
            text=[cell.load.name for cell in line],
            mode="lines+markers",
            line={"color": style.color(line[0]), "dash": style.shape(line[0]).dash, "width": 1.6},
            marker={"symbol": [style.symbol(cell) for cell in line], "size": 9},
            **of_variant(variant, f", %{{text}}<br>{percentile} %{{y:.2f}} ms<br>%{{x:,.0f}} rows/s"),
        )
    plot.update_layout(layout("throughput, rows per second", f"{percentile} latency, ms", 360))
    plot.update_xaxes(type="log", tickvals=log_ticks(x for trace in plot.data for x in trace.x))
    plot.update_yaxes(type="log", tickvals=log_ticks(y for trace in plot.data for y in trace.y if y))
    return plot


def breakdown_bars(breakdowns: Sequence[Breakdown]) -> go.Figure:
    """Plots a stacked bar for each variant, the slowest at the top."""
    plot = go.Figure()
    for each in sorted(breakdowns, key=lambda each: each.total):
        name = escape(each.cell.variant) + (" (limited)" if each.cell.generator_limited else "")
        for part, (color, _) in PARTS.items():
            if part in each.parts:
                plot.add_bar(
                    y=[name],
                    x=[float(f"{each.parts[part]:.4g}")],
                    orientation="h",
                    name=part,
                    meta=each.cell.variant,
                    marker={"color": color, "pattern": {"shape": "/" if part in ("wire", "not split") else ""}},
                    hovertemplate=f"<b>{name}</b><br>{part} %{{x:.3f}} ms of {each.total:.2f} ms<extra></extra>",
                )
    plot.update_layout(layout("mean, ms", "", 110 + 24 * len(breakdowns)))
    plot.update_layout(barmode="stack", bargap=0.3, margin={"l": 10})
    plot.update_yaxes(automargin=True, ticks="", ticklabelstandoff=6, showline=False, showgrid=False)
    return plot


def _scatter(
    cells: Sequence[Cell],
    cost: Callable[[Cell], float | None],
    best: Sequence[Cell],
    style: PlotStyle,
    title: str,
    good: Literal["left", "right"],
) -> go.Figure:
    """Plots points, the frontier through `best` (by rising x) as stairs, and names its points."""
    plot = go.Figure()
    where = {cell.variant: x for cell in cells if (x := cost(cell)) and cell.facts.quality is not None}
    plot.add_scatter(
        x=[where[cell.variant] for cell in best],
        y=[cell.facts.quality for cell in best],
        mode="lines",
        line={"color": INK, "width": 1.5, "dash": "dot", "shape": "hv" if good == "left" else "vh"},
        hoverinfo="skip",
        name="frontier",
    )
    shown = [cell for cell in cells if cell.variant in where]
    for cell in shown:
        plot.add_scatter(
            x=[where[cell.variant]],
            y=[cell.facts.quality],
            mode="markers",
            marker={
                "color": style.color(cell),
                "symbol": style.symbol(cell),
                "size": 13 if cell in best else 10,
                "opacity": 1 if cell in best else 0.75,
                "line": {"width": 1.5, "color": style.color(cell)},
            },
            **of_variant(cell.variant, _hover(cell)),
        )
    plot.update_layout(layout(title, title_of(cells), 380))
    if shown:
        _fit_axes(plot, shown, where, best, good)
    return plot


def _fit_axes(plot: go.Figure, cells: Sequence[Cell], where: dict[str, float], best: Sequence[Cell], good: str) -> None:
    """Makes room for the names beside the frontier's points, and writes them."""
    left, right = (_LABEL_SPACE, 0.08) if good == "left" else (0.08, _LABEL_SPACE)
    x_range = _padded([math.log10(x) for x in where.values()], left, right)
    y_range = _padded([cell.facts.quality or 0.0 for cell in cells], 0.12, 0.3)
    spans = (x_range[1] - x_range[0], y_range[1] - y_range[0])
    plot.update_layout(annotations=_labels(best, where, good, spans))
    plot.update_yaxes(tickformat=".1%", range=y_range)
    plot.update_xaxes(type="log", range=x_range, tickvals=log_ticks(where.values()))


def _labels(
    best: Sequence[Cell], where: dict[str, float], good: str, spans: tuple[float, float]
) -> list[dict[str, object]]:
    """Returns a name at each frontier point, on the side where no point can lie; names of neighbours are stacked.

    `spans` are the lengths of both axes, the first in powers of ten.
    """
    labels, level, before = list[dict[str, object]](), 0, (math.inf, math.inf)
    for cell in best if good == "left" else best[::-1]:
        x, y = math.log10(where[cell.variant]), cell.facts.quality or 0.0
        close = abs(x - before[0]) < spans[0] * 0.4 and abs(y - before[1]) < spans[1] * 0.1
        level, before = (level + 1 if close else 0), (x, y)
        labels.append(
            {
                "x": x,
                "y": y,
                "text": escape(cell.variant),
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
    parts = ["", f"{title_of([cell])} {cell.facts.quality:.2%}"]
    parts += [f"{name} {value:.2f} ms" for name, value in vars(cell.latency_ms).items() if value is not None]
    parts.append(f"{cell.throughput_rps:,.0f} requests/s")
    if cell.facts.artifact_bytes:
        parts.append(f"{cell.facts.artifact_bytes / 1e6:.2f} MB")
    if not is_valid(cell):
        parts.append(stats.LIMIT_TEXTS[cell.generator_limit] if cell.generator_limit else "calls failed")
    return "<br>".join(parts)


def _padded(values: Sequence[float], below: float, above: float) -> list[float]:
    """Returns a range around the values, wider by shares of their span."""
    low, high = min(values), max(values)
    span = max(high - low, 0.01)
    return [low - below * span, high + above * span]
