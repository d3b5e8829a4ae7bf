"""The run over time as one plot: what clients saw, what the server saw, and what the machine was doing.

A point is a stretch: a few seconds of slices under one load. Loads take turns, so the stretches of one load lie apart.

    latency           p50 and p99 of each variant's calls in a stretch; where those are too few, of several in a row
    server            mean time in queue and engine
    CPU-speed check   what a fixed piece of work took after the stretch
    CPU               share of the run itself, of others, and of steal
"""

from collections.abc import Iterator, Sequence

import numpy as np
import plotly.graph_objects as go

from loadtest.analysis.results import Cell, Results, Stretch
from loadtest.measure.measurement import steady
from loadtest.report.plot_style import INK, axis, color, layout, of_variant, rounded, shape
from loadtest.users.recorder import Samples
from protos.support import significance
from protos.support.plots.style import log_axis

_HEIGHTS = {
    "latency, ms": (0.62, 1.0),
    "server, ms": (0.39, 0.57),
    "CPU-speed check, ms": (0.19, 0.34),
    "CPU": (0.0, 0.14),
}
"""The parts of the height that the four plots take, from the top."""

Point = tuple[float, float]
"""Seconds since the run began, and a value."""


def timeline(results: Results, samples: Samples) -> go.Figure:
    """Plots all stretches of a run."""
    plot = go.Figure()
    for variant in dict.fromkeys(cell.variant for cell in results.cells):
        mine = [cell for cell in results.cells if cell.variant == variant]
        _add_latencies(plot, results, mine, samples)
        _add_server(plot, results, mine[0])
    stretches = sorted(results.stretches, key=_middle)
    _add_noise_probe(plot, stretches)
    _add_shares(plot, stretches)
    plot.update_layout(layout("", "latency, ms", 760))
    for number, (title, domain) in enumerate(_HEIGHTS.items(), 1):
        plot.update_layout({f"yaxis{number}": {**axis(title), "domain": domain, "automargin": True}})
    values = {at: [y for trace in plot.data if trace.yaxis == at for y in trace.y] for at in (None, "y2")}
    plot.update_layout(yaxis=log_axis(values[None]), yaxis2=log_axis(values["y2"]))
    plot.update_layout(yaxis3=_around(stretches), yaxis4={"tickformat": ".0%", "range": [0, 1.02]})
    plot.update_layout(xaxis={**axis("seconds since the run began"), "anchor": "y4"})
    return plot


def _around(stretches: Sequence[Stretch]) -> dict[str, object]:
    """Returns the axis of the noise probe, a fifth beyond its values, so that what is no noise is small."""
    taken = [each.probe_seconds * 1e3 for each in stretches]
    return {"range": [0.8 * min(taken), 1.2 * max(taken)]} if taken else {}


def _middle(stretch: Stretch) -> float:
    return stretch.begun + stretch.conditions.seconds / 2


def _add_latencies(plot: go.Figure, results: Results, cells: Sequence[Cell], samples: Samples) -> None:
    if not results.stretches:
        return
    for name, q, width in (("p50", 0.5, 2.2), ("p99", 0.99, 1.0)):
        points = {cell.load.name: [*_percentiles(results, cell, samples, q)] for cell in cells}
        shown = [
            (load, x, y) for load, mine in points.items() for x, y in (*mine, (None, None))
        ]  # loads are not joined
        plot.add_scatter(
            **of_variant(cells[0].variant, f", %{{text}}<br>{name} %{{y:.2f}} ms"),
            x=[x for _, x, _ in shown],
            y=[y for _, _, y in shown],
            text=[load for load, _, _ in shown],
            mode="lines+markers",
            line={"color": color(cells[0]), "width": width, "dash": "solid" if name == "p50" else "dot"},
            marker={"size": 5 if name == "p50" else 3, "symbol": shape(cells[0]).marker},
        )


def _percentiles(results: Results, cell: Cell, samples: Samples, q: float) -> Iterator[Point]:
    """Yields times and milliseconds, of each stretch of a load or of the fewest in a row that hold enough calls."""
    rows, waiting = steady(samples.of(cell.variant, cell.load)), list[Stretch]()
    for stretch in (each for each in results.stretches if each.load == cell.load):
        waiting.append(stretch)
        within = (rows["round"] >= waiting[0].first_round) & (rows["round"] <= stretch.last_round)
        value = significance.quantile(np.compress(within, rows["latency"]) * 1e3, q)
        if value is not None:
            yield round(float(np.mean([*map(_middle, waiting)])), 2), float(f"{value:.4g}")
            waiting = []


def _add_server(plot: go.Figure, results: Results, cell: Cell) -> None:
    known = [(each, each.server[cell.variant]) for each in results.stretches if cell.variant in each.server]
    for name, figure, suffix in (("compute", "compute_ms_mean", ""), ("queue", "queue_ms_mean", "-open")):
        shown = [(stretch, value) for stretch, server in known if (value := getattr(server, figure))]
        if not shown:  # an axis of empty traces makes Plotly complain in the console
            continue
        plot.add_scatter(
            **of_variant(cell.variant, f", %{{text}}<br>{name} %{{y:.3f}} ms"),
            x=rounded(_middle(stretch) for stretch, _ in shown),
            y=rounded(value for _, value in shown),
            text=[stretch.load.name for stretch, _ in shown],
            yaxis="y2",
            mode="markers",
            marker={"size": 7, "color": color(cell), "symbol": shape(cell).marker + suffix},
        )


def _add_noise_probe(plot: go.Figure, stretches: Sequence[Stretch]) -> None:
    plot.add_scatter(
        x=rounded(each.begun + each.conditions.seconds for each in stretches),
        y=rounded(each.probe_seconds * 1e3 for each in stretches),
        text=[f"{each.load.name}, rounds {each.first_round} to {each.last_round}" for each in stretches],
        yaxis="y3",
        mode="lines+markers",
        line={"color": INK, "width": 1},
        marker={"color": INK, "size": 5},
        hovertemplate="CPU-speed check %{y:.1f} ms<br>after %{text}<extra></extra>",
    )


def _add_shares(plot: go.Figure, stretches: Sequence[Stretch]) -> None:
    shown = ("own", "the run itself", "#4C78A8"), ("others", "others", "#d97706"), ("steal", "steal", "#b42318")
    for field, name, paint in shown:
        shares = [(_middle(each), getattr(each.conditions, field)) for each in stretches]
        known = [(at, share) for at, share in shares if share is not None]
        plot.add_scatter(
            x=rounded(at for at, _ in known),
            y=rounded(share for _, share in known),
            yaxis="y4",
            mode="lines+markers",
            line={"color": paint, "width": 1.4},
            marker={"size": 4},
            hovertemplate=f"{name} %{{y:.1%}} of all cores<extra></extra>",
        )
