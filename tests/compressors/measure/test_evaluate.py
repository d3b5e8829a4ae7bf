"""Accuracy on all images, or on the part that there was time for."""

import numpy as np

from compressors.measure import evaluate
from compressors.measure.evaluate import Questions
from compressors.networks.layers import INPUT, OUTPUT
from protos.manifest import Preprocessing
from protos.repository import drawn
from protos.support.significance import paired_drop_interval, share_interval
from server.runtimes import Array

IMAGES = 250
PIXELS = np.arange(IMAGES, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
ASKED = Questions("classification", PIXELS, Preprocessing((1, 1), (0.0,) * 3, (1 / 255,) * 3, "NCHW"), None)


def echo(inputs: dict[str, Array]) -> dict[str, Array]:
    """Answers an image of one pixel with the class that has its number."""
    return {OUTPUT: np.eye(IMAGES, dtype=np.float32)[inputs[INPUT][:, 0, 0, 0].round().astype(int)]}


def test_all_rows_are_answered_in_their_order() -> None:
    rows, answers = evaluate.predict(echo, ASKED)
    assert rows.tolist() == list(range(IMAGES))
    np.testing.assert_array_equal(answers["best"][:, 0], rows)


def test_without_time_one_batch_is_answered_that_was_drawn_from_all() -> None:
    rows, answers = evaluate.predict(echo, ASKED, seconds=0.0)
    assert rows.tolist() == sorted(drawn(IMAGES)[: evaluate.BATCH])
    np.testing.assert_array_equal(answers["best"][:, 0], rows)


def test_the_metric_and_its_drop_come_with_their_intervals() -> None:
    """Of 250 images the reference is right on all, the variant on all but three."""
    labels, given = np.arange(IMAGES), np.arange(IMAGES)[:, None]
    answers = {"best": np.where(given < 3, -1, given)}
    found = evaluate.quality("classification", answers, {"labels": labels}, {"best": given}, "toy test", 1.0, 1.0)
    assert (found.value, found.lost, found.gained, found.samples) == (247 / 250, 3, 0, 250)
    assert (found.interval, found.drop_interval) == (share_interval(247, 250), paired_drop_interval(3, 0, 250))
