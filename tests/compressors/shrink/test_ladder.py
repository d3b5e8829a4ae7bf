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


def test_the_ladder_has_the_networks_of_each_depth_by_width() -> None:
    shallow, _, deep = ladder.ladder((32, 32))
    assert shallow[:2] == ["plain:8/2,16/2,32/2,32", "plain:12/2,24/2,48/2,48"]
    assert deep[-1] == "plain:128/2,256/2,256,256,512/2,512,512,512"
    assert [len(shallow), len(deep)] == [len(ladder.WIDTHS)] * 2
