"""How latencies moved while a load ran: time to the right, latency upwards, the share of answers as colour.

A column is a stretch of slices, or where there are many some in a row. All variants of a load have the same rows and
columns; the page shows those that matter, one below the other.
"""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from loadtest.analysis.results import Cell, Results, Stretch
from loadtest.measure.measurement import steady
from loadtest.plan import Load
from loadtest.report.plot_style import layout, of_variant
from loadtest.users.recorder import Rows, Samples
from protos.support.plot_style import log_axis

ROWS, MOST_COLUMNS = 32, 40
HEIGHT = 170
"""Pixels of each variant's part."""
_BLUE = "11,107,203"
_COLORS = [[0, f"rgba({_BLUE},0)"], [0.002, f"rgba({_BLUE},0.2)"], [0.25, f"rgb({_BLUE})"], [1, "rgb(240,180,60)"]]
"""Readable on light and on dark pages; a single answer of many can be seen."""


def latency_over_time(results: Results, load: Load, samples: Samples) -> go.Figure | None:
    """Plots the answers of each variant under a load, in thousandths of each column; None without any stretch."""
    columns = _columns([each for each in results.stretches if each.load == load])
    mine = [cell for cell in results.cells if cell.load == load]
    calls = {cell.variant: rows for cell in mine if len(rows := _of_slices(cell, samples))}
    if not columns or not calls:
        return None
    plot, times = go.Figure(), [*(column[0].begun for column in columns), _end(columns[-1][-1])]
    latencies = np.concatenate([each["latency"] for each in calls.values()]) * 1e3
    edges = np.geomspace(latencies.min() * 0.98, latencies.max() * 1.02, ROWS + 1)
    for variant, rows in calls.items():
        plot.add_heatmap(
            **of_variant(variant, "<br>%{y:.2f} ms at %{x:.0f} s: %{z} of 1,000 answers"),
            x=[round(time, 2) for time in times],
            y=[float(f"{edge:.4g}") for edge in edges],
            z=_thousandths(rows, columns, edges),
            colorscale=_COLORS,
            zmin=0,
            zmax=400,
            showscale=False,
        )
    plot.update_layout(layout("seconds since the run began", "latency, ms", HEIGHT))
    plot.update_layout(showlegend=False, meta={"stacks": True})
    plot.update_yaxes(log_axis([*edges]))
    return plot


def _columns(stretches: Sequence[Stretch]) -> list[list[Stretch]]:
    """Returns the stretches in the order of time, some in a row together where there are more than `MOST_COLUMNS`."""
    ordered = sorted(stretches, key=lambda each: each.begun)
    size = -(-len(ordered) // MOST_COLUMNS)
    return [ordered[start : start + size] for start in range(0, len(ordered), max(1, size))]


def _end(stretch: Stretch) -> float:
    return stretch.begun + stretch.conditions.seconds


def _of_slices(cell: Cell, samples: Samples) -> Rows:
    """Returns the steady calls of a cell's slices; those of its block without a break belong to no stretch."""
    rows = steady(samples.of(cell.variant, cell.load))
    return np.compress(rows["round"] > 0, rows)


def _thousandths(calls: Rows, columns: Sequence[Sequence[Stretch]], edges: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Returns how many of 1,000 answers of each column (the second axis) lie in each row of latencies."""
    counts = np.zeros((len(edges) - 1, len(columns)))
    for number, column in enumerate(columns):
        within = (calls["round"] >= column[0].first_round) & (calls["round"] <= column[-1].last_round)
        counts[:, number], _ = np.histogram(calls["latency"][within] * 1e3, edges)
    shares: NDArray[np.uint16] = np.ceil(1000 * counts / np.maximum(1, counts.sum(axis=0))).astype(np.uint16)
    return shares
