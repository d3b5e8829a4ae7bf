"""Classification: what is counted as right, lost and gained."""

import numpy as np

from protos.manifest import Preprocessing
from protos.support.significance import paired_drop_interval, share_interval
from protos.tasks.classification import Classification
from protos.tasks.task import Array

TASK, HOW = Classification(), Preprocessing((1, 1), (0.0,) * 3, (1.0,) * 3, "NCHW")


def answers(logits: Array) -> dict[str, Array]:
    return TASK.answers({"logits": logits}, np.zeros((len(logits), 1, 1, 3), np.uint8), HOW, None)


def test_top5_counts_labels_among_the_five_largest() -> None:
    outputs = np.tile(np.arange(8, dtype=np.float32), (4, 1))
    assert TASK.scores(answers(outputs), {"labels": np.array([7, 3, 2, 0])}) == {"top1": 0.25, "top5": 0.5}


def test_of_five_classes_there_is_no_top5() -> None:
    assert TASK.scores(answers(np.eye(5, dtype=np.float32)), {"labels": np.array([0, 1, 2, 3, 3])}) == {"top1": 0.8}


def test_flips_are_counted_both_ways() -> None:
    now, before, labels = np.array([0, 1, 0, 0, 4]), np.array([0, 0, 2, 3, 4]), np.array([0, 1, 2, 3, 4])
    compared = TASK.compare({"best": now[:, None]}, {"best": before[:, None]}, {"labels": labels})
    assert (compared.lost, compared.gained, compared.agreement) == (2, 1, 0.4)
    assert compared.interval == share_interval(3, 5)
    assert compared.drop_interval == paired_drop_interval(2, 1, 5)
