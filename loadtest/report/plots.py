"""The report's plots: accuracy against what it costs, how latencies are distributed, and where the time goes.

The page draws limits into the plots of accuracy (`meta` of their layouts says which), rings the winner, and names the
variants that matter: limits and winner change there. What a plot cannot show is named under it (`absent`).
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from loadtest import stats
from loadtest.analysis.breakdown import PARTS, Breakdown
from loadtest.analysis.knee import knee
from loadtest.analysis.results import Cell
from loadtest.analysis.validity import baseline_of, is_valid, p99_frontier, throughput_frontier, title_of
from loadtest.decision.accuracy import frontier
from loadtest.measure.measurement import steady_latencies
from loadtest.plan import Scenario
from loadtest.report.plot_style import INK, color, escape, layout, of_variant, rounded, shape, symbol
from loadtest.users.recorder import Samples
from protos.support import significance
from protos.support.plots.style import log_axis

Percentile = Literal["p50", "p99"]
What = Literal["p99", "throughput", "size", "answers"]
"""What a plot needs of a cell; all but answers are plotted against accuracy."""
_HOLLOW: tuple[What, ...] = ("p99", "throughput")
"""In these plots a cell that is not valid is hollow."""
Point = tuple[float, Cell]
"""What a variant costs, and the cell that says so."""

CURVE_POINTS = 120
"""Points drawn of each distribution; percentiles are made of all samples."""
MOST_WITHIN = 0.995
"""The plot of answers within a time ends here, the slowest variant's share; the tail has a plot of its own."""


def accuracy_against_p99(cells: Sequence[Cell]) -> go.Figure:
    """Plots quality over p99 for the cells of one load; the upper left is good."""
    points = [(cell.latency_ms.p99 or 0.0, cell) for cell in cells]
    plot = _accuracy(points, p99_frontier(cells), "p99 latency, ms", "hv", _measured)
    return plot.update_layout(meta={"limit": "p99", "base": _base(cells)})


def accuracy_against_throughput(cells: Sequence[Cell]) -> go.Figure:
    """Plots quality over throughput for the cells of one load; the upper right is good."""
    points = [(cell.throughput_rps, cell) for cell in cells]
    best = throughput_frontier(cells)[::-1]
    plot = _accuracy(points, best, "throughput, requests per second", "vh", _measured)
    arrive = any(cell.load.scenario == "server" for cell in cells)  # the throughput is what came, not what could be
    return plot.update_layout(meta={"limit": "none" if arrive else "rate", "base": _base(cells)})


def accuracy_against_size(cells: Sequence[Cell]) -> go.Figure:
    """Plots quality over the artifact's size, each variant once, with nothing of any load; the upper left is good."""
    once = {cell.variant: cell for cell in cells}.values()
    points = [(_megabytes(cell), cell) for cell in once]
    best = frontier([cell for size, cell in points if size], _megabytes)
    plot = _accuracy(points, best, "artifact on disk, MB", "hv", lambda cell: (shape(cell).marker, _built(cell)))
    return plot.update_layout(meta={"limit": "max_size", "base": _base(cells)})


def absent(cells: Sequence[Cell], what: What) -> str:
    """Names the variants that a plot lacks, with the reason, and says why others are hollow in it."""
    lacks = [f"{cell.variant} ({why})" for cell in cells if (why := _lacks(cell, what))]
    hollow = [f"{cell.variant} ({why})" for cell in cells if not _lacks(cell, what) and (why := _invalid(cell))]
    return " ".join([_listed("Not in this chart", lacks), _listed("Hollow", hollow if what in _HOLLOW else [])]).strip()


def absent_points(cells: Sequence[Cell], scenario: Scenario, percentile: Percentile) -> str:
    """Names the points that the curves of one scenario lack, with the reason."""
    mine = [cell for cell in cells if cell.load.scenario == scenario]
    lacks = [cell for cell in mine if getattr(cell.latency_ms, percentile) is None]
    names = [f"{cell.variant} at {cell.load.name} ({_too_few(cell, percentile)})" for cell in lacks]
    return _listed("Not in this chart", names)


def distributions(cells: Sequence[Cell], samples: Samples) -> tuple[go.Figure, go.Figure]:
    """Plots the share of answers within a time for the cells of one load, and the share that took longer.

    The second is on a log axis: one in a thousand has as much room as one in ten.
    """
    within, longer, most = go.Figure(), go.Figure(), 0.0
    for cell in cells:
        values = np.sort(steady_latencies(samples.of_figures(cell.variant, cell.load)) * 1e3)
        ranks = stats.thin(len(values), CURVE_POINTS)
        xs, count = np.take(values, ranks).astype(np.float32), max(1, len(values))
        most = max(most, float(np.quantile(values, MOST_WITHIN)) if len(values) else 0.0)
        line = {"color": color(cell), "dash": shape(cell).dash, "width": 1.8}
        for plot, shares, text in (
            (within, (ranks + 1) / count, "%{y:.1%} within"),
            (longer, 1 - ranks / count, "%{y:.3~%} take at least"),
        ):
            hover = of_variant(cell.variant, f"<br>{text} %{{x:.2f}} ms")
            plot.add_scatter(x=xs, y=shares.astype(np.float32), mode="lines", line=line, **hover)
    for plot in (within, longer):
        plot.update_layout(layout("latency, ms", "share of answers", 380))
        plot.update_xaxes(log_axis(float(x) for trace in plot.data for x in trace.x))
    least = min((float(x) for trace in within.data for x in trace.x), default=0.0)
    if 0 < least < most:
        within.update_xaxes(range=[np.log10(least * 0.97), np.log10(most * 1.03)])
    within.update_yaxes(tickformat=".0%", range=[0, 1.01])
    longer.update_yaxes(type="log", tickformat="~%", dtick=1)
    return within, longer


def load_curves(cells: Sequence[Cell], scenario: Scenario, percentile: Percentile) -> go.Figure | None:
    """Plots a percentile over the throughput reached, one line a variant through its loads; None with a single load.

    The marker at a variant's knee (`analysis.knee`) is large.
    """
    mine = [cell for cell in cells if cell.load.scenario == scenario]
    if len({cell.load for cell in mine}) < 2:
        return None
    plot = go.Figure()
    for variant in dict.fromkeys(cell.variant for cell in mine):
        _add_curve(plot, sorted((c for c in mine if c.variant == variant), key=lambda cell: cell.load), percentile)
    plot.update_layout(layout("throughput, rows per second", f"{percentile} latency, ms", 380))
    plot.update_xaxes(log_axis(x for trace in plot.data for x in trace.x))
    plot.update_yaxes(log_axis(y for trace in plot.data for y in trace.y))
    return plot


def breakdown_bars(breakdowns: Sequence[Breakdown]) -> go.Figure:
    """Plots a stacked bar for each variant, the slowest at the top."""
    plot = go.Figure()
    for each in sorted(breakdowns, key=lambda each: each.total):
        name = escape(each.cell.variant) + (" (limited)" if each.cell.generator_limited else "")
        for part, (part_color, _) in PARTS.items():
            if part in each.parts:
                plot.add_bar(
                    y=[name],
                    x=[float(f"{each.parts[part]:.4g}")],
                    orientation="h",
                    name=part,
                    meta=each.cell.variant,
                    legendgroup=part,
                    marker={"color": part_color, "pattern": {"shape": "/" if part in ("wire", "not split") else ""}},
                    hovertemplate=f"<b>{name}</b><br>{part} %{{x:.3f}} ms of {each.total:.2f} ms<extra></extra>",
                )
    plot.update_layout(layout("mean, ms", "", 110 + 24 * len(breakdowns)))
    plot.update_layout(barmode="stack", bargap=0.3, margin={"l": 10})
    plot.update_yaxes(automargin=True, ticks="", ticklabelstandoff=6, showline=False, showgrid=False)
    return plot


def _add_curve(plot: go.Figure, line: Sequence[Cell], percentile: Percentile) -> None:
    bend = knee(line)
    plot.add_scatter(
        x=rounded(cell.rows * cell.throughput_rps for cell in line),
        y=[getattr(cell.latency_ms, percentile) for cell in line],
        text=[cell.load.name + (", the knee" if cell is bend else "") for cell in line],
        mode="lines+markers",
        line={"color": color(line[0]), "dash": shape(line[0]).dash, "width": 1.6},
        marker={"symbol": [symbol(cell) for cell in line], "size": [16 if cell is bend else 8 for cell in line]},
        **of_variant(line[0].variant, f", %{{text}}<br>{percentile} %{{y:.2f}} ms<br>%{{x:,.0f}} rows/s"),
    )


def _accuracy(
    points: Sequence[Point],
    best: Sequence[Cell],
    title: str,
    stairs: Literal["hv", "vh"],
    look: Callable[[Cell], tuple[str, str]],
) -> go.Figure:
    """Plots points, and the frontier through `best` (by rising x) as stairs; `look` gives marker and hover text."""
    plot, shown = go.Figure(), [(x, cell) for x, cell in points if x and cell.facts.quality is not None]
    where = {cell.variant: x for x, cell in shown}
    plot.add_scatter(
        x=[where[cell.variant] for cell in best],
        y=[cell.facts.quality for cell in best],
        mode="lines",
        line={"color": INK, "width": 1.5, "dash": "dot", "shape": stairs},
        hoverinfo="skip",
        name="frontier",
    )
    for x, cell in shown:
        marker, text = look(cell)
        paint = {"color": color(cell), "symbol": marker, "size": 11, "line": {"width": 1.5, "color": color(cell)}}
        plot.add_scatter(x=[x], y=[cell.facts.quality], mode="markers", marker=paint, **of_variant(cell.variant, text))
    plot.update_layout(layout(title, title_of(cell for _, cell in points), 400))
    plot.update_yaxes(tickformat="~%")
    plot.update_xaxes(log_axis(where.values()))
    return plot


def _base(cells: Sequence[Cell]) -> float | None:
    """Returns the accuracy that limits of its drop count from."""
    baseline = baseline_of(cells)
    return baseline.facts.quality if baseline else None


def _megabytes(cell: Cell) -> float:
    return (cell.facts.artifact_bytes or 0) / 1e6


def _lacks(cell: Cell, what: What) -> str:
    """Returns why a plot cannot show a cell; empty where it can."""
    if what != "answers" and cell.facts.quality is None:
        return "accuracy unknown"
    if what == "size":
        return "" if cell.facts.artifact_bytes else "size unknown"
    if what == "p99" and cell.latency_ms.p99 is None:
        return _too_few(cell, "p99")
    return "" if cell.throughput_rps else "no call succeeded"


def _too_few(cell: Cell, percentile: Percentile) -> str:
    return f"no {percentile}: {cell.samples} answers of {significance.samples_needed(int(percentile[1:]) / 100)} needed"


def _listed(heading: str, names: Sequence[str]) -> str:
    return f"{heading}: {', '.join(names)}." if names else ""


def _invalid(cell: Cell) -> str:
    if is_valid(cell):
        return ""
    return "the load generator was the limit" if cell.generator_limited else "calls failed"


def _measured(cell: Cell) -> tuple[str, str]:
    """Returns marker and hover text of a cell."""
    parts = ["", f"{title_of([cell])} {cell.facts.quality:.2%}"]
    parts += [f"{name} {value:.2f} ms" for name, value in vars(cell.latency_ms).items() if value is not None]
    parts.append(f"{cell.throughput_rps:,.0f} requests/s")
    if cell.facts.artifact_bytes:
        parts.append(f"{_megabytes(cell):.2f} MB")
    return symbol(cell), "<br>".join([*parts, *filter(None, [_invalid(cell)])])


def _built(cell: Cell) -> str:
    return f"<br>{title_of([cell])} {cell.facts.quality:.2%}<br>{_megabytes(cell):.2f} MB"
