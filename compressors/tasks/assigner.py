"""Which anchor is to find which object: adaptive training sample selection (ATSS).

An object's candidates are the anchors nearest to its centre, as many of each level. Those that overlap it by more than
most of them do, and whose centre lies within it, are its positives; a small object so gets the small anchors without
a threshold that someone has to choose.
Source: Zhang et al. 2019 (https://arxiv.org/abs/1912.02424)
"""

from dataclasses import dataclass

import torch

from compressors.networks.scrfd import SIDES, STRIDES

CANDIDATES = 9
"""Of each level."""
_INSIDE = 1e-3
"""How far from the object's sides a centre must lie, in parts of the root of its area."""


@dataclass(frozen=True)
class Anchors:
    """All A anchors of an input, level by level, ordered by y, x, side, as the outputs of SCRFD are."""

    centres: torch.Tensor
    """Pixels (A, 2): the top left corner of a position's cell."""
    strides: torch.Tensor
    """(A,)."""
    boxes: torch.Tensor
    """(A, 4)."""

    @classmethod
    def of(cls, size: tuple[int, int]) -> "Anchors":
        """Returns the anchors of an input of (height, width)."""
        centres, sides, strides = [], [], []
        for stride, pair in zip(STRIDES, SIDES, strict=True):
            y, x = (torch.arange(length // stride) * float(stride) for length in size)
            positions = torch.cartesian_prod(y, x).flip(1)
            centres.append(positions.repeat_interleave(len(pair), 0))
            sides.append(torch.tensor(pair).repeat(len(positions)))
            strides.append(torch.full((len(centres[-1]),), stride))
        centre, half = torch.cat(centres), torch.cat(sides)[:, None] / 2
        return cls(centre, torch.cat(strides), torch.cat([centre - half, centre + half], 1))


def assign(anchors: Anchors, boxes: torch.Tensor, images: torch.Tensor, count: int) -> torch.Tensor:
    """Returns for every anchor of `count` images (count, A) which of `boxes` (M, 4) it is to find; -1 for none.

    `images` (M,) says in which image a box lies. An anchor that several want goes to the one it overlaps most.
    """
    total = len(anchors.centres)
    if not len(boxes):
        return torch.full((count, total), -1)
    near = torch.cat([_nearest(anchors, boxes, stride) for stride in STRIDES], 1)
    overlaps, centres = iou(anchors.boxes[near], boxes[:, None]), anchors.centres[near]
    sides = torch.cat([centres - boxes[:, None, :2], boxes[:, None, 2:] - centres], 2).amin(2)
    inside = sides > _INSIDE * (boxes[:, 2:] - boxes[:, :2]).prod(1, keepdim=True).sqrt()
    enough = overlaps.mean(1, keepdim=True) + overlaps.std(1, keepdim=True)
    wanting, candidate = ((overlaps >= enough) & inside).nonzero(as_tuple=True)
    wanted = images[wanting] * total + near[wanting, candidate]
    overlap = overlaps[wanting, candidate]
    most = torch.zeros(count * total).scatter_reduce(0, wanted, overlap, "amax")
    wins = overlap == most[wanted]
    owners = torch.full((len(most),), -1)
    owners[wanted[wins]] = wanting[wins]
    return owners.view(count, -1)


def _nearest(anchors: Anchors, boxes: torch.Tensor, stride: int) -> torch.Tensor:
    """Returns the anchors of a level that are nearest to the centre of each box (M, 9), fewer on a small level.

    Anchors of one position are equally near: the smaller one comes first.
    """
    level, each = (anchors.strides == stride).nonzero()[:, 0], len(SIDES[0])
    middles, positions = (boxes[:, :2] + boxes[:, 2:]) / 2, anchors.centres[level[::each]]
    distances = torch.cdist(middles, positions, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.topk(min(-(-CANDIDATES // each), len(positions)), largest=False).indices
    both = each * nearest[:, :, None] + torch.arange(each)
    return level[both.flatten(1)[:, :CANDIDATES]]


def iou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Returns the intersection over union of boxes (..., 4) with boxes (..., 4) at the same places."""
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (one, other)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-7)
