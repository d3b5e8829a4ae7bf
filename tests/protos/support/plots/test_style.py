"""A runtime has one colour and a recipe one shape, in the plots of all programs and whatever else is shown."""

import tomllib
from pathlib import Path
from typing import get_args

import pytest

from protos.manifest import RuntimeName
from protos.support.plots.style import PALETTE, SHAPES, color, log_axis, shape

STUDIES = [*(Path(__file__).parents[4] / "compressors" / "studies").glob("*.toml")]


def test_every_runtime_has_a_colour_of_its_own_and_others_have_none_of_ours() -> None:
    ours = [color(runtime) for runtime in get_args(RuntimeName)]
    assert ours == [*PALETTE[: len(ours)]]
    assert color("tensorrt") in PALETTE[len(ours) :]


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_the_recipes_of_a_study_are_told_apart_by_their_markers(study: Path) -> None:
    recipes = [name for name, its in tomllib.loads(study.read_text())["recipes"].items() if its.get("runtimes") != []]
    assert len({shape(recipe).marker for recipe in recipes}) == len(recipes) > 1


def test_fp32_has_the_first_shape_and_an_unknown_recipe_none_of_the_first_four() -> None:
    assert shape("fp32") == SHAPES[0]
    assert not {shape(f"recipe{i}") for i in range(100)} & {*SHAPES[:4]}


@pytest.mark.parametrize(
    ("values", "within"),
    [
        ((1.05, 1.1), ["1", "1.04", "1.06", "1.08", "1.1", "1.12"]),
        ((1.6, 6.2), ["1", "2", "3", "4", "5", "6", "7"]),
        ((2.8, 45.0), ["2", "5", "10", "20", "50"]),
        ((0.5, 3000.0), ["1", "10", "100", "1,000"]),
    ],
)
def test_a_log_axis_has_a_few_round_ticks_and_none_twice(values: tuple[float, ...], within: list[str]) -> None:
    axis = log_axis([*values, None, 0.0])
    texts, ticks = axis["ticktext"], axis["tickvals"]
    assert isinstance(texts, list)
    assert isinstance(ticks, list)
    assert len({*texts}) == len(texts)
    low, high = 0.6 * values[0], 1.2 * values[1]
    assert [text for text, tick in zip(texts, ticks, strict=True) if low <= tick <= high] == within


def test_a_log_axis_of_nothing_has_no_ticks() -> None:
    assert log_axis([]) == {"type": "log", "tickvals": [], "ticktext": []}
