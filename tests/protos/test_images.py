"""Image files: what their header says."""

import io

import pytest
from PIL import Image

from protos import images
from protos.errors import InvalidInputError


def test_a_size_is_height_and_width_and_needs_the_header_alone() -> None:
    stream = io.BytesIO()
    Image.effect_noise((40, 30), 50).save(stream, "JPEG", quality=100)
    cut = stream.getvalue()[:800]
    assert images.size_of(cut, "photo.jpg") == (30, 40)
    with pytest.raises(InvalidInputError, match=r"photo\.jpg: got a JPEG file that is damaged or cut off"):
        images.read(cut, "photo.jpg")


def test_what_is_no_image_has_no_size() -> None:
    with pytest.raises(InvalidInputError, match=r"notes\.txt: got 5 bytes that are no JPEG or PNG file"):
        images.size_of(b"hello", "notes.txt")
