"""The proposed networks: by the size of the images, narrow to wide."""

import pytest

from compressors.shrink import ladder


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((32, 32), "plain:16/2,32/2,32,64/2,64,64"),
        ((28, 28), "plain:16/2,32/2,32,64/2,64,64"),
        ((8, 8), "plain:32/2,32,64/2,64,64"),
        ((64, 80), "plain:16/2,16/2,32/2,32,64/2,64,64"),
        ((224, 224), "plain:16/2,16/2,16/2,16/2,32/2,32,64/2,64,64"),
    ],
)
def test_a_network_halves_the_sides_until_about_4_are_left(size: tuple[int, int], expected: str) -> None:
    assert ladder.plain(size, 16, (2, 3)) == expected


def test_the_networks_of_some_depths_are_by_width() -> None:
    assert ladder.by_width((32, 32), (1, 1), (8, 12)) == ["plain:8/2,16/2,32/2", "plain:12/2,24/2,48/2"]
