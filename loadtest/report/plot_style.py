"""The style that all plots of the report share: colours stand for runtimes, marker shapes and dashes for recipes.

Plots have transparent backgrounds and greys that are readable on light and dark pages. Each trace has its variant's own
colour; the page (`web/plots.js`) greys all but those that matter, and puts the legend beside the plot or below it.
"""

from collections.abc import Iterable

from loadtest.analysis.results import Cell
from loadtest.analysis.validity import is_valid
from protos.support.plots import style
from protos.support.plots.style import GREY, Shape

INK, GRID = GREY, "rgba(128,128,128,0.2)"


def color(cell: Cell) -> str:
    """Returns the colour of the cell's runtime."""
    return style.color(cell.facts.runtime or cell.variant)


def shape(cell: Cell) -> Shape:
    """Returns the marker and the dash of the cell's recipe."""
    return style.shape(cell.facts.recipe or cell.variant)


def symbol(cell: Cell) -> str:
    """Returns the marker of the cell's recipe, hollow where the cell is not valid."""
    return shape(cell).marker + ("" if is_valid(cell) else "-open")


def of_variant(variant: str, hover: str) -> dict[str, object]:
    """Returns what every trace of a variant has: its name, by which the page also filters, and its hover text."""
    return {
        "name": escape(variant),
        "meta": variant,
        "legendgroup": variant,
        "hovertemplate": f"<b>{escape(variant)}</b>{hover}<extra></extra>",
    }


def layout(x: str, y: str, height: int) -> dict[str, object]:
    """Returns the layout of a plot with one pair of axes."""
    return {
        "template": "none",
        "height": height,
        "margin": {"l": 64, "r": 16, "t": 24, "b": 52},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "showlegend": True,
        "legend": {"itemdoubleclick": False, "traceorder": "normal"},
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
