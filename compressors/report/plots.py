"""A page of plots for each model of a repository: accuracy against latency, against size, and pruning curves.

Colours stand for runtimes, shapes for recipes. A line through the upper left of a plot joins the variants that
no other one beats in both. The pages open without a network: Plotly is inside.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from html import escape
from math import inf, log10
from pathlib import Path

import plotly.graph_objects as go
import plotly.offline

from compressors.report.table import compared_with
from compressors.tasks.table import STUDIED
from protos.errors import UsageError
from protos.frontier import KnownAccuracy, drop_below_fp32, pareto_frontier
from protos.manifest import Variant
from protos.repository import Entry
from protos.support.plots.bundle import cut
from protos.support.plots.style import GREY, color, log_axis, shape

_AMOUNTS = ("ratio", "sparsity")
"""Parameters of a step that say how much it removes."""
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<script>{plotly}</script>
<style>body {{ font: 15px system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #334155 }}</style>
<main><h1>{title}</h1>
{plots}
<p>{measured}</p></main>
</html>
"""

Point = tuple[float, Variant]
"""A cost, and whose it is."""


def write(entries: list[Entry], folder: Path, speedups: Sequence[float] = ()) -> list[Path]:
    """Writes `<folder>/<model>.html` for each model, returns the paths; raises `UsageError` without any variant.

    Latencies so many times below that of the variant that all are compared with, as the table does, have lines.
    """
    models = defaultdict[str, list[Variant]](list)
    for entry in entries:
        if entry.variant:
            models[entry.model].append(entry.variant)
    known = {model: variants for model, variants in models.items() if any(v.quality for v in variants)}
    if not known:
        raise UsageError("the repository holds no variant with measured accuracy")
    folder.mkdir(parents=True, exist_ok=True)
    for model, variants in known.items():
        (folder / f"{model}.html").write_text(_page(model, variants, speedups))
    return [folder / f"{model}.html" for model in known]


def of_model(variants: list[Variant], speedups: Sequence[float] = ()) -> dict[str, go.Figure]:
    """Returns the plots of one model that have something to show, by heading."""
    milliseconds = [v.latency.p50_ms if v.latency else None for v in variants]
    found = {
        "Accuracy against latency": _scatter(variants, milliseconds, "p50 latency, ms"),
        "Accuracy against size": _scatter(variants, [v.artifact_bytes / 1e6 for v in variants], "size on disk, MB"),
        "Pruning": _pruning(variants),
    }
    base = compared_with(variants)
    if base is not None and base.latency and found["Accuracy against latency"].data:
        for times in speedups:
            found["Accuracy against latency"].add_vline(
                base.latency.p50_ms / times, line={"color": GREY, "dash": "dash", "width": 1},
                label={"text": f"{times:g}x", "font": {"size": 11}, "textposition": "end", "textangle": 0},
            )  # fmt: skip
    return {heading: figure for heading, figure in found.items() if figure.data}


def _page(model: str, variants: list[Variant], speedups: Sequence[float]) -> str:
    known, parts = [v for v in variants if v.quality], []
    for heading, figure in of_model(known, speedups).items():
        plot = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
        parts.append(f"<h2>{heading}</h2>\n{plot}")
        parts += [f"<p>Not in this chart: {absent}.</p>"] if (absent := _absent(heading, variants)) else []
    first = known[0]
    assert first.quality is not None
    images = f"{first.quality.samples} images of {first.quality.dataset}"
    measured = f"{STUDIED[first.task].heading} on {images}. Latency: batch 1, in process."
    machine = f"Machine: {first.machine.cpu}, {first.machine.cores} cores."
    return _PAGE.format(
        title=escape(model),
        plotly=cut(plotly.offline.get_plotlyjs()),
        plots="\n".join(parts),
        measured=escape(f"{measured} {machine}"),
    )


def _absent(heading: str, variants: list[Variant]) -> str:
    """Names the variants that a plot of accuracy lacks, with the reason; pruning curves are of some variants only."""
    if heading == "Pruning":
        return ""
    lacks = {v.variant: "accuracy unknown" for v in variants if not v.quality}
    if heading == "Accuracy against latency":
        lacks |= {v.variant: "latency not measured" for v in variants if v.quality and not v.latency}
    return escape(", ".join(f"{variant} ({why})" for variant, why in lacks.items()))


def _accuracy(v: Variant) -> float:
    assert v.quality is not None
    return v.quality.value


def _known(v: Variant) -> KnownAccuracy:
    assert v.quality is not None
    return KnownAccuracy(v.quality.value, drop_below_fp32(v.variant, v.quality.drop_interval))


def _scatter(variants: list[Variant], costs: Sequence[float | None], title: str) -> go.Figure:
    """Plots accuracy over what each variant costs; the upper left is good."""
    points = [(cost, v) for cost, v in zip(costs, variants, strict=True) if cost is not None]
    if not points:
        return go.Figure()
    points.sort(key=lambda point: (point[0], -_accuracy(point[1])))
    x, y = [cost for cost, _ in points], [_accuracy(v) for _, v in points]
    best = pareto_frontier(x, [_known(v) for _, v in points])
    figure = _empty(title, variants[0])
    figure.add_scatter(
        x=[x[i] for i in best], y=[y[i] for i in best], mode="lines", hoverinfo="skip", name="frontier",
        line={"color": GREY, "dash": "dot", "width": 1.5, "shape": "hv"},
    )  # fmt: skip
    symbols = {"symbol": [shape(v.recipe.name).marker for _, v in points], "size": 11, "opacity": 0.8}
    figure.add_scatter(
        x=x, y=y, mode="markers", showlegend=False, marker=symbols | {"color": [color(v.runtime) for _, v in points]},
        text=[v.variant for _, v in points], hovertemplate="<b>%{text}</b><br>%{y:.2%}, %{x:.3g}<extra></extra>",
    )  # fmt: skip
    legend = [(str(runtime), color(runtime), "circle") for runtime in sorted({v.runtime for v in variants})]
    legend += [(recipe, GREY, shape(recipe).marker) for recipe in sorted({v.recipe.name for v in variants})]
    for name, paint, symbol in legend:  # lines of the legend that stand for no points of their own
        marker = {"color": paint, "symbol": symbol, "size": 10}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=marker)
    figure.update_xaxes(log_axis(x))
    figure.update_layout(annotations=_names([points[i] for i in best], points))
    return figure


def _pruning(variants: list[Variant]) -> go.Figure:
    """Plots accuracy over the share of FP32's weights that is gone, a line for each kind of pruning.

    It shows the runtime that has most pruned variants: accuracy hardly depends on it.
    """
    pruned = [v for v in variants if any(amount in v.recipe.steps[-1].parameters for amount in _AMOUNTS)]
    runtime, count = Counter(v.runtime for v in pruned).most_common(1)[0] if pruned else ("", 0)
    base = compared_with([v for v in variants if v.runtime == runtime])
    if base is None or count < 2:
        return go.Figure()
    curves = defaultdict[str, dict[float, Variant]](lambda: {0.0: base})
    for v in (v for v in pruned if v.runtime == runtime):
        curves[_kind(v)][1 - v.network.nonzero_parameters / base.network.nonzero_parameters] = v
    figure = _empty("weights removed, of those of FP32", base)
    for kind, removed in curves.items():
        points = sorted(removed.items())
        figure.add_scatter(
            x=[x for x, _ in points], y=[_accuracy(v) for _, v in points], mode="lines+markers", name=kind,
            text=[v.recipe.name for _, v in points], hovertemplate="<b>%{text}</b><br>%{y:.2%}, %{x:.1%} removed",
        )  # fmt: skip
    figure.update_layout(xaxis_tickformat="~%", showlegend=True)
    return figure


def _kind(v: Variant) -> str:
    """Returns the last step's name and what it says besides amounts and training, such as its scope."""
    step = v.recipe.steps[-1]
    return " ".join([step.name, *(str(value) for value in step.parameters.values() if isinstance(value, str))])


def _names(best: Sequence[Point], points: Sequence[Point]) -> list[dict[str, object]]:
    """Writes names to the upper left of the frontier, where no point lies; those of neighbours are stacked."""
    wide = log10(points[-1][0] / points[0][0]) or 1.0
    high = max(_accuracy(v) for _, v in points) - min(_accuracy(v) for _, v in points) or 1.0
    names, level, before = list[dict[str, object]](), 0, (-inf, -inf)
    for x, v in best:
        at = (log10(x), _accuracy(v))
        level = level + 1 if at[0] - before[0] < wide * 0.4 and at[1] - before[1] < high * 0.1 else 0
        before = at
        names.append({
            "x": at[0], "y": at[1], "text": escape(v.variant), "xanchor": "right", "ax": -18, "ay": -14 - 15 * level,
            "arrowwidth": 1, "arrowhead": 0, "arrowcolor": GREY, "standoff": 6, "font": {"size": 11},
        })  # fmt: skip
    return names


def _empty(title: str, of: Variant) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white", height=440, margin={"l": 70, "r": 20, "t": 60, "b": 50}, hovermode="closest",
        xaxis_title=title, yaxis_title=STUDIED[of.task].axis, yaxis_tickformat="~%", font={"color": "#475569"},
    )  # fmt: skip
    return figure
