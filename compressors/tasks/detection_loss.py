"""What a detector is trained on: each anchor's score says how well its box fits, each positive's box and points do fit.

Scores learn by the quality focal loss (Li et al. 2020, https://arxiv.org/abs/2006.04388), boxes by the distance IoU
(Zheng et al. 2019, https://arxiv.org/abs/1911.08287), key points by smooth L1, as SCRFD's authors weigh them.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional

from compressors.networks.scrfd import STRIDES
from compressors.networks.torchvision import torchvision
from compressors.tasks.assigner import Anchors, assign, iou
from protos.tasks.boxes import Truth

BOX, POINTS = 2.0, 0.1
"""Weights of the losses of boxes and key points; that of scores has 1."""
_BETA = 1 / 9
"""Where smooth L1 turns from a square into a line, in units of the stride."""


class DetectionLoss:
    """The loss of a batch of inputs of one (height, width)."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._anchors = Anchors.of(size)

    def __call__(self, logits: Sequence[torch.Tensor], truths: Sequence[Truth]) -> torch.Tensor:
        """Returns the loss, a scalar, of SCRFD's outputs with scores before their sigmoid.

        `truths` has one image each, its boxes and key points in pixels of the input; a key point that is NaN counts
        for nothing, and so do all of them where network or data have none.
        """
        truth, levels = Truth.joined(truths), len(STRIDES)
        kinds = [logits[i : i + levels] for i in range(0, len(logits), levels)]
        scores, distances, *points = (torch.cat(list(kind), 1).flatten(0, 1).float() for kind in kinds)
        boxes, images = torch.from_numpy(truth.boxes), torch.arange(len(truth))
        owners = assign(self._anchors, boxes, images.repeat_interleave(torch.from_numpy(truth.counts)), len(truth))
        positive = (owners.flatten() >= 0).nonzero()[:, 0]
        owner, anchor = owners.flatten()[positive], positive % len(self._anchors.strides)
        stride = self._anchors.strides[anchor, None]
        centre, wanted = self._anchors.centres[anchor] / stride, boxes[owner] / stride
        found = torch.cat([centre - distances[positive, :2], centre + distances[positive, 2:]], 1)
        own = positive, torch.from_numpy(truth.classes)[owner]
        weights, qualities = scores[own].detach().sigmoid(), torch.zeros_like(scores)
        qualities[own] = iou(found, wanted).detach()
        loss: torch.Tensor = BOX * weights @ torchvision.ops.distance_box_iou_loss(found, wanted)
        if points and truth.keypoints.size:
            targets = (torch.from_numpy(truth.keypoints)[owner] / stride).unflatten(1, (-1, 2)) - centre[:, None]
            loss = loss + POINTS * weights @ point_loss(points[0][positive], targets.flatten(1))
        return quality_focal_loss(scores, qualities) / max(1, len(positive)) + loss / weights.sum().clamp(min=1e-12)


def quality_focal_loss(logits: torch.Tensor, qualities: torch.Tensor) -> torch.Tensor:
    """Returns the sum of the cross entropies, each weighted by the square of how far the probability is off."""
    entropies = functional.binary_cross_entropy_with_logits(logits, qualities, reduction="none")
    return (entropies * (qualities - logits.sigmoid()).square()).sum()


def point_loss(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Returns the sum (M,) of smooth L1 over each row of (M, 2P); what is NaN in `wanted` adds nothing."""
    known = torch.where(wanted.isnan(), found.detach(), wanted)
    return functional.smooth_l1_loss(found, known, reduction="none", beta=_BETA).sum(1)
