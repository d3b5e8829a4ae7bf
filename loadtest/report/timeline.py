"""The run over time as one plot: what clients saw, what the server saw, and what the machine was doing.

    latency       p50 and p99 of the calls that were due in each second of a block's steady state
    server        mean time in queue and engine, of each block
    noise probe   what a fixed piece of work took after each block; blocks that were measured again are marked
    CPU           share of the run itself, of others, and of steal, while each block was measured

Where a second has too few calls for a percentile, longer stretches are taken, up to a whole block.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from loadtest.analysis.results import Cell, Round
from loadtest.measure.measurement import steady
from loadtest.report.plot_style import INK, PlotStyle, axis, escape, layout, log_ticks, of_variant, rounded
from loadtest.users.recorder import Rows, Samples
from protos.support import significance

MOST_POINTS = 20
"""The most points of a percentile in one block."""

_HEIGHTS = {"latency, ms": (0.62, 1.0), "server, ms": (0.39, 0.57), "noise probe, ms": (0.19, 0.34), "CPU": (0.0, 0.14)}
"""The parts of the height that the four plots take, from the top."""


@dataclass(frozen=True)
class _BlockCalls:
    """One block of a cell: its calls, and when they were due on average, in seconds since the run began."""

    cell: Cell
    round: Round
    calls: Rows
    at: float


def timeline(cells: Sequence[Cell], samples: Samples, style: PlotStyle) -> go.Figure:
    """Plots all blocks of a run in which a call succeeded."""
    blocks = sorted(_blocks(cells, samples), key=lambda block: block.at)
    plot = go.Figure()
    for variant in dict.fromkeys(cell.variant for cell in cells):
        mine = [block for block in blocks if block.cell.variant == variant]
        if mine:
            _add_latencies(plot, mine, style)
            _add_server(plot, mine, style)
    _add_noise_probe(plot, blocks)
    _add_shares(plot, blocks)
    plot.update_layout(layout("", "latency, ms", 760))
    for number, (title, domain) in enumerate(_HEIGHTS.items(), 1):
        plot.update_layout({f"yaxis{number}": {**axis(title), "domain": domain, "automargin": True}})
    latencies = [y for trace in plot.data if trace.yaxis is None for y in trace.y if y]
    plot.update_layout(yaxis={"type": "log", "tickvals": log_ticks(latencies)}, yaxis2={"type": "log", "dtick": 1})
    plot.update_layout(yaxis3={"rangemode": "tozero"}, yaxis4={"tickformat": ".0%", "range": [0, 1.02]})
    plot.update_layout(xaxis={**axis("seconds since the run began"), "anchor": "y4"})
    return plot


def _blocks(cells: Sequence[Cell], samples: Samples) -> Iterator[_BlockCalls]:
    for cell in cells:
        rows = steady(samples.of(cell.variant, cell.load))
        for each in cell.rounds:
            calls = np.compress(rows["round"] == each.round, rows)
            if len(calls):
                yield _BlockCalls(cell, each, calls, float(calls["due"].mean()))


def _add_latencies(plot: go.Figure, blocks: Sequence[_BlockCalls], style: PlotStyle) -> None:
    cell = blocks[0].cell
    for name, q, width in (("p50", 0.5, 2.2), ("p99", 0.99, 1.0)):
        xs, ys, texts = list[float | None](), list[float | None](), list[str]()
        for block in blocks:
            points = _percentiles(block.calls, q)
            xs += [*(x for x, _ in points), None]  # so that blocks are not joined
            ys += [*(y for _, y in points), None]
            texts += [block.cell.load.name] * (len(points) + 1)
        plot.add_scatter(
            **of_variant(cell.variant, f", %{{text}}<br>{name} %{{y:.2f}} ms"),
            x=xs,
            y=ys,
            text=texts,
            mode="lines+markers",
            line={"color": style.color(cell), "width": width, "dash": "solid" if name == "p50" else "dot"},
            marker={"size": 5 if name == "p50" else 3, "symbol": style.shape(cell).marker},
        )


def _add_server(plot: go.Figure, blocks: Sequence[_BlockCalls], style: PlotStyle) -> None:
    cell = blocks[0].cell
    for name, field, suffix in (("compute", "compute_ms_mean", ""), ("queue", "queue_ms_mean", "-open")):
        shown = [(block, known) for block in blocks if (known := getattr(block.round.server, field))]
        plot.add_scatter(
            **of_variant(cell.variant, f", %{{text}}<br>{name} %{{y:.3f}} ms"),
            x=rounded(block.at for block, _ in shown),
            y=rounded(known for _, known in shown),
            text=[block.cell.load.name for block, _ in shown],
            yaxis="y2",
            mode="markers",
            marker={"size": 7, "color": style.color(cell), "symbol": style.shape(cell).marker + suffix},
        )


def _add_noise_probe(plot: go.Figure, blocks: Sequence[_BlockCalls]) -> None:
    known = [(block, block.round.canary_seconds) for block in blocks if block.round.canary_seconds is not None]
    colors = ["#b42318" if not s.round.steady else "#d97706" if s.round.reruns else INK for s, _ in known]
    plot.add_scatter(
        x=rounded(block.at for block, _ in known),
        y=rounded(seconds * 1e3 for _, seconds in known),
        text=[_what_happened(block) for block, _ in known],
        yaxis="y3",
        mode="lines+markers",
        line={"color": INK, "width": 1},
        marker={"color": colors, "size": [5 if color == INK else 10 for color in colors]},
        hovertemplate="noise probe %{y:.1f} ms<br>after %{text}<extra></extra>",
    )


def _add_shares(plot: go.Figure, blocks: Sequence[_BlockCalls]) -> None:
    shown = ("own", "the run itself", "#4C78A8"), ("others", "others", "#d97706"), ("steal", "steal", "#b42318")
    for field, name, color in shown:
        shares = [(block.at, getattr(block.round.conditions, field)) for block in blocks]
        known = [(at, share) for at, share in shares if share is not None]
        plot.add_scatter(
            x=rounded(at for at, _ in known),
            y=rounded(share for _, share in known),
            yaxis="y4",
            mode="lines+markers",
            line={"color": color, "width": 1.4},
            marker={"size": 4},
            hovertemplate=f"{name} %{{y:.1%}} of all cores<extra></extra>",
        )


def _percentiles(calls: Rows, q: float) -> list[tuple[float, float]]:
    """Returns times and milliseconds: of each second, or of the shortest stretches that hold enough calls."""
    begin, end = float(calls["due"].min()), float(calls["due"].max())
    bins = min(MOST_POINTS, max(1, round(end - begin)), max(1, len(calls) // significance.samples_needed(q)))
    edges = np.linspace(begin, end, bins + 1)
    which = np.clip(np.searchsorted(edges, calls["due"], side="right") - 1, 0, bins - 1)
    points = []
    for number in range(bins):
        value = significance.quantile(np.compress(which == number, calls["latency"]) * 1e3, q)
        if value is not None:
            points.append((round(float(edges[number : number + 2].mean()), 2), float(f"{value:.4g}")))
    return points


def _what_happened(block: _BlockCalls) -> str:
    what = f"{escape(block.cell.variant)}, {block.cell.load.name}, round {block.round.round}"
    if block.round.reruns:
        what += f"<br>measured {block.round.reruns + 1} times, because the machine had changed"
    return what if block.round.steady else what + "<br>the machine changed during it"
