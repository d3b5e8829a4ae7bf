"""The networks that are proposed: plain 3x3 convolutions, by the size of the images, a width and depths.

    32x32, width 16, depths (2, 3)      plain:16/2,32/2,32,64/2,64,64

Each stride of 2 halves the sides, until about `LAST` are left of the shorter one; the first convolution has one too,
since it would be the most expensive of all. The last two of these stages have convolutions that follow, as many as the
depths say; channels double from stage to stage there, and stay what they are before. Large images take more stages.
Source of the shape: https://arxiv.org/abs/2101.03697 (RepVGG at inference)
"""

import math

from compressors.data.user_data import Size

WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Channels of the first convolution."""
DEPTHS = ((1, 2), (2, 3), (3, 4))
"""Convolutions of the last two stages."""
LAST = 4
"""Shorter side that is left for the last stage, about."""


def plain(size: Size, width: int, depths: tuple[int, int]) -> str:
    """Returns the name of a network of `plain:` for images of `size`, (height, width) in pixels."""
    stages = max(2, round(math.log2(min(size) / LAST)))
    parts = [f"{width}/2"] * (stages - 2)
    for doubled, depth in enumerate(depths, 1):
        channels = width << doubled
        parts += [f"{channels}/2", *[f"{channels}"] * (depth - 1)]
    return "plain:" + ",".join(parts)


def ladder(size: Size) -> list[list[str]]:
    """Returns the networks for images of `size`: for each of `DEPTHS`, the narrowest first."""
    return [[plain(size, width, depths) for width in WIDTHS] for depths in DEPTHS]
