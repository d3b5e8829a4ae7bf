"""A runtime has one colour and a recipe one shape, in the plots of all programs."""

from typing import get_args

from protos.manifest import RuntimeName
from protos.support.plot_style import SHAPES, colors, shapes


def test_every_runtime_has_a_colour_of_its_own_whoever_else_is_shown() -> None:
    ours = get_args(RuntimeName)
    alone = [colors([runtime])[runtime] for runtime in ours]
    assert alone == [colors([*ours, "tensorrt"])[runtime] for runtime in ours]
    assert len({*alone, colors(["tensorrt"])["tensorrt"]}) == len(ours) + 1


def test_fp32_has_the_first_shape_and_no_two_recipes_the_same() -> None:
    names = [f"recipe{i:02}" for i in range(len(SHAPES) - 1)]
    found = shapes([*names, "fp32"])
    assert found["fp32"] == SHAPES[0]
    assert len(set(found.values())) == len(SHAPES)
