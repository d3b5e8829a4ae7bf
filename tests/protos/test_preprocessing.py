"""From pixels to the input tensor: the arithmetic of the manifest, to the bit."""

import numpy as np
import pytest

from protos.manifest import Preprocessing
from protos.preprocessing import normalise

PIXELS = np.random.default_rng(3).integers(0, 256, (2, 4, 5, 3), np.uint8)
VIEW = PIXELS.transpose(0, 3, 1, 2).copy().transpose(0, 2, 3, 1)
"""Images in the order in which compressors keep images."""
MEAN, STD = (0.5, 0.25, 0.1), (0.2, 0.5, 2.0)


@pytest.mark.parametrize("images", [PIXELS, VIEW], ids=["row-major", "a view"])
def test_normalising_is_the_arithmetic_of_the_manifest(images: np.ndarray) -> None:
    tensor = normalise(images, Preprocessing((4, 5), MEAN, STD, "NCHW"))
    assert (tensor.dtype, tensor.shape, tensor.flags.c_contiguous) == (np.float32, (2, 3, 4, 5), True)
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        expected = (PIXELS[..., channel].astype(np.float32) / np.float32(255) - np.float32(mean)) / np.float32(std)
        np.testing.assert_array_equal(tensor[:, channel], expected)


@pytest.mark.parametrize("images", [PIXELS, VIEW], ids=["row-major", "a view"])
def test_a_network_that_takes_pixels_gets_them_as_they_are(images: np.ndarray) -> None:
    tensor = normalise(images, Preprocessing((4, 5), MEAN, STD, "NHWC"))
    assert (tensor.dtype, tensor.flags.c_contiguous) == (np.uint8, True)
    np.testing.assert_array_equal(tensor, PIXELS)


def test_every_value_of_a_pixel_is_an_input_of_its_own() -> None:
    """So the pixels can be found again from the tensor."""
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    tensor = normalise(ramp, Preprocessing((16, 16), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), "NCHW"))
    assert (np.diff(tensor.reshape(3, 256)) > 0).all()
