"""A folded network answers pixels as it answered the inputs made of them, wherever a pixel lies."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from compressors.networks import zoo
from compressors.networks.pixels import PixelInput, Shifted, fold_input
from protos.manifest import Preprocessing
from protos.preprocessing import normalise

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
CENTRED = Preprocessing((8, 8), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), "NCHW")
BLACK = Preprocessing((8, 8), (0.0, 0.0, 0.0), (0.25, 0.25, 0.25), "NCHW")


def layers(padding: int, bias: bool, norm: bool) -> nn.Module:
    """A convolution, maybe with what follows it, in a state that training might leave."""
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 5, 3, 2, padding, bias=bias), nn.BatchNorm2d(5) if norm else nn.ReLU(), nn.Conv2d(5, 4, 3)
    )
    for module in made:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(5))
            module.running_var.copy_(torch.rand(5) + 0.5)
    return made.eval()


def both(network: nn.Module, folded: nn.Module, how: Preprocessing, pixels: np.ndarray = PIXELS) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [network(torch.from_numpy(normalise(pixels, how))), folded(torch.from_numpy(pixels))]


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("how", [CENTRED, BLACK], ids=["centred", "black"])
def test_pixels_are_answered_as_their_inputs(how: Preprocessing, padding: int, bias: bool, norm: bool) -> None:
    network = layers(padding, bias, norm)
    torch.testing.assert_close(*both(network, fold_input(network, how), how), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "padding", "kind"), [(CENTRED, 1, Shifted), (CENTRED, 0, nn.Conv2d), (BLACK, 1, nn.Conv2d)]
)
def test_only_a_border_of_another_colour_than_black_needs_a_map(
    how: Preprocessing, padding: int, kind: type[nn.Module]
) -> None:
    folded = fold_input(layers(padding, True, False), how)
    assert isinstance(folded, PixelInput)
    assert type(folded.network.get_submodule("0")) is kind


@pytest.mark.parametrize("name", ["resnet18", "vgg19", "plain_cnn", "plain:4/2,8", "scrfd_500m_boxes"])
def test_the_networks_of_the_zoo_can_be_folded(name: str) -> None:
    how = Preprocessing((32, 32), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), "NCHW")
    network = zoo.create(name, 10, seed=0).eval()
    weights = {path: value.clone() for path, value in network.state_dict().items()}
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    one, other = both(network, fold_input(network, how), how, pixels)
    for before, after in zip(*([x] if isinstance(x, torch.Tensor) else x for x in (one, other)), strict=True):
        torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-3 * float(before.abs().max()))
    assert all(torch.equal(value, weights[path]) for path, value in network.state_dict().items())


class Twice(nn.Module):
    """Uses its input beside the convolution."""

    def __init__(self, how: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.layer, self.how = nn.Conv2d(3, 3, 1), how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.how(x)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(192, 3)),
            "got Flatten on the network's input, expected one convolution",
        ),
        (Twice(nn.ReLU()), "got Conv2d, ReLU on the network's input, expected one convolution"),
        (Twice(torch.sigmoid), "the network uses its input elsewhere than in its first convolution, too"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "expected one convolution that pads with zeros"),
    ],
    ids=["no convolution", "another layer", "no layer", "other padding"],
)
def test_what_cannot_be_folded_exactly_is_refused(network: nn.Module, told: str) -> None:
    with pytest.raises(ValueError, match=f"^fold-input: .*{told}"):
        fold_input(network, CENTRED)
