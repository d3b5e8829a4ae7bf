"""Figures: what is on the frontier, what a pruning curve joins, and a page that a browser shows without a complaint."""

from dataclasses import replace
from pathlib import Path

import pytest

from compressors.report import plots
from protos import repository
from protos.manifest import Latency, Network, Quality, Step, Variant
from protos.repository import Entry
from tests.support import browser, toy


@pytest.fixture
def variants(tmp_path: Path) -> list[Variant]:
    """FP32, two sparsities and a slower int8, all in one runtime."""
    toy.repository(tmp_path / "models")
    fp32 = repository.verify(repository.scan(tmp_path / "models")[0])

    def made(name: str, parameters: dict[str, object], top1: float, p50: float, nonzero: int) -> Variant:
        return replace(
            fp32,
            variant=f"{name}-onnxruntime",
            recipe=replace(fp32.recipe, name=name, steps=(Step("element-pruning", parameters),)),  # type: ignore[arg-type]
            quality=Quality("top1", top1, "toy", 20, 0.75, 0.6, fp32=0.75),
            latency=Latency(p50, 1, 1, 100, p95_ms=p50, p99_ms=p50),
            network=Network(1000, nonzero, 3),
        )

    return [
        made("fp32", {}, 0.90, 2.0, 1000),
        made("sparse50", {"sparsity": 0.5, "scope": "global"}, 0.88, 1.0, 500),
        made("sparse90", {"sparsity": 0.9, "scope": "global"}, 0.60, 0.5, 100),
        made("int8", {}, 0.80, 3.0, 1000),
    ]


def test_the_frontier_joins_what_no_other_variant_beats_in_both(variants: list[Variant]) -> None:
    frontier = plots.of_model(variants)["Accuracy against latency"].data[0]
    assert (list(frontier.x), list(frontier.y)) == ([0.5, 1.0, 2.0], [0.60, 0.88, 0.90])


def test_lines_stand_where_a_speed_up_would_be(variants: list[Variant]) -> None:
    plot = plots.of_model(variants, (4, 100))["Accuracy against latency"]
    assert [line.x0 for line in plot.layout.shapes] == [0.5, 0.02]
    assert [line.label.text for line in plot.layout.shapes] == ["4x", "100x"]


def test_a_pruning_curve_goes_from_fp32_through_all_shares(variants: list[Variant]) -> None:
    (curve,) = plots.of_model(variants)["Pruning"].data
    assert list(curve.x) == [0.0, 0.5, 0.9]
    assert list(curve.y) == [0.90, 0.88, 0.60]


def test_without_pruning_there_is_no_curve(variants: list[Variant]) -> None:
    assert list(plots.of_model([variants[0], variants[3]])) == ["Accuracy against latency", "Accuracy against size"]


def test_recipes_are_told_apart_by_markers_that_do_not_depend_on_what_else_is_shown(variants: list[Variant]) -> None:
    def symbols(shown: list[Variant]) -> dict[str, str]:
        (points,) = [d for d in plots.of_model(shown)["Accuracy against size"].data if d.text]
        return dict(zip(points.text, points.marker.symbol, strict=True))

    assert len({*symbols(variants).values()}) == len(variants)
    for each in variants:
        assert symbols([each]).items() <= symbols(variants).items()


def test_a_browser_shows_the_page(variants: list[Variant], tmp_path: Path) -> None:
    untimed, unknown = replace(variants[3], latency=None), replace(variants[2], variant="x-pytorch", quality=None)
    entries = [Entry("toy", v.variant, tmp_path, v, None) for v in (*variants[:3], untimed, unknown)]
    (page,) = plots.write(entries, tmp_path / "plots")
    with browser.chromium(tmp_path / "profile") as window:
        shown = browser.open_page(window, page)
    for text in (
        "Accuracy against latency",
        "Accuracy against size",
        "Pruning",
        "sparse90-onnxruntime",
        "p50 latency, ms",
        "Not in this chart: x-pytorch (accuracy unknown), int8-onnxruntime (latency not measured).",
        "Not in this chart: x-pytorch (accuracy unknown).",
    ):
        assert text in shown
    assert page.stat().st_size < 2e6
