"""Scenes that are made on the spot."""

import numpy as np
import pytest

from compressors.data import scenes
from compressors.data.detection import DetectionParts
from protos import images


@pytest.fixture(scope="module")
def made() -> DetectionParts:
    return scenes.scenes(40, 10, side=320, seed=3)


def test_a_scene_holds_one_to_twelve_digits_of_one_class(made: DetectionParts) -> None:
    assert (len(made.train), len(made.test)) == (40, 10)
    assert made.labels == ("digit",)
    assert 1 <= made.train.objects.counts.min() < made.train.objects.counts.max() <= 12
    assert not made.train.objects.classes.any()


def test_scenes_are_of_several_sizes(made: DetectionParts) -> None:
    assert {tuple(size) for size in images.sizes(made.train.files).tolist()} == {(320, 320), (240, 320), (320, 240)}


def test_boxes_lie_within_their_scene(made: DetectionParts) -> None:
    sizes = np.repeat(images.sizes(made.train.files)[:, ::-1], made.train.objects.counts, axis=0)
    boxes = made.train.objects.boxes
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= sizes).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()


def test_settings_are_by_height(made: DetectionParts) -> None:
    truth = made.train.objects
    heights = truth.boxes[:, 3] - truth.boxes[:, 1]
    assert made.test.settings == ("easy", "medium", "hard")
    np.testing.assert_array_equal(truth.counting, heights[:, None] >= [50, 30, 10])
    assert 8 <= heights.min() < 10 < 100 < heights.max() <= 160


def test_sizes_and_settings_scale_with_the_side() -> None:
    truth = scenes.scenes(30, 0, side=160, seed=0).train.objects
    heights = truth.boxes[:, 3] - truth.boxes[:, 1]
    np.testing.assert_array_equal(truth.counting, heights[:, None] >= [25, 15, 5])
    assert 4 <= heights.min() < heights.max() <= 80


def test_no_digit_covers_much_of_another(made: DetectionParts) -> None:
    for index in range(len(made.train)):
        boxes = made.train.objects.of(index).boxes
        low, high = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
        common, areas = (high - low).clip(0).prod(axis=2), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        np.fill_diagonal(common, 0)
        assert (common <= 0.3 * np.minimum(areas, areas[:, None])).all()


def test_a_digit_stands_out_from_what_is_around_it() -> None:
    """The brightest tenth of its box differs from the darkest by more than the noise, of at most 24 each way."""
    found = []
    for seed in range(20):
        scene = scenes.with_objects(1, seed=seed)
        left, top, right, bottom = scene.objects.boxes[0].astype(int)
        grey = np.sort(np.asarray(images.read(scene.files[0], "").convert("L"))[top:bottom, left:right], axis=None)
        found.append(int(grey[len(grey) * 9 // 10]) - int(grey[len(grey) // 10]))
    assert min(found) > 48


def test_the_seed_decides_and_a_scene_does_not_depend_on_how_many_there_are(made: DetectionParts) -> None:
    fewer, others = scenes.scenes(5, 2, seed=3), scenes.scenes(5, 2, seed=4)
    assert fewer.train.files.tolist() == made.train.files[:5].tolist()
    assert fewer.test.files.tolist() == made.test.files[:2].tolist()
    assert fewer.train.files.tolist() != others.train.files.tolist()


@pytest.mark.parametrize("count", [0, 1, 10, 100])
def test_a_scene_has_as_many_objects_as_are_wanted(count: int) -> None:
    scene = scenes.with_objects(count)
    assert images.sizes(scene.files).tolist() == [[320, 320]]
    assert scene.objects.counts.tolist() == [count]
    assert scene.objects.boxes.shape == (count, 4)


def test_more_objects_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(ValueError, match="got 5000 objects, expected as many as a scene of 64 x 64 has room for"):
        scenes.with_objects(5000, side=64)
