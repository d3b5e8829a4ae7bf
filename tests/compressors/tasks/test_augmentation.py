"""Training images of a detector: boxes go where their objects go, and all of it follows from the seed."""

from dataclasses import replace

import numpy as np
import pytest

from compressors.tasks import augmentation
from protos.tasks.boxes import Truth

RED, GREY = (200, 40, 40), (augmentation.PADDING,) * 3


def truth(*boxes: tuple[float, ...]) -> Truth:
    """One image whose classes are the boxes' numbers; only the first one's first three points are annotated."""
    points = np.full((len(boxes), 10), np.nan, np.float32)
    points[:1, :6] = [12, 14, 18, 14, 15, 16]
    return Truth(
        counts=np.array([len(boxes)]),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.arange(len(boxes)),
        counting=np.ones((len(boxes), 3), np.bool_),
        areas=np.full(len(boxes), 100, np.float32),
        keypoints=points,
    )


def image(box: tuple[int, ...] = (10, 10, 20, 20)) -> np.ndarray:
    """A black image of 60x40 with one red object."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = RED
    return pixels


def test_a_crop_moves_and_scales_what_is_in_it() -> None:
    given = truth((10, 10, 20, 20), (2, 2, 14, 14), (0, 0, 8, 8), (30, 10, 40, 20))
    pixels, left = augmentation.crop(image(), given, (5, 5, 25), 50)
    assert left.counts.tolist() == [2]
    assert left.classes.tolist() == [0, 1]  # the centres of the others are outside
    assert left.boxes.tolist() == [[10, 10, 30, 30], [0, 0, 18, 18]]  # the second is cut
    assert left.keypoints[0, :6].tolist() == [14, 18, 26, 18, 20, 22]
    assert np.isnan(left.keypoints[0, 6:]).all()
    assert left.areas.tolist() == [400, 400]
    assert pixels.shape == (50, 50, 3)
    assert (pixels[12:28, 12:28] == RED).all()
    assert not pixels[:8].any()


def test_outside_of_the_image_is_grey() -> None:
    pixels, left = augmentation.crop(image(), truth((10, 10, 20, 20)), (-20, -30, 80), 80)
    assert left.boxes.tolist() == [[30, 40, 40, 50]]
    assert (pixels[40:50, 30:40] == RED).all()
    outside = np.ones((80, 80), np.bool_)
    outside[30:70, 20:80] = False
    assert (pixels[outside] == GREY).all()


def test_a_mirror_image_turns_boxes_and_swaps_points() -> None:
    pixels, turned = augmentation.mirror(image(), truth((10, 10, 20, 20)))
    assert turned.boxes.tolist() == [[40, 10, 50, 20]]
    assert (pixels[10:20, 40:50] == RED).all()
    assert turned.keypoints[0, :6].tolist() == [42, 14, 48, 14, 45, 16]
    twice = augmentation.mirror(pixels, turned)
    np.testing.assert_array_equal(twice[1].keypoints, truth((10, 10, 20, 20)).keypoints)
    np.testing.assert_array_equal(twice[0], image())


def test_a_mirrored_corner_of_the_mouth_is_the_other_one() -> None:
    given = replace(truth((10, 10, 20, 20)), keypoints=np.arange(10, dtype=np.float32)[None])
    turned = augmentation.mirror(image(), given)[1]
    assert turned.keypoints.tolist() == [[58, 3, 60, 1, 56, 5, 52, 9, 54, 7]]


def test_data_without_points_is_mirrored_too() -> None:
    given = replace(truth((10, 10, 20, 20)), keypoints=np.zeros((1, 0), np.float32))
    assert augmentation.mirror(image(), given)[1].keypoints.shape == (1, 0)


def test_a_square_with_an_object_is_chosen() -> None:
    generator, given = np.random.default_rng(0), truth((1, 1, 5, 5))
    for _ in range(50):
        left, top, side = augmentation.choose(image(), given, generator)
        assert left < 3 < left + side
        assert top < 3 < top + side
        assert side in {int(scale * 40) for scale in augmentation.SCALES}


def test_an_image_without_objects_is_taken_as_it_comes() -> None:
    pixels, left = augmentation.augment(image(), truth(), 64, np.random.default_rng(0))
    assert pixels.shape == (64, 64, 3)
    assert left.boxes.shape == (0, 4)


def test_grey_takes_no_colour_and_colours_change() -> None:
    grey, red = (np.full((4, 4, 3), colour, np.uint8) for colour in (GREY, RED))
    generator, changed = np.random.default_rng(0), set()
    for _ in range(20):
        assert np.ptp(augmentation.recolour(grey, generator), axis=2).max() == 0
        changed.add(tuple(augmentation.recolour(red, generator)[0, 0]))
    assert len(changed) > 10


@pytest.mark.parametrize("flip", [True, False])
def test_all_follows_from_the_seed(flip: bool) -> None:
    given, results = truth((10, 10, 20, 20), (30, 20, 50, 36)), []
    for seed in (0, 0, 1):
        generator = np.random.default_rng(seed)
        results.append([augmentation.augment(image(), given, 64, generator, flip) for _ in range(8)])
    one, same, other = ([(pixels.tobytes(), left.boxes.tolist()) for pixels, left in result] for result in results)
    assert one == same
    assert one != other


def test_nothing_is_mirrored_without_flip() -> None:
    given, generator = truth((10, 10, 20, 20)), np.random.default_rng(0)
    eyes = [augmentation.augment(image(), given, 64, generator, flip)[1].keypoints for flip in (True, False) * 30]
    assert all(points[0, 0] < points[0, 2] for points in eyes)
