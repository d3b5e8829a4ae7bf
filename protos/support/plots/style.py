"""What all plots of all programs share: a colour for each runtime, a marker and a dash for each recipe, and log axes.

A recipe or a runtime looks the same whatever else is shown. The recipes of the studies that come with the project have
markers of their own; a marker that two of them share stands once in each study. Others get theirs by their name.
"""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from protos.manifest import RuntimeName

GREY = "#64748b"

PALETTE = ("#D55E00", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#8C564B", "#7F7F7F")
"""Okabe and Ito's colours, which most colour-blind people can tell apart, and two more; ours come first."""


@dataclass(frozen=True)
class Shape:
    """A recipe's marker by Plotly's name, and the dash of its lines."""

    marker: str
    dash: str


_MARKERS = {
    "circle": "fp32",
    "square": "int8",
    "diamond": "channels50 channels79",
    "triangle-up": "channels50-int8 channels79-int8",
    "cross": "sparse50 sparse75 global60 plain16",
    "star": "sparse90 local60 plain16-int8",
    "pentagon": "sparse95 int8-aware int8-min-max plain16-mixed",
    "x": "sparse975 int8-dynamic plain24",
    "hexagram": "clusters32 qat plain24-int8",
    "triangle-down": "weights8 fine-tuned plain24-mixed",
    "triangle-left": "rounded8 fine-tuned-int8 plain8",
    "triangle-right": "fp16 bf16 plain8-int8",
    "hexagon": "channels79-int8-aware qat-int8 int8-entropy plain8-mixed",
    "diamond-tall": "distilled optimized int8-percentile plain16-seed1",
    "diamond-wide": "reviewed int8-mean int8-per-tensor plain16-seed1-mixed",
    "bowtie": "int8-unfused plain16-seed2",
    "hourglass": "plain16-seed2-mixed",
    "star-square": "plain16-distilled",
    "star-diamond": "plain16-distilled-mixed",
    "octagon": "teacher",
    "star-triangle-up": "",
    "star-triangle-down": "",
}
"""Plotly's markers, and the recipes that have them."""
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

SHAPES = tuple(Shape(marker, _DASHES[i % len(_DASHES)]) for i, marker in enumerate(_MARKERS))
_KNOWN = {name: its for its, names in zip(SHAPES, _MARKERS.values(), strict=True) for name in names.split()}


def color(runtime: str) -> str:
    """Returns the colour of a runtime; others than ours share what is left of the palette, by their name."""
    ours = get_args(RuntimeName)
    left = PALETTE[len(ours) :] or PALETTE
    return PALETTE[ours.index(runtime)] if runtime in ours else left[zlib.crc32(runtime.encode()) % len(left)]


def shape(recipe: str) -> Shape:
    """Returns the marker and the dash of a recipe; one that we do not know never looks like the first four."""
    others = SHAPES[4:]
    return _KNOWN.get(recipe) or others[zlib.crc32(recipe.encode()) % len(others)]


def log_axis(values: Iterable[float | None]) -> dict[str, object]:
    """Returns a log axis with a few round ticks among positive values, and as dense ones around them."""
    positive = [value for value in values if value and value > 0]
    ticks = _log_ticks(min(positive), max(positive)) if positive else []
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:,.10g}" for tick in ticks]}


def _log_ticks(low: float, high: float) -> list[float]:
    """Returns powers of ten, or 1, 2, 5, 10, ...; within a factor of five, steps of equal length."""
    decades, equal = math.log10(high / low), list[float]()
    if decades < 0.7:
        span = max(high - low, 0.02 * low)
        power = 10.0 ** math.floor(math.log10(span / 5))
        step = next(power * each for each in (1, 2, 5, 10) if power * each >= span / 5)
        equal = [i * step for i in range(max(1, round((low - span / 4) / step)), round((high + span / 4) / step) + 1)]
        low, high = equal[0], equal[-1]
    steps = (1, 2, 5) if decades < 2.5 else (1,)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    round_ = [float(f"{step}e{power}") for power in powers for step in steps]
    return sorted(float(f"{tick:.6g}") for tick in [*equal, *(x for x in round_ if not equal or x < low or x > high)])
