"""COCO's average precision, by its own library (https://cocodataset.org/#detection-eval): the mean over classes.

At most the 100 best boxes of an image and a class count. An object that does not count is a crowd in COCO's words:
boxes in it are neither right nor wrong. pycocotools matches and accumulates; for a bootstrap, `weighted_ap` accumulates
the same matches for weighted images.
"""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protos.tasks.boxes import Detections, Truth

SETTINGS = ("all",)
"""What the truth of a data set counts by that is judged as COCO does."""
Weights = NDArray[np.int64]
Scores = NDArray[np.float64]


def coco_ap(found: Detections, truth: Truth) -> dict[str, float]:
    """Returns `ap` (mean over the IoUs .5 to .95), `ap50`, `ap75`, and `ap_small`, `ap_medium`, `ap_large`.

    A figure for which no object counts is absent. Small is up to 32 x 32 pixels and large from 96 x 96, by
    `truth.areas`; medium lies between, and has those two sizes too.
    """
    evaluation = _evaluated(found, truth, areas=4)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., -1]  # IoU, recall, class, area; -1 where no object counts
    cuts = {
        "ap": precision[..., 0],
        "ap50": precision[:1, ..., 0],
        "ap75": precision[5:6, ..., 0],
        **{f"ap_{area}": precision[..., i] for i, area in enumerate(evaluation.params.areaRngLbl) if i},
    }
    return {name: float(cut[cut > -1].mean()) for name, cut in cuts.items() if (cut > -1).any()}


def weighted_ap(found: Detections, truth: Truth) -> Callable[[Weights], Scores]:
    """Returns what gives the `ap` (R,) of samples of images with weights (R, N); NaN without an object that counts."""
    evaluation = _evaluated(found, truth, areas=1)
    images, recalls = len(truth), evaluation.params.recThrs
    starts = range(0, len(evaluation.evalImgs), images)
    classes = [_Matches(evaluation.evalImgs[start : start + images]) for start in starts]

    def ap(weights: Weights) -> Scores:
        each = [[one.ap(sample, recalls) for one in classes] for sample in weights.astype(np.float64)]
        return mean_known(np.array(each).reshape(len(weights), len(classes)))

    return ap


def mean_known(each: Scores) -> Scores:
    """Returns the mean of each row (R, K), as far as it is not NaN; NaN where all of it is."""
    known = ~np.isnan(each)
    means: Scores = np.where(known, each, 0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    return means


class _Matches:
    """The boxes of one class, best score first, and whether each is right at each IoU."""

    def __init__(self, matched: list[dict[str, Any] | None]) -> None:
        """Takes what pycocotools says of each image (N,)."""
        there = [(image, each) for image, each in enumerate(matched) if each is not None]
        self._objects = np.zeros(len(matched))
        for image, each in there:
            self._objects[image] = np.count_nonzero(each["gtIgnore"] == 0)
        scores = np.concatenate([np.zeros(0), *(each["dtScores"] for _, each in there)])
        order = np.argsort(-scores, kind="mergesort")
        right, ignored = (
            np.concatenate([np.zeros((10, 0), np.bool_), *(each[key].astype(np.bool_) for _, each in there)], axis=1)
            for key in ("dtMatches", "dtIgnore")
        )
        images = np.concatenate([np.zeros(0, np.int64), *(np.full(len(e["dtScores"]), i) for i, e in there)])
        self._images = images[order]
        self._right, self._wrong = (right & ~ignored)[:, order], ~right[:, order]

    def ap(self, weights: Scores, recalls: Scores) -> float:
        """Returns the AP with images that count so often (N,), at pycocotools' recalls."""
        objects = self._objects @ weights
        if not objects:
            return float("nan")
        each = weights[self._images]
        right, wrong = np.cumsum(self._right * each, axis=1), np.cumsum(self._wrong * each, axis=1)
        precision = right / np.maximum(right + wrong, np.spacing(1))
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        padded = np.concatenate([envelope, np.zeros((len(envelope), 1))], axis=1)
        places = [np.searchsorted(row, recalls, side="left") for row in right / objects]
        return float(np.take_along_axis(padded, np.array(places), axis=1).mean())


def _evaluated(found: Detections, truth: Truth, areas: int) -> Any:
    """Returns pycocotools' `COCOeval` after it has matched the boxes of each image; the first area is "all"."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        there, ours = COCO(), COCO()
        ignored = ~truth.counting.any(axis=1)
        there.dataset = _dataset(truth, truth, {"area": truth.areas, "iscrowd": ignored.astype(int)})
        sides = found.boxes[:, 2:] - found.boxes[:, :2]
        ours.dataset = _dataset(found, truth, {"area": sides.prod(axis=1), "score": found.scores.astype(float)})
        there.createIndex()
        ours.createIndex()
        evaluation = COCOeval(there, ours, "bbox")
        evaluation.params.areaRng = evaluation.params.areaRng[:areas]
        evaluation.evaluate()
    return evaluation


def _dataset(boxes: Detections | Truth, truth: Truth, more: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Returns boxes in COCO's form; ids begin with 1, since 0 is "no match" to pycocotools."""
    corners, sides = boxes.boxes[:, :2], boxes.boxes[:, 2:] - boxes.boxes[:, :2]
    columns = {
        "id": np.arange(1, len(boxes.boxes) + 1),
        "image_id": np.repeat(np.arange(len(boxes)), boxes.counts),
        "category_id": boxes.classes,
        "bbox": np.concatenate([corners, sides], axis=1),
        **more,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return {
        "images": [{"id": image} for image in range(len(boxes))],
        "categories": [{"id": label} for label in np.unique(truth.classes).tolist()],
        "annotations": [dict(zip(columns, row, strict=True)) for row in rows],
    }
