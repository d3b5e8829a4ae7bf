"""Plots of accuracy as figures: what is in them, and what is said of what is not."""

from dataclasses import replace

import pytest
from plotly.graph_objects import Figure

from loadtest.analysis.results import Cell
from loadtest.report.plots import (
    What,
    absent,
    absent_points,
    accuracy_against_p99,
    accuracy_against_size,
    accuracy_against_throughput,
    load_curves,
)
from protos.support.plots.style import color, shape
from tests.support.loadtest.cells import cell

CELLS = (
    cell("fp32-pytorch", 9.0, 0.98),
    cell("int8-openvino", None, 0.97),
    cell("int8-onnxruntime", 2.0, 0.975, generator_limit="thread"),
    cell("half-pytorch", 3.0, quality=None),
)


def looks(figure: Figure) -> dict[str, tuple[str, str]]:
    """Marker and colour of each variant."""
    return {trace.meta: (trace.marker.symbol, trace.marker.color) for trace in figure.data if trace.meta}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            "p99",
            "Not in this chart: int8-openvino (no p99: 120 answers of 299 needed), half-pytorch (accuracy unknown)."
            " Hollow: int8-onnxruntime (the load generator was the limit).",
        ),
        (
            "throughput",
            "Not in this chart: half-pytorch (accuracy unknown)."
            " Hollow: int8-onnxruntime (the load generator was the limit).",
        ),
        ("size", "Not in this chart: half-pytorch (accuracy unknown)."),
        ("answers", ""),
    ],
)
def test_what_a_plot_leaves_out_is_named_with_the_reason(what: What, said: str) -> None:
    assert absent(CELLS, what) == said


def test_points_that_a_curve_lacks_are_named_with_their_load() -> None:
    lacking = "Not in this chart: int8-openvino at 1 user (no p99: 120 answers of 299 needed)."
    assert absent_points(CELLS, "closed", "p99") == lacking
    assert absent_points(CELLS, "closed", "p50") == absent_points(CELLS, "server", "p99") == ""


def test_a_variant_looks_the_same_in_each_plot_and_whoever_else_is_shown() -> None:
    alone, fp32 = accuracy_against_p99(CELLS[2:3]), ("circle", color("pytorch"))
    together = accuracy_against_p99(CELLS)
    assert (
        looks(alone)["int8-onnxruntime"]
        == looks(together)["int8-onnxruntime"]
        == (
            "square-open",
            color("onnxruntime"),
        )
    )
    assert looks(together)["fp32-pytorch"] == looks(accuracy_against_size(CELLS))["fp32-pytorch"] == fp32


def test_the_size_plot_says_nothing_of_any_load() -> None:
    fast, slow = ([replace(made, throughput_rps=rps) for made in CELLS] for rps in (100.0, 1.0))
    slow = [replace(made, latency_ms=CELLS[0].latency_ms, generator_limit="thread") for made in slow]
    assert accuracy_against_size(fast).to_json() == accuracy_against_size(slow).to_json()


def test_a_plot_knows_its_limit_and_the_accuracy_that_drops_count_from() -> None:
    assert accuracy_against_p99(CELLS).layout.meta == {"limit": "p99", "base": 0.98}
    assert accuracy_against_throughput(CELLS).layout.meta["limit"] == "rate"
    assert accuracy_against_size(CELLS[1:]).layout.meta == {"limit": "max_size", "base": None}


def test_the_marker_at_the_knee_is_large() -> None:
    line: list[Cell] = [
        cell("a-x", p99, rps=rps, users=users) for p99, rps, users in ((4, 90, 1), (5, 160, 2), (9, 170, 4))
    ]
    figure = load_curves(line, "closed", "p99")
    assert figure is not None
    (curve,) = figure.data
    assert curve.marker.size == (8, 16, 8)
    assert curve.text == ("1 user", "2 users, the knee", "4 users")
    assert (curve.line.dash, curve.line.color) == (shape("a").dash, color("x"))
