"""The trials of a search for the highest rate, as a plot: what each showed, and the crossing that they say together."""

import math

import plotly.graph_objects as go

from loadtest.measure.measurement import Search
from loadtest.measure.rate_search import UNPROVEN, Trial
from loadtest.report.plot_style import INK, layout, of_variant, rounded
from protos.support.plots.style import log_axis

OUTCOMES = {
    "holds": ("#0f766e", "circle", ("holds",)),
    "broken": ("#d92d20", "x", ("p99", "errors")),
    "proves nothing": (INK, "diamond-open", UNPROVEN),
}
"""What a trial may show, with its colour, its marker, and the outcomes that it stands for."""


def trials(search: Search) -> go.Figure:
    """Plots the p99 of each trial over its rate, the limit as a line, the crossing as another in its shaded interval.

    A trial without enough calls for a p99 stands at the top of the plot, or at the limit if that is higher.
    """
    found, limit, plot = search.found, search.objective.p99_ms, go.Figure()
    top = max([limit, *(trial.p99_ms for trial in found.trials if trial.p99_ms is not None)])
    for name, (color, symbol, outcomes) in OUTCOMES.items():
        shown = [trial for trial in found.trials if trial.outcome(search.objective) in outcomes]
        plot.add_scatter(
            x=rounded(trial.rate for trial in shown),
            y=rounded(top if trial.p99_ms is None else trial.p99_ms for trial in shown),
            text=[_hover(trial) for trial in shown],
            mode="markers",
            marker={"color": color, "symbol": symbol, "size": 9, "line": {"width": 1.5, "color": color}},
            **of_variant(search.variant, f", %{{x}} per second: {name}<br>%{{text}}")
            | {"name": name, "legendgroup": None},
        )
    plot.update_layout(layout("arrivals per second", "p99 latency, ms", 360))
    plot.add_hline(limit, line={"color": INK, "width": 1.5, "dash": "dot"})
    if found.interval and found.crossing:
        low, high = found.interval
        plot.add_vrect(low, high, fillcolor=INK, opacity=0.18, line_width=0)
        plot.add_vline(found.crossing, line={"color": INK, "width": 1.5})
    if found.trials:
        rates = [trial.rate for trial in found.trials]
        reach = [math.log10(min(rates)) - 0.05, math.log10(max(rates)) + 0.05]
        plot.update_xaxes({**log_axis(rates), "range": reach})
        plot.update_yaxes(log_axis([limit, *(y for trace in plot.data for y in trace.y)]))
    return plot


def _hover(trial: Trial) -> str:
    failed = f", {trial.failures:,} failed" if trial.failures else ""
    return f"{trial.p99_text} of {trial.calls:,} calls{failed}" + ("; ended early" if trial.ended_early else "")
