"""The report's plots, as Plotly figures: colours stand for runtimes, marker shapes and dashes for recipes.

Plotly is imported here and in `report`, and nowhere else. Figures have transparent backgrounds and greys
that are readable on light and dark pages.
"""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from loadtest import stats
from loadtest.recorder import Samples
from loadtest.results import Cell, steady_latencies
from loadtest.verdict import p99_frontier, throughput_frontier

RUNTIME_COLORS = {"pytorch": "#D55E00", "torchscript": "#E69F00", "onnxruntime": "#0072B2", "openvino": "#009E73"}
"""Okabe and Ito's palette, which most colour-blind people can tell apart."""

OTHER_COLORS = ("#CC79A7", "#56B4E9", "#8C564B", "#7F7F7F")
SHAPES = (("circle", "●", "solid"), ("square", "■", "dash"), ("diamond", "◆", "dot"), ("triangle-up", "▲", "dashdot"))
"""Marker, the same as a character, and line dash, for recipes in the order in which the server lists them."""

CURVE_POINTS = 400
"""Points drawn of each distribution; percentiles are made of all samples."""

_LABEL_SPACE = 0.65
"""Room for names beside the outermost frontier point, as a share of the points' span."""

_INK, _GRID = "#64748b", "rgba(128,128,128,0.2)"


class Look:
    """Colours and shapes for the variants of one run."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        runtimes = dict.fromkeys(_runtime(cell) for cell in cells)
        others = [runtime for runtime in runtimes if runtime not in RUNTIME_COLORS]
        extra = {runtime: OTHER_COLORS[i % len(OTHER_COLORS)] for i, runtime in enumerate(others)}
        self.colors = {runtime: (RUNTIME_COLORS | extra)[runtime] for runtime in runtimes}
        recipes = dict.fromkeys(cell.facts.recipe or "" for cell in cells)
        self.shapes = {recipe: SHAPES[i % len(SHAPES)] for i, recipe in enumerate(recipes)}

    def color(self, cell: Cell) -> str:
        """The colour of the cell's runtime."""
        return self.colors[_runtime(cell)]

    def shape(self, cell: Cell) -> tuple[str, str, str]:
        """Marker, character and dash of the cell's recipe."""
        return self.shapes[cell.facts.recipe or ""]


def accuracy_against_p99(cells: Sequence[Cell], look: Look) -> go.Figure:
    """Top-1 over p99 for the cells of one load; the upper left is good."""
    shown = [cell for cell in cells if cell.latency_ms.p99 is not None and cell.facts.top1 is not None]
    xs = [cell.latency_ms.p99 or math.nan for cell in shown]
    return _scatter(shown, xs, p99_frontier(shown), look, "p99 latency, ms", "left")


def accuracy_against_throughput(cells: Sequence[Cell], look: Look) -> go.Figure:
    """Top-1 over throughput for the cells of one load; the upper right is good."""
    shown = [cell for cell in cells if cell.throughput_rps and cell.facts.top1 is not None]
    xs = [cell.throughput_rps for cell in shown]
    return _scatter(shown, xs, throughput_frontier(shown)[::-1], look, "throughput, requests per second", "right")


def latency_distributions(cells: Sequence[Cell], samples: Samples, look: Look) -> go.Figure:
    """The share of answers that came within a time, for each cell of one load."""
    figure = go.Figure()
    for cell in cells:
        values = stats.thin(steady_latencies(samples.of(cell.variant, cell.load)) * 1e3, CURVE_POINTS)
        share = np.arange(1, len(values) + 1) / max(len(values), 1)
        figure.add_scatter(
            x=[float(f"{value:.4g}") for value in values],
            y=[float(f"{value:.4g}") for value in share],
            name=cell.variant,
            mode="lines",
            line={"color": look.color(cell), "dash": look.shape(cell)[2], "width": 1.8},
            hovertemplate=f"{_escape(cell.variant)}<br>%{{y:.1%}} within %{{x:.2f}} ms<extra></extra>",
        )
    figure.update_layout(_layout("latency, ms", "share of answers", 420))
    figure.update_xaxes(type="log", tickvals=_ticks([x for trace in figure.data for x in trace.x]))
    figure.update_yaxes(tickformat=".0%", range=[0, 1.01])
    return figure


def _scatter(
    cells: Sequence[Cell], xs: Sequence[float], best: Sequence[Cell], look: Look, title: str, good: str
) -> go.Figure:
    """Points, the frontier through `best` (by rising x) as stairs, and its points named."""
    figure = go.Figure()
    where = dict(zip((cell.variant for cell in cells), xs, strict=True))
    figure.add_scatter(
        x=[where[cell.variant] for cell in best],
        y=[cell.facts.top1 for cell in best],
        mode="lines",
        line={"color": _INK, "width": 1.5, "dash": "dot", "shape": "hv" if good == "left" else "vh"},
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
            marker={
                "color": look.color(cell),
                "symbol": look.shape(cell)[0] + ("-open" if cell.generator_limited or cell.failures else ""),
                "size": 13 if on else 10,
                "opacity": 1 if on else 0.75,
                "line": {"width": 1.5, "color": look.color(cell)},
            },
            hovertemplate=_hover(cell),
        )
    figure.update_layout(_layout(title, "top-1 accuracy", 400))
    if cells:
        left, right = (_LABEL_SPACE, 0.08) if good == "left" else (0.08, _LABEL_SPACE)
        x_range = _padded([math.log10(x) for x in xs], left, right)
        y_range = _padded([cell.facts.top1 or 0.0 for cell in cells], 0.12, 0.3)
        spans = (x_range[1] - x_range[0], y_range[1] - y_range[0])
        figure.update_layout(annotations=_labels(best, where, good, spans))
        figure.update_yaxes(tickformat=".1%", range=y_range)
        figure.update_xaxes(type="log", range=x_range, tickvals=_ticks(xs))
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
                "text": _escape(cell.variant),
                "showarrow": True,
                "arrowwidth": 1,
                "arrowhead": 0,
                "arrowcolor": _INK,
                "ax": -20 if good == "left" else 20,
                "ay": -14 - 17 * level,
                "xanchor": "right" if good == "left" else "left",
                "font": {"size": 11.5},
                "standoff": 7,
            }
        )
    return labels


def _layout(x: str, y: str, height: int) -> dict[str, object]:
    axis = {"gridcolor": _GRID, "zeroline": False, "linecolor": _GRID, "showline": True, "ticks": "outside"}
    return {
        "template": go.layout.Template(),
        "height": height,
        "margin": {"l": 76, "r": 16, "t": 12, "b": 52},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": _INK},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "xaxis": {**axis, "title": {"text": x, "standoff": 12}, "tickcolor": _GRID},
        "yaxis": {**axis, "title": {"text": y, "standoff": 12}, "tickcolor": _GRID},
    }


def _hover(cell: Cell) -> str:
    latency = cell.latency_ms
    parts = [f"<b>{_escape(cell.variant)}</b>", f"top-1 {cell.facts.top1:.2%}"]
    parts += [f"{name} {value:.2f} ms" for name, value in vars(latency).items() if value is not None]
    parts.append(f"{cell.throughput_rps:,.0f} requests/s")
    if cell.generator_limited:
        parts.append("limited by the load generator")
    return "<br>".join(parts) + "<extra></extra>"


def _runtime(cell: Cell) -> str:
    return cell.facts.runtime or cell.variant


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("%{", "% {")


def _padded(values: Sequence[float], below: float, above: float) -> list[float]:
    """A range around the values, wider by shares of their span."""
    low, high = min(values), max(values)
    span = max(high - low, 0.01)
    return [low - below * span, high + above * span]


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers 1, 2, 5, 10, ... around positive values: Plotly's own on a log axis are either few or crowded."""
    positive = [value for value in values if value > 0]
    if not positive:
        return []
    low, high = math.floor(math.log10(min(positive))) - 1, math.ceil(math.log10(max(positive))) + 1
    return [float(f"{step}e{power}") for power in range(low, high + 1) for step in (1, 2, 5)]
