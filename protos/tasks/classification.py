"""Classification: one vector of numbers for each image, the largest of which names its class.

Answers are `best` (N, 1), the most likely class of each image, or (N, 6), that one and then the five most likely ones.
The truth is `labels` (N,).
"""

import numpy as np

from protos.manifest import Decoding, Preprocessing, TensorSpec, Variant
from protos.support.significance import paired_drop_interval, share_equal, share_interval
from protos.tasks.task import Array, Arrays, Comparison, Rows

TOP5_FROM = 6
"""Classes from which on the five most likely ones say something."""


class Classification:
    """See `protos.tasks.task.Task`."""

    metric, title, unit = "top1", "top-1", "images"

    def outputs(self, variant: Variant) -> tuple[TensorSpec, ...]:
        """Returns the outputs of the network."""
        return variant.outputs

    unasked = outputs

    def answers(
        self, outputs: Arrays, images: Array, preprocessing: Preprocessing, decoding: Decoding | None
    ) -> dict[str, Array]:
        """Returns the most likely classes that the one output (N, classes) holds."""
        (logits,) = outputs.values()
        first = logits.argmax(1)[:, None]
        if logits.shape[1] < TOP5_FROM:
            return {"best": first}
        return {"best": np.concatenate([first, np.argpartition(-logits, 5, axis=1)[:, :5]], axis=1)}

    def images(self, answers: Arrays) -> int:
        """Counts the rows."""
        return len(answers["best"])

    def take(self, arrays: Arrays, rows: Rows) -> dict[str, Array]:
        """Returns the rows of each array."""
        return {name: array[rows] for name, array in arrays.items()}

    def check(self, truth: Arrays, reference: Arrays, images: int) -> None:
        """Raises `ValueError` for labels or classes that are not one for each image."""
        labels, best = truth["labels"], reference["best"]
        if labels.dtype != np.int64 or labels.shape != (images,):
            raise ValueError(f"got labels {labels.dtype} {list(labels.shape)}, expected int64 [{images}]")
        if best.dtype != np.int64 or best.ndim != 2 or best.shape[0] != images:
            raise ValueError(f"got classes {best.dtype} {list(best.shape)}, expected int64 [{images}, 1 or more]")

    def scores(self, answers: Arrays, truth: Arrays) -> dict[str, float]:
        """Returns the share of images whose label is the largest output, and of those where it is among five."""
        best, labels = answers["best"], truth["labels"]
        found = {self.metric: share_equal(best[:, 0], labels)}
        if best.shape[1] > 1:
            found["top5"] = float((best[:, 1:] == labels[:, None]).any(axis=1).mean())
        return found

    def compare(self, answers: Arrays, reference: Arrays, truth: Arrays) -> Comparison:
        """Counts the images that only one of the two gets right; the intervals are Wilson's, and Agresti and Min's."""
        now, before, labels = answers["best"][:, 0], reference["best"][:, 0], truth["labels"]
        right, was_right = now == labels, before == labels
        lost, gained = int((was_right & ~right).sum()), int((right & ~was_right).sum())
        return Comparison(
            lost=lost,
            gained=gained,
            agreement=share_equal(now, before),
            interval=share_interval(int(right.sum()), len(labels)),
            drop_interval=paired_drop_interval(lost, gained, len(labels)),
        )

    def golden_error(self, outputs: Arrays, expected: Arrays) -> float:
        """Returns the largest absolute difference."""
        return float(max(np.abs(outputs[name] - expected[name]).max() for name in expected))
