"""Plain networks: a line of channels is the network, and trained branches are one convolution again."""

import pytest
import torch
from torch import nn

from compressors.networks import plain, zoo

NAME = "plain:8/2,12,12"


def test_the_line_is_channels_and_strides() -> None:
    assert plain.line("plain:16/2,32/2,32") == [(16, 2), (32, 2), (32, 1)]


def test_the_line_decides_parameters_and_sizes() -> None:
    network = zoo.create("plain:16/2,32/2,32,64/2,64,64", 10, seed=0).eval()
    size = zoo.measure(network, torch.zeros(1, 3, 32, 32))
    widths = [(3, 16, 16), (16, 32, 8), (32, 32, 8), (32, 64, 4), (64, 64, 4), (64, 64, 4)]  # in, out, side
    weights = sum(9 * before * after for before, after, _ in widths)
    assert size.parameters == weights + sum(2 * after for _, after, _ in widths) + 64 * 10 + 10
    assert size.macs == sum(9 * before * after * side**2 for before, after, side in widths) + 64 * 10


@pytest.mark.parametrize(
    "name",
    ["plain", "plain:", "plain:16,", "plain:0", "plain:16/0", "plain:16/5", "plain:a", "plain:16 32", "plain:-8"],
)
def test_a_bad_line_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(ValueError, match=f"got '{name}', expected channels and strides such as plain:16/2"):
        plain.line(name)


def test_it_comes_back_from_its_weights() -> None:
    network = zoo.create(NAME, 3, seed=0).eval()
    inputs = torch.rand(4, 3, 9, 9)
    with torch.no_grad():
        assert torch.equal(zoo.restore(NAME, 3, network.state_dict())(inputs), network(inputs))


def test_trained_branches_fold_into_the_plain_network() -> None:
    network = zoo.create(NAME, 3, seed=0)
    trained, inputs = plain.with_branches(network), 2 * torch.rand(8, 3, 9, 9) - 1
    assert [branches.itself is not None for branches in trained if isinstance(branches, plain.Branches)] == [
        False,
        False,
        True,
    ]
    for module in trained.modules():  # as training leaves them: no norm like another
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    trained(inputs)  # gives the norms running statistics
    trained.eval()
    with torch.no_grad():
        expected = trained(inputs)
        folded = plain.fold_branches(trained, network)
        assert not any(isinstance(module, plain.Branches) for module in folded.modules())
        torch.testing.assert_close(folded(inputs), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(zoo.restore(NAME, 3, folded.state_dict())(inputs), folded(inputs))
