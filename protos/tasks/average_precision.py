"""Average precision (AP) of found boxes: WIDER FACE's protocol here, COCO's by its own library in `coco`.

A data set whose truth has one setting, "all", is judged as COCO does; one with settings of its own, such as easy,
medium and hard, as WIDER FACE does (https://arxiv.org/abs/1511.06523; the reading of its Python port):

- The scores of all images are scaled together, so that the least is 0 and the greatest 1.
- In each image, best score first, a box belongs to the object of its class that it overlaps most (IoU with one pixel
  added to each side), if by 0.5 or more. The first box of an object that counts is right, each later one is wrong, one
  of an object that does not count is left out, and any other is wrong. In an image without objects nothing is wrong.
- Precision and recall over all images at 1,000 thresholds; AP is the area under the precision's envelope.

What an image adds at each threshold are two numbers. A bootstrap weighs them, and matches nothing again.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from protos.support.significance import CONFIDENCE, Interval
from protos.tasks import coco
from protos.tasks.boxes import Detections, Truth
from protos.tasks.overlap import iou

THRESHOLDS = 1000
MATCH = 0.5
"""Least IoU of a box with its object."""
RESAMPLES, FEWEST, COCO_BOXES = 1000, 100, 5_000_000
"""Samples of a bootstrap. COCO's are costly: as many as have so many boxes together, but not fewer than that."""
Weights = NDArray[np.int64]
"""How often each of N images counts, in each of R samples (R, N)."""
Scores = NDArray[np.float64]


def scores(found: Detections, truth: Truth, settings: tuple[str, ...]) -> dict[str, float]:
    """Returns `ap` and, by name, the other figures; one that no object counts for is absent.

    WIDER's `ap` is the mean over the settings, and `ap_hard` that of the setting "hard"; for ("all",) those of COCO.
    """
    if settings == coco.SETTINGS:
        return coco.coco_ap(found, truth)
    each = dict(zip(settings, wider_ap(found, truth).tolist(), strict=True))
    known = {f"ap_{setting}": ap for setting, ap in each.items() if not np.isnan(ap)}
    return {"ap": sum(known.values()) / len(known), **known} if known else {}


def paired_bootstrap(
    found: Detections,
    reference: Detections,
    truth: Truth,
    settings: tuple[str, ...],
    seed: int = 0,
) -> tuple[Interval | None, Interval | None]:
    """Returns the 95% intervals of the `ap` of `found`, and of how far it is below that of `reference`, by percentiles.

    None where no object counts. Images are drawn with replacement, the same for both (https://doi.org/10.1201/9780429246593).
    Where both find the same everywhere, the drop is 0 to 0, however few images there are.
    """
    count, boxes = len(truth), max(len(found.boxes), len(reference.boxes), 1)
    resamples = RESAMPLES if settings != coco.SETTINGS else min(RESAMPLES, max(FEWEST, COCO_BOXES // boxes))
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    before, now = (_weighted(each, truth, settings)(draws) for each in (reference, found))
    return _percentiles(now), _percentiles(before - now)


def _percentiles(values: Scores) -> Interval | None:
    known, tail = values[~np.isnan(values)], (1 - CONFIDENCE) / 2
    return (float(np.quantile(known, tail)), float(np.quantile(known, 1 - tail))) if len(known) else None


def _weighted(found: Detections, truth: Truth, settings: tuple[str, ...]) -> Callable[[Weights], Scores]:
    """Returns what gives the `ap` (R,) of each sample of images."""
    if settings == coco.SETTINGS:
        return coco.weighted_ap(found, truth)
    images = WiderImages(found, truth)

    def ap(weights: Weights) -> Scores:
        return coco.mean_known(images.ap(weights))

    return ap


def wider_ap(found: Detections, truth: Truth) -> Scores:
    """Returns the AP in each setting of `truth` (S,) by the protocol of WIDER FACE; NaN where no object counts."""
    each: Scores = WiderImages(found, truth).ap(np.ones((1, len(truth)), np.int64))[0]
    return each


class WiderImages:
    """What each image adds to precision and recall."""

    def __init__(self, found: Detections, truth: Truth) -> None:
        """Matches the boxes of N images with what is there, in S settings."""
        judged = [_judge(found.of(image), truth.of(image)) for image in range(len(truth))]
        kept, recalled = (np.concatenate(part) for part in zip(*judged, strict=True))
        images = np.repeat(np.arange(len(truth)), found.counts)
        reached, places = np.unique(_bins(found.scores), return_inverse=True)
        cells, shape = images * len(reached) + places, (len(truth), len(reached))
        self.kept = _at_thresholds(kept, cells, shape)
        """Boxes that are right or wrong, of each image at each of the T thresholds that any box reaches (S, N, T)."""
        self.recalled = _at_thresholds(recalled, cells, shape)
        """Those of them that are right."""
        per_image = np.repeat(np.arange(len(truth)), truth.counts)
        self.counting = np.stack([np.bincount(per_image[c], minlength=len(truth)) for c in truth.counting.T])
        """Objects that are to be found (S, N)."""

    def ap(self, weights: Weights) -> Scores:
        """Returns the AP of each sample of images in each setting (R, S)."""
        shares = weights.astype(np.float32)  # whole numbers below 2^24 are exact
        kept, recalled = (np.matmul(shares, part).astype(np.float64) for part in (self.kept, self.recalled))
        counting = self.counting @ weights.T
        envelope = np.maximum.accumulate((recalled / np.maximum(kept, 1))[..., ::-1], axis=-1)[..., ::-1]
        recalls = np.diff(recalled, axis=-1, prepend=0)
        areas: Scores = (recalls * envelope).sum(axis=-1) / np.where(counting > 0, counting, np.nan)
        return areas.T


def _judge(found: Detections, truth: Truth) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns for each box of one image and each setting whether it is kept, and whether it is right (M, S)."""
    settings = truth.counting.shape[1]
    if not len(truth.boxes):
        return (np.zeros((len(found.boxes), settings), np.bool_),) * 2
    overlaps = iou(found.boxes, truth.boxes, extra=1.0)
    overlaps[found.classes[:, None] != truth.classes] = 0
    best, matched = overlaps.argmax(axis=1), overlaps.max(axis=1) >= MATCH
    counting = truth.counting[best]
    first = np.zeros(len(best), np.bool_)
    rows = np.flatnonzero(matched)
    first[rows[np.unique(best[rows], return_index=True)[1]]] = True
    return ~matched[:, None] | counting, first[:, None] & counting


def _at_thresholds(flags: NDArray[np.bool_], cells: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Counts the flags (M, S) of boxes up to each threshold; `cells` are their places in `shape` (N, T)."""
    counted = [np.bincount(cells[column], minlength=shape[0] * shape[1]).reshape(shape) for column in flags.T]
    return np.stack(counted).cumsum(axis=-1, dtype=np.float32)


def _bins(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the first threshold that each score reaches, after all are scaled to 0..1; equal ones are all 1."""
    if not len(scores):
        return np.zeros(0, np.int64)
    exact = scores.astype(np.float64)
    span = np.ptp(exact)
    scaled = (exact - exact.min()) / span if span else np.ones_like(exact)
    rising = 1 - np.arange(THRESHOLDS, 0, -1) / THRESHOLDS
    return THRESHOLDS - np.searchsorted(rising, scaled, side="right")
