"""A page of figures for each model of a repository: accuracy against latency, against size, and pruning curves.

Colours stand for runtimes. A line through the upper left of a figure joins the variants that no other one beats in
both. The pages open without a network: Plotly is inside.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from html import escape
from math import log10
from pathlib import Path

import plotly.graph_objects as go
import plotly.offline

from compressors.report import compared_with
from protos.errors import UsageError
from protos.manifest import Variant
from protos.repository import Entry

COLORS = {"pytorch": "#D55E00", "torchscript": "#E69F00", "onnxruntime": "#0072B2", "openvino": "#009E73"}
"""Okabe and Ito's palette, which most colour-blind people can tell apart."""
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon", "x", "hexagram", "triangle-down")
"""For recipes, in the order of their names."""

_AMOUNTS = ("ratio", "sparsity")
"""Parameters of a step that say how much it removes."""
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<script>{plotly}</script>
<style>body {{ font: 15px system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #334155 }}</style>
<main><h1>{title}</h1>
{figures}
<p>{measured}</p></main>
</html>
"""

Metric = Callable[[Variant], float | None]


def write(entries: list[Entry], folder: Path) -> list[Path]:
    """Writes `<folder>/<model>.html` for each model; returns their paths. `UsageError` where there is no variant."""
    models = defaultdict[str, list[Variant]](list)
    for entry in entries:
        if entry.variant and entry.variant.quality:
            models[entry.model].append(entry.variant)
    if not models:
        raise UsageError("the repository holds no variant with measured accuracy")
    folder.mkdir(parents=True, exist_ok=True)
    pages = []
    for model, variants in models.items():
        pages.append(folder / f"{model}.html")
        pages[-1].write_text(_page(model, variants))
    return pages


def of_model(variants: list[Variant]) -> dict[str, go.Figure]:
    """Heading to figure, for the variants of one model; those figures that have something to show."""
    latency, size = _scatter(variants, _latency, "p50 latency, ms"), _scatter(variants, _megabytes, "size on disk, MB")
    found = {"Accuracy against latency": latency, "Accuracy against size": size, "Pruning": _pruning(variants)}
    return {heading: figure for heading, figure in found.items() if figure.data}


def _page(model: str, variants: list[Variant]) -> str:
    parts, first = [], variants[0]
    for heading, figure in of_model(variants).items():
        plot = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
        parts.append(f"<h2>{heading}</h2>\n{plot}")
    assert first.quality is not None
    measured = f"Top-1 on {first.quality.samples} images of {first.quality.dataset}. Latency: batch 1, in process."
    machine = f"Machine: {first.machine.cpu}, {first.machine.cores} cores."
    return _PAGE.format(
        title=escape(model),
        plotly=plotly.offline.get_plotlyjs(),
        figures="\n".join(parts),
        measured=escape(f"{measured} {machine}"),
    )


def _latency(v: Variant) -> float | None:
    return v.latency.p50_ms if v.latency else None


def _megabytes(v: Variant) -> float:
    return v.artifact_bytes / 1e6


def _top1(v: Variant) -> float:
    assert v.quality is not None
    return v.quality.value


def _scatter(variants: list[Variant], metric: Metric, title: str) -> go.Figure:
    """Top-1 over a cost; the upper left is good."""
    recipes = sorted({v.recipe.name for v in variants})
    points = sorted(((x, v) for v in variants if (x := metric(v)) is not None), key=lambda p: (p[0], -_top1(p[1])))
    figure = _empty(title)
    best = _frontier(points)
    figure.add_scatter(
        x=[x for x, _ in best], y=[_top1(v) for _, v in best], mode="lines", hoverinfo="skip", showlegend=False,
        line={"color": "#64748b", "dash": "dot", "width": 1.5, "shape": "hv"},
    )  # fmt: skip
    for runtime in sorted({v.runtime for v in variants}):
        own = [(x, v) for x, v in points if v.runtime == runtime]
        shapes = [SHAPES[recipes.index(v.recipe.name) % len(SHAPES)] for _, v in own]
        figure.add_scatter(
            x=[x for x, _ in own], y=[_top1(v) for _, v in own], mode="markers", name=runtime,
            text=[v.variant for _, v in own], hovertemplate="<b>%{text}</b><br>%{y:.2%}, %{x:.3g}<extra></extra>",
            marker={"color": COLORS.get(runtime, "#64748b"), "size": 11, "symbol": shapes, "opacity": 0.85},
        )  # fmt: skip
    figure.update_xaxes(type="log", dtick="D1")
    for x, v in best:
        figure.add_annotation(_name(x, v))
    return figure if points else go.Figure()


def _pruning(variants: list[Variant]) -> go.Figure:
    """Top-1 over the share of FP32's weights that is gone, a line for each kind of pruning."""
    base = compared_with(variants)
    curves = defaultdict[str, dict[float, Variant]](dict)
    for v in (v for v in variants if base and v.runtime == base.runtime):
        if any(amount in v.recipe.steps[-1].parameters for amount in _AMOUNTS):
            assert base is not None
            curves[_kind(v)][1 - v.network.nonzero_parameters / base.network.nonzero_parameters] = v
    if base is None or not any(len(points) > 1 for points in curves.values()):
        return go.Figure()
    figure = _empty("weights removed, of those of FP32")
    for kind, removed in curves.items():
        points = sorted(({0.0: base} | removed).items())
        figure.add_scatter(
            x=[x for x, _ in points], y=[_top1(v) for _, v in points], mode="lines+markers", name=kind,
            text=[v.recipe.name for _, v in points], hovertemplate="<b>%{text}</b><br>%{y:.2%}, %{x:.1%} removed",
        )  # fmt: skip
    figure.update_xaxes(tickformat=".0%")
    return figure


def _kind(v: Variant) -> str:
    """The last step's name and what it says besides amounts and training, such as its scope."""
    step = v.recipe.steps[-1]
    return " ".join([step.name, *(str(value) for value in step.parameters.values() if isinstance(value, str))])


def _frontier(points: Iterable[tuple[float, Variant]]) -> list[tuple[float, Variant]]:
    """Of points by rising cost, those that are more accurate than all cheaper ones."""
    best: list[tuple[float, Variant]] = []
    for x, v in points:
        if not best or _top1(v) > _top1(best[-1][1]):
            best.append((x, v))
    return best


def _name(x: float, v: Variant) -> dict[str, object]:
    return {
        "x": log10(x), "y": _top1(v), "text": escape(v.variant), "showarrow": False, "xanchor": "right",
        "yanchor": "bottom", "xshift": -6, "yshift": 2, "font": {"size": 11},
    }  # fmt: skip


def _empty(title: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white", height=440, margin={"l": 70, "r": 20, "t": 20, "b": 50}, hovermode="closest",
        xaxis_title=title, yaxis_title="top-1 accuracy", yaxis_tickformat=".1%", font={"color": "#475569"},
    )  # fmt: skip
    return figure
