"""What all plots of all programs share: a colour for each runtime, a marker and a dash for each recipe."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from protos.frontier import FP32
from protos.manifest import RuntimeName

GREY = "#64748b"

PALETTE = ("#D55E00", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#8C564B", "#7F7F7F")
"""Okabe and Ito's colours, which most colour-blind people can tell apart, and two more."""


@dataclass(frozen=True)
class Shape:
    """A recipe's marker by Plotly's name and as a character, and the dash of its lines."""

    marker: str
    character: str
    dash: str


_MARKERS = (
    ("circle", "●"), ("square", "■"), ("diamond", "◆"), ("triangle-up", "▲"), ("cross", "✚"), ("star", "★"),
    ("pentagon", "⬟"), ("x", "✖"), ("hexagram", "✶"), ("triangle-down", "▼"), ("triangle-left", "◀"),
    ("triangle-right", "▶"), ("hexagon", "⬢"), ("diamond-tall", "⬧"), ("diamond-wide", "⬥"), ("bowtie", "⧓"),
    ("hourglass", "⧗"), ("star-square", "✦"), ("star-diamond", "✧"), ("octagon", "⯃"), ("star-triangle-up", "⟁"),
    ("star-triangle-down", "⧩"),
)  # fmt: skip
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

SHAPES = tuple(Shape(*marker, _DASHES[i % len(_DASHES)]) for i, marker in enumerate(_MARKERS))


def colors(runtimes: Iterable[str]) -> dict[str, str]:
    """Returns a colour for each runtime: ours always have the same, others take what is left, by name."""
    ours, shown = get_args(RuntimeName), dict.fromkeys(runtimes)
    others = sorted(shown.keys() - {*ours})
    named = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate((*ours, *others))}
    return {name: named[name] for name in shown}


def shapes(recipes: Iterable[str]) -> dict[str, Shape]:
    """Returns a shape for each recipe: FP32 has the first, the others follow by name."""
    ordered = sorted({*recipes}, key=lambda name: (name != FP32, name))
    return {name: SHAPES[i % len(SHAPES)] for i, name in enumerate(ordered)}
