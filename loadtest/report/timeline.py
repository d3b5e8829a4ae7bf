"""The run over time as one Plotly figure: what clients saw, what the server saw, and what the machine was doing.

    latency   p50 and p99 of the calls that were due in each second of a block's steady state
    server    mean time in queue and engine, of each block
    canary    what a fixed piece of work took after each block; blocks that were measured again are marked
    CPU       share of the run itself, of others, and of steal, while each block was measured

Seconds count from the beginning of the run. Where a second has too few calls for a percentile, longer stretches
are taken, up to a whole block.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from loadtest import stats
from loadtest.analysis.results import Cell, Round
from loadtest.measure.measurement import steady
from loadtest.report.plot_style import INK, PlotStyle, axis, brief, escape, layout, log_ticks
from loadtest.users.recorder import Rows, Samples

MOST_POINTS = 20
"""Of a percentile in one block."""

_ROWS = ((0.62, 1.0), (0.39, 0.57), (0.19, 0.34), (0.0, 0.14))
"""The parts of the height that the four plots take, from the top."""

_Point = tuple[float, float]


@dataclass(frozen=True)
class _Spell:
    """One block of a cell: its calls, and when they were due on average."""

    cell: Cell
    round: Round
    calls: Rows

    @property
    def at(self) -> float:
        return float(self.calls["due"].mean())


def timeline(cells: Sequence[Cell], samples: Samples, style: PlotStyle) -> go.Figure:
    """All blocks of a run in which a call succeeded."""
    spells = sorted(_spells(cells, samples), key=lambda spell: spell.at)
    figure = go.Figure()
    for variant in dict.fromkeys(cell.variant for cell in cells):
        mine = [spell for spell in spells if spell.cell.variant == variant]
        if mine:
            _add_latencies(figure, mine, style)
            _add_server(figure, mine, style)
    _add_canary(figure, spells)
    _add_shares(figure, spells)
    figure.update_layout(layout("", "latency, ms", 760))
    titles = ("latency, ms", "server, ms", "canary, ms", "CPU")
    for number, (title, domain) in enumerate(zip(titles, _ROWS, strict=True), 1):
        figure.update_layout({f"yaxis{number}": {**axis(title), "domain": domain, "automargin": True}})
    latencies = [y for trace in figure.data if trace.yaxis is None for y in trace.y if y]
    figure.update_layout(yaxis={"type": "log", "tickvals": log_ticks(latencies)}, yaxis2={"type": "log", "dtick": 1})
    figure.update_layout(yaxis3={"rangemode": "tozero"}, yaxis4={"tickformat": ".0%", "range": [0, 1.02]})
    figure.update_layout(xaxis={**axis("seconds since the run began"), "anchor": "y4"})
    return figure


def _spells(cells: Sequence[Cell], samples: Samples) -> Iterator[_Spell]:
    for cell in cells:
        rows = steady(samples.of(cell.variant, cell.load))
        for each in cell.rounds:
            calls = np.compress(rows["round"] == each.round, rows)
            if len(calls):
                yield _Spell(cell, each, calls)


def _add_latencies(figure: go.Figure, spells: Sequence[_Spell], style: PlotStyle) -> None:
    for name, q, width in (("p50", 0.5, 2.2), ("p99", 0.99, 1.0)):
        xs, ys, texts = list[float | None](), list[float | None](), list[str]()
        for spell in spells:
            points = _percentiles(spell.calls, q)
            xs += [*(x for x, _ in points), None]  # so that blocks are not joined
            ys += [*(y for _, y in points), None]
            texts += [spell.cell.load.name] * (len(points) + 1)
        figure.add_scatter(
            **_style(spells[0], style, f"{name} %{{y:.2f}} ms"),
            x=xs,
            y=ys,
            text=texts,
            mode="lines+markers",
            line={"color": style.color(spells[0].cell), "width": width, "dash": "solid" if name == "p50" else "dot"},
            marker={"size": 5 if name == "p50" else 3, "symbol": style.symbol(spells[0].cell).removesuffix("-open")},
        )


def _add_server(figure: go.Figure, spells: Sequence[_Spell], style: PlotStyle) -> None:
    parts: dict[str, tuple[str, Callable[[Round], float | None]]] = {
        "compute": ("", lambda each: each.server.compute_ms_mean),
        "queue": ("-open", lambda each: each.server.queue_ms_mean),
    }
    for name, (suffix, value) in parts.items():
        shown = [(spell, known) for spell in spells if (known := value(spell.round))]
        figure.add_scatter(
            **_style(spells[0], style, f"{name} %{{y:.3f}} ms"),
            x=brief(spell.at for spell, _ in shown),
            y=brief(known for _, known in shown),
            text=[spell.cell.load.name for spell, _ in shown],
            yaxis="y2",
            mode="markers",
            marker={
                "size": 7,
                "color": style.color(spells[0].cell),
                "symbol": style.symbol(spells[0].cell).removesuffix("-open") + suffix,
            },
        )


def _add_canary(figure: go.Figure, spells: Sequence[_Spell]) -> None:
    known = [(spell, spell.round.canary_seconds) for spell in spells if spell.round.canary_seconds is not None]
    colors = ["#b42318" if not s.round.steady else "#d97706" if s.round.reruns else INK for s, _ in known]
    figure.add_scatter(
        x=brief(spell.at for spell, _ in known),
        y=brief(seconds * 1e3 for _, seconds in known),
        text=[_fate(spell) for spell, _ in known],
        yaxis="y3",
        mode="lines+markers",
        line={"color": INK, "width": 1},
        marker={"color": colors, "size": [5 if color == INK else 10 for color in colors]},
        hovertemplate="canary %{y:.1f} ms<br>after %{text}<extra></extra>",
    )


def _add_shares(figure: go.Figure, spells: Sequence[_Spell]) -> None:
    shares: dict[str, tuple[str, Callable[[Round], float | None]]] = {
        "the run itself": ("#4C78A8", lambda each: each.conditions.own),
        "others": ("#d97706", lambda each: each.conditions.others),
        "steal": ("#b42318", lambda each: each.conditions.steal),
    }
    for name, (color, value) in shares.items():
        known = [(spell.at, share) for spell in spells if (share := value(spell.round)) is not None]
        figure.add_scatter(
            x=brief(at for at, _ in known),
            y=brief(share for _, share in known),
            yaxis="y4",
            mode="lines+markers",
            line={"color": color, "width": 1.4},
            marker={"size": 4},
            hovertemplate=f"{name} %{{y:.1%}} of all cores<extra></extra>",
        )


def _percentiles(calls: Rows, q: float) -> list[_Point]:
    """When and what, in milliseconds: of each second, or of the shortest stretches that hold enough calls."""
    begin, end = float(calls["due"].min()), float(calls["due"].max())
    bins = min(MOST_POINTS, max(1, round(end - begin)), max(1, len(calls) // stats.samples_needed(q)))
    edges = np.linspace(begin, end, bins + 1)
    which = np.clip(np.searchsorted(edges, calls["due"], side="right") - 1, 0, bins - 1)
    points = []
    for number in range(bins):
        value = stats.quantile(np.compress(which == number, calls["latency"]) * 1e3, q)
        if value is not None:
            points.append((round(float(edges[number : number + 2].mean()), 2), float(f"{value:.4g}")))
    return points


def _style(spell: _Spell, style: PlotStyle, text: str) -> dict[str, object]:
    name = spell.cell.variant
    hover = f"<b>{escape(name)}</b>, %{{text}}<br>{text}<extra></extra>"
    return {"name": name, "meta": name, "hovertemplate": hover}


def _fate(spell: _Spell) -> str:
    what = f"{escape(spell.cell.variant)}, {spell.cell.load.name}, round {spell.round.round}"
    if spell.round.reruns:
        what += f"<br>measured {spell.round.reruns + 1} times: the machine had changed"
    return what if spell.round.steady else what + "<br>and it was not the same before and after"
