"""Image files as RGB: the one reader of the server and of the offline stage, which refuse the same files alike.

A file is JPEG or PNG with at most 8 bits a channel. Its header is read before its pixels: one that would unpack to
more than `most` pixels is refused. Transparency is dropped, the orientation in a photo's EXIF block is not applied,
and of an animation the first image counts: what a data loader does that opens a file with Pillow and converts it
to RGB.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, PngImagePlugin

from protos.errors import InvalidInputError
from protos.manifest import MOST_PIXELS, Preprocessing
from protos.preprocessing import inner_size

FORMATS = (JpegImagePlugin.JpegImageFile.format, PngImagePlugin.PngImageFile.format)
"""Imported by name: for a format that is not, Pillow would import all that it has."""
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK")
"""Pillow's names of what has at most 8 bits a channel; it would clip, not scale, grey levels of 16."""
Image.MAX_IMAGE_PIXELS = None  # its own limit only warns; ours is checked on each image


def read(file: bytes, name: str, most: int = MOST_PIXELS) -> Image.Image:
    """Returns the image in `file` as RGB; raises `InvalidInputError`, which begins with `name`, where it is none."""
    image = _opened(file, name, most)
    if image.mode not in MODES:
        raise InvalidInputError(f"{name}: got an image with 16 bits a channel, expected 8")
    try:
        return image.convert("RGB")
    except MemoryError:
        raise
    except Exception:
        raise InvalidInputError(f"{name}: got a {image.format} file that is damaged or cut off") from None


def size_of(file: bytes, name: str) -> tuple[int, int]:
    """Returns height and width of the image in `file`, from its header alone; raises as `read` does."""
    image = _opened(file, name, MOST_PIXELS)
    return image.height, image.width


def _opened(file: bytes, name: str, most: int) -> Image.Image:
    """Returns the image whose header was read, but not its pixels."""
    try:
        image = Image.open(io.BytesIO(file), formats=FORMATS)
    except MemoryError:
        raise
    except Exception:  # a damaged file raises whatever its reader stumbled over
        raise InvalidInputError(f"{name}: got {len(file)} bytes that are no JPEG or PNG file") from None
    check_size(name, image.height, image.width, most)
    return image


def check_size(name: str, height: int, width: int, most: int = MOST_PIXELS) -> None:
    """Raises `InvalidInputError`, which begins with `name`, for an image without pixels or of more than `most`."""
    if not 1 <= height * width <= most:
        raise InvalidInputError(f"{name}: got an image of {height} x {width}, expected 1 to {most} pixels")


def fit(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Returns an RGB image in the size of the input, bilinear, as uint8 (H, W, 3)."""
    inner = resize(image, inner_size((image.height, image.width), preprocessing))
    if preprocessing.fit == "stretch":
        return inner
    canvas = np.zeros((*preprocessing.resize, 3), np.uint8)
    canvas[: inner.shape[0], : inner.shape[1]] = inner
    return canvas


def fitted(images: NDArray[Any], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Returns images, pixels (N, H, W, 3) or files (N,) of `bytes`, in the size of the input, uint8 (N, H, W, 3)."""
    if images.shape[1:3] == preprocessing.resize:
        return images
    made = np.empty((len(images), *preprocessing.resize, 3), np.uint8)
    for index, image in enumerate(images):
        opened = read(image, f"image {index}") if images.dtype == np.object_ else Image.fromarray(image)
        made[index] = fit(opened, preprocessing)
    return made


def sizes(images: NDArray[Any]) -> NDArray[np.int64]:
    """Returns height and width (N, 2) of images, pixels (N, H, W, 3) or files (N,) of `bytes`."""
    if images.dtype != np.object_:
        return np.tile(np.array(images.shape[1:3], np.int64), (len(images), 1))
    return np.array([size_of(file, "an image") for file in images], np.int64).reshape(-1, 2)


def resize(image: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns an RGB image in `size` (height, width), bilinear, as uint8 (H, W, 3)."""
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))
