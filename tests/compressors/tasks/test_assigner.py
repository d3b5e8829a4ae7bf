"""Anchors as SCRFD has them, and ATSS on a case that is worked out by hand."""

import pytest
import torch

from compressors.tasks.assigner import Anchors, assign, iou


def boxes(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


@pytest.mark.parametrize(
    ("other", "expected"),
    [((0, 0, 10, 10), 1), ((5, 0, 15, 10), 1 / 3), ((20, 0, 30, 10), 0), ((2, 2, 4, 7), 0.1), ((4, 4, 4, 4), 0)],
)
def test_intersection_over_union(other: tuple[float, ...], expected: float) -> None:
    assert iou(boxes((0, 0, 10, 10)), boxes(other)).item() == pytest.approx(expected)


def test_anchors_are_ordered_by_level_y_x_side() -> None:
    anchors = Anchors.of((32, 64))
    assert anchors.strides.tolist() == [8] * 64 + [16] * 16 + [32] * 4
    assert anchors.centres[[0, 1, 2, 16, 64, 66, 82]].tolist() == [
        [0, 0], [0, 0], [8, 0], [0, 8], [0, 0], [16, 0], [32, 0],
    ]  # fmt: skip
    assert anchors.boxes[[2, 3, 64, 65, 82, 83]].tolist() == [
        [0, -8, 16, 8], [-8, -16, 24, 16], [-32, -32, 32, 32], [-64, -64, 64, 64], [-96, -128, 160, 128],
        [-224, -256, 288, 256],
    ]  # fmt: skip


AT_16_16, AT_24_16 = 2 * (2 * 8 + 2), 2 * (2 * 8 + 3)
"""In an input of 64x64, the anchors of side 16 at these positions."""


def test_an_object_gets_the_anchors_that_overlap_it_more_than_most_do() -> None:
    """The candidates at stride 8 overlap by 1, 1/4, four times 1/3 and three times 1/4, the five and four at stride 16
    by 1/16 and 1/64, the four and four at stride 32 by 1/256 and 1/1024: mean 0.143, deviation 0.217."""
    owners = assign(Anchors.of((64, 64)), boxes((8, 8, 24, 24)), torch.tensor([1]), count=2)
    assert owners.shape == (2, 168)
    assert (owners >= 0).nonzero().tolist() == [[1, AT_16_16]]


def test_an_anchor_that_two_want_goes_to_the_one_it_overlaps_more() -> None:
    """The anchor at (16, 16) overlaps the second object by 7/9, more than its other anchor's 5/11."""
    owners = assign(Anchors.of((64, 64)), boxes((8, 8, 24, 24), (10, 8, 26, 24)), torch.tensor([0, 0]), count=1)
    assert owners[0, AT_16_16] == 0
    assert owners[0, AT_24_16] == 1
    assert (owners >= 0).sum() == 2


def test_objects_in_two_images_do_not_compete() -> None:
    owners = assign(Anchors.of((64, 64)), boxes((8, 8, 24, 24), (8, 8, 24, 24)), torch.tensor([0, 1]), count=2)
    assert owners[:, AT_16_16].tolist() == [0, 1]


@pytest.mark.parametrize("box", [(10, 10, 14, 14), (16, 16, 16, 16)])
def test_an_object_in_which_no_centre_lies_gets_no_anchor(box: tuple[float, ...]) -> None:
    assert (assign(Anchors.of((64, 64)), boxes(box), torch.tensor([0]), count=1) == -1).all()


def test_without_objects_all_anchors_are_negative() -> None:
    assert (assign(Anchors.of((64, 64)), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), count=3) == -1).all()
