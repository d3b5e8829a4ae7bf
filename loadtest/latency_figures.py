"""The report's latencies as Plotly figures: how they are distributed, and how they grow with the load."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from loadtest.look import Look, axis, brief, escape, layout, log_ticks
from loadtest.plan import Scenario
from loadtest.recorder import Samples
from loadtest.results import Cell, steady_latencies

CURVE_POINTS = 240
"""Points drawn of each distribution; percentiles are made of all samples."""


def distributions(cells: Sequence[Cell], samples: Samples, look: Look) -> go.Figure:
    """For each cell of one load: the share of answers within a time, and the share that took longer, to the tail.

    The second is the first seen from above on a log axis, where one in a thousand has as much room as one in ten.
    """
    figure = go.Figure()
    for cell in cells:
        values = np.sort(steady_latencies(samples.of(cell.variant, cell.load)) * 1e3)
        ranks = _ranks(len(values))
        times, within = brief(values[ranks]), (ranks + 1) / max(len(values), 1)
        line = {"color": look.color(cell), "dash": look.dash(cell), "width": 1.8}
        text = f"<b>{escape(cell.variant)}</b><br>%{{y:.3~%}} {{}} %{{x:.2f}} ms<extra></extra>"
        for number, shares, words in (("", within, "within"), ("2", 1 - ranks / max(len(values), 1), "take at least")):
            figure.add_scatter(
                x=times,
                y=brief(shares),
                xaxis=f"x{number}",
                yaxis=f"y{number}",
                name=cell.variant,
                meta=cell.variant,
                mode="lines",
                line=line,
                hovertemplate=text.replace("{}", words),
            )
    figure.update_layout(layout("latency, ms", "share of answers within", 400))
    second = {**axis("share that take at least"), "type": "log", "anchor": "x2", "tickformat": "~%", "dtick": 1, "automargin": True}
    figure.update_layout(yaxis2=second, xaxis2={**axis("latency, ms"), "anchor": "y2", "domain": [0.56, 1]})
    figure.update_layout(xaxis={"domain": [0, 0.44]}, yaxis={"tickformat": ".0%", "range": [0, 1.01]})
    figure.update_xaxes(type="log", tickvals=log_ticks(x for trace in figure.data for x in trace.x))
    return figure


def load_curves(
    cells: Sequence[Cell], scenario: Scenario, percentile: Literal["p50", "p99"], look: Look
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
            line={"color": look.color(line[0]), "dash": look.dash(line[0]), "width": 1.6},
            marker={"symbol": [look.symbol(cell) for cell in line], "size": 9},
            hovertemplate=f"<b>{escape(variant)}</b>, %{{text}}<br>{percentile} %{{y:.2f}} ms<br>%{{x:,.0f}} rows/s"
            "<extra></extra>",
        )
    figure.update_layout(layout("throughput, rows per second", f"{percentile} latency, ms", 360))
    figure.update_xaxes(type="log", tickvals=log_ticks(x for trace in figure.data for x in trace.x))
    figure.update_yaxes(type="log", tickvals=log_ticks(y for trace in figure.data for y in trace.y if y))
    return figure


def _ranks(count: int) -> NDArray[np.int64]:
    """At most `CURVE_POINTS` ranks of so many sorted values: half evenly spread, half ever denser towards the last."""
    if count <= CURVE_POINTS:
        return np.arange(count)
    half = CURVE_POINTS // 2
    tail = count - np.logspace(0, math.log10(count), half)
    both = np.concatenate([np.linspace(0, count - 1, half), tail]).round().astype(np.int64)
    ranks: NDArray[np.int64] = np.unique(both.clip(0, count - 1))
    return ranks
