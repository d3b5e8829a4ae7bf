"""Flips of the toy model's test split, as the report counts and shows them."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from loadtest.analysis.results import Results
from loadtest.measure.accuracy import Accuracy
from loadtest.report import flips
from loadtest.report.flips import gallery
from loadtest.tasks.classification import ClassFlip, Classification
from tests.support import toy
from tests.support.loadtest.cells import cell, results

LOST, GAINED, OTHER = ClassFlip(1, 1, 1, 0), ClassFlip(3, 1, 0, 1), ClassFlip(7, 2, 1, 0)


def checked(repository: Path, *found: ClassFlip) -> Results:
    run = results(cell("int8-x"))
    accuracy = Accuracy("int8-x", 12, "top1", 0.75, 0.75, found, {}, None)
    return replace(run, plan=replace(run.plan, repository=repository), accuracy=(accuracy,))


def test_flips_are_counted_both_ways_and_per_class(repository: Path) -> None:
    (found,) = gallery(checked(repository, LOST, GAINED, OTHER)).flips
    assert (found.accuracy.lost, found.accuracy.gained, found.counts["wrong either way"]) == (1, 1, 1)
    assert [tuple(vars(each).values()) for each in found.classes] == [(1, 1, 1, 0), (2, 0, 0, 1)]


def test_the_images_are_those_of_the_test_split_to_the_pixel(repository: Path) -> None:
    shown = gallery(checked(repository, LOST, GAINED))
    assert list(shown.images) == ["1", "3"]
    data = base64.b64decode(shown.images["3"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), toy.evaluation_set().images[3])


def test_lost_images_are_shown_first_and_the_rest_is_counted(repository: Path) -> None:
    (found,) = gallery(checked(repository, OTHER, GAINED, LOST), most_images=2).flips
    assert found.shown == (LOST, GAINED)
    assert found.more == 1


def test_images_beyond_the_pages_room_are_counted_too(repository: Path) -> None:
    (found,) = gallery(checked(repository, LOST, GAINED), most_bytes=10).flips
    assert (found.shown, found.more) == ((LOST,), 1)


def test_large_images_are_made_smaller() -> None:
    data = base64.b64decode(
        flips._data_uri(Classification(), LOST, np.zeros((100, 200, 3), np.uint8)).partition(",")[2]
    )
    assert Image.open(io.BytesIO(data)).size == (64, 32)


def test_without_the_repository_there_are_counts_and_numbers_of_classes(tmp_path: Path) -> None:
    shown = gallery(checked(tmp_path / "gone", LOST))
    assert shown.images == {}
    assert (shown.flips[0].accuracy.lost, shown.flips[0].more) == (1, 1)
    assert shown.name(1) == "class 1"
