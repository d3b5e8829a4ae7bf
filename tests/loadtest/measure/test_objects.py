"""Latency by objects: which images stand for how many objects."""

import numpy as np

from loadtest.measure.objects import groups


def test_an_image_belongs_to_the_level_that_is_nearest_by_ratio() -> None:
    counts = np.array([0, 1, 3, 4, 31, 33, 500])
    assert {level: sorted(rows.tolist()) for level, rows in groups(counts).items()} == {
        0: [0],
        1: [1, 2],
        10: [3, 4],
        100: [5, 6],
    }


def test_the_images_nearest_to_a_level_are_taken() -> None:
    counts = np.arange(4, 32)
    assert groups(counts)[10].tolist() == [6, 7, 5, 8, 4, 9, 10, 3]


def test_a_level_without_images_is_absent() -> None:
    assert [*groups(np.array([12, 2, 3]))] == [1, 10]
