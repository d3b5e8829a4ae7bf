"""The report's latencies as Plotly figures: how they are distributed, and how they grow with the load."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from loadtest import stats
from loadtest.analysis.results import Cell
from loadtest.measure.measurement import steady_latencies
from loadtest.plan import Scenario
from loadtest.report.plot_style import PlotStyle, brief, escape, layout, log_ticks
from loadtest.users.recorder import Samples

CURVE_POINTS = 240
"""Points drawn of each distribution; percentiles are made of all samples."""


def distributions(cells: Sequence[Cell], samples: Samples, style: PlotStyle) -> go.Figure:
    """The share of answers that came within a time, for each cell of one load."""
    figure = go.Figure()
    for cell in cells:
        values, ranks = _thinned(cell, samples)
        shares = (ranks + 1) / (ranks.max(initial=0) + 1)
        figure.add_scatter(x=brief(values), y=brief(shares), **_line(cell, style, "%{y:.1%} within"))
    figure.update_layout(layout("latency, ms", "share of answers", 380))
    figure.update_xaxes(type="log", tickvals=log_ticks(x for trace in figure.data for x in trace.x))
    return figure.update_yaxes(tickformat=".0%", range=[0, 1.01])


def tails(cells: Sequence[Cell], samples: Samples, style: PlotStyle) -> go.Figure:
    """The share that took longer, on a log axis: one in a thousand has as much room as one in ten."""
    figure = go.Figure()
    for cell in cells:
        values, ranks = _thinned(cell, samples)
        shares = 1 - ranks / (ranks.max(initial=0) + 1)
        figure.add_scatter(x=brief(values), y=brief(shares), **_line(cell, style, "%{y:.3~%} take at least"))
    figure.update_layout(layout("latency, ms", "share of answers", 380))
    figure.update_xaxes(type="log", tickvals=log_ticks(x for trace in figure.data for x in trace.x))
    return figure.update_yaxes(type="log", tickformat="~%", dtick=1)


def load_curves(
    cells: Sequence[Cell], scenario: Scenario, percentile: Literal["p50", "p99"], style: PlotStyle
) -> go.Figure | None:
    """A percentile over the throughput reached, one line a variant through its loads; None with a single load."""
    mine = [cell for cell in cells if cell.load.scenario == scenario]
    if len({cell.load for cell in mine}) < 2:
        return None
    figure = go.Figure()
    for variant in dict.fromkeys(cell.variant for cell in mine):
        line = sorted((cell for cell in mine if cell.variant == variant), key=lambda cell: cell.load)
        figure.add_scatter(
            x=brief(cell.rows * cell.throughput_rps for cell in line),
            y=[getattr(cell.latency_ms, percentile) for cell in line],
            text=[cell.load.name for cell in line],
            name=variant,
            meta=variant,
            mode="lines+markers",
            line={"color": style.color(line[0]), "dash": style.dash(line[0]), "width": 1.6},
            marker={"symbol": [style.symbol(cell) for cell in line], "size": 9},
            hovertemplate=f"<b>{escape(variant)}</b>, %{{text}}<br>{percentile} %{{y:.2f}} ms<br>%{{x:,.0f}} rows/s"
            "<extra></extra>",
        )
    figure.update_layout(layout("throughput, rows per second", f"{percentile} latency, ms", 360))
    figure.update_xaxes(type="log", tickvals=log_ticks(x for trace in figure.data for x in trace.x))
    figure.update_yaxes(type="log", tickvals=log_ticks(y for trace in figure.data for y in trace.y if y))
    return figure


def _line(cell: Cell, style: PlotStyle, words: str) -> dict[str, object]:
    return {
        "name": cell.variant,
        "meta": cell.variant,
        "mode": "lines",
        "line": {"color": style.color(cell), "dash": style.dash(cell), "width": 1.8},
        "hovertemplate": f"<b>{escape(cell.variant)}</b><br>{words} %{{x:.2f}} ms<extra></extra>",
    }


def _thinned(cell: Cell, samples: Samples) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Some of the latencies in milliseconds by rising rank, and their ranks."""
    values = np.sort(steady_latencies(samples.of(cell.variant, cell.load)) * 1e3)
    ranks = stats.thin(len(values), CURVE_POINTS)
    return np.take(values, ranks), ranks
