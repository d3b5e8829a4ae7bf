"""The style that all plots of the report share: colours stand for runtimes, marker shapes and dashes for recipes.

Plots have transparent backgrounds and greys that are readable on light and dark pages.
"""

import math
from collections.abc import Iterable, Sequence

from loadtest.analysis.results import Cell
from loadtest.analysis.validity import is_valid
from protos.support.plot_style import GREY, Shape, colors, shapes

INK, GRID = GREY, "rgba(128,128,128,0.2)"


class PlotStyle:
    """Colours and shapes for the variants of one run."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.colors = colors(_runtime(cell) for cell in cells)
        self.shapes = shapes(cell.facts.recipe or "" for cell in cells)

    def color(self, cell: Cell) -> str:
        """Returns the colour of the cell's runtime."""
        return self.colors[_runtime(cell)]

    def shape(self, cell: Cell) -> Shape:
        """Returns the marker and the dash of the cell's recipe."""
        return self.shapes[cell.facts.recipe or ""]

    def symbol(self, cell: Cell) -> str:
        """Returns the marker of the cell's recipe, hollow where the cell is not valid."""
        return self.shape(cell).marker + ("" if is_valid(cell) else "-open")


def of_variant(variant: str, hover: str) -> dict[str, object]:
    """Returns what every trace of a variant has: its name, by which the page also filters, and its hover text."""
    return {"name": variant, "meta": variant, "hovertemplate": f"<b>{escape(variant)}</b>{hover}<extra></extra>"}


def layout(x: str, y: str, height: int) -> dict[str, object]:
    """Returns the layout of a plot with one pair of axes."""
    return {
        "template": "none",
        "height": height,
        "margin": {"l": 64, "r": 16, "t": 12, "b": 52},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "xaxis": axis(x),
        "yaxis": {**axis(y), "automargin": True},
    }


def axis(title: str) -> dict[str, object]:
    """Returns one axis with its title."""
    return {
        "title": {"text": title, "standoff": 12},
        "gridcolor": GRID,
        "linecolor": GRID,
        "tickcolor": GRID,
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
    }


def escape(text: str) -> str:
    """Returns text that a plot does not take for markup or for a template."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("%{", "% {")


def rounded(values: Iterable[float]) -> list[float]:
    """Returns the values with the four digits that can be seen."""
    return [float(f"{value:.4g}") for value in values]


def log_ticks(values: Iterable[float]) -> list[float]:
    """Returns 1, 2, 5, 10, ... around positive values: Plotly's own ticks on a log axis are either few or crowded."""
    positive = [value for value in values if value > 0]
    if not positive:
        return []
    low, high = math.floor(math.log10(min(positive))) - 1, math.ceil(math.log10(max(positive))) + 1
    return [float(f"{step}e{power}") for power in range(low, high + 1) for step in (1, 2, 5)]


def _runtime(cell: Cell) -> str:
    return cell.facts.runtime or cell.variant
