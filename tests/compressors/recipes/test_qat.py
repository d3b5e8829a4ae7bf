"""int8 rounding of weights, and training under it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from compressors.networks import zoo
from compressors.networks.layers import weighted
from compressors.recipes import qat, train
from compressors.recipes.element_pruning import sparsify
from compressors.recipes.steps import Fit
from tests.support.compressors.small import Dataset, Small, dataset, interrupted

HOW = Fit(epochs=2, batch=16, learning_rate=0.1)


def test_each_channel_is_rounded_to_its_own_255_levels() -> None:
    weight = torch.tensor([[127.0, 0.4, 0.6, -1.0], [-2.54, 0.0, 0.011, 1.0], [0.0, 0.0, 0.0, 0.0]])
    expected = torch.tensor([[127.0, 0.0, 1.0, -1.0], [-2.54, 0.0, 0.02, 1.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(qat.rounded(weight), expected, rtol=1e-6, atol=1e-6)


def test_rounding_twice_is_rounding_once() -> None:
    once = qat.round_weights(Small())
    twice = qat.round_weights(once)
    for (_, one), (_, other) in zip(weighted(once), weighted(twice), strict=True):
        torch.testing.assert_close(one.weight, other.weight, rtol=1e-6, atol=0)
        assert all(len(channel.unique()) <= 255 for channel in one.weight)


def test_folding_a_batch_norm_keeps_every_code() -> None:
    """What the docstring of `qat` claims: scaling a channel scales its rounded weights."""
    weight, gamma = torch.randn(8, 3, 3, 3), torch.rand(8, 1, 1, 1) + 0.1
    torch.testing.assert_close(qat.rounded(weight) * gamma, qat.rounded(weight * gamma))


def test_within_the_block_weights_and_inputs_are_rounded() -> None:
    layer = nn.Linear(3, 2)
    weight = layer.weight.detach().clone()
    with qat.rounding_in_forward(layer):
        answer = layer(torch.tensor([[0.0, 1.0, 2.55]]))
        assert torch.equal(layer.weight, qat.rounded(weight))
        torch.testing.assert_close(answer, torch.tensor([[0.0, 1.0, 2.55]]) @ layer.weight.T + layer.bias)
    assert isinstance(layer.weight, nn.Parameter)
    assert torch.equal(layer.weight, weight)


def test_it_leaves_a_trained_network_like_any_other(tmp_path: Path) -> None:
    network = Small()
    before, names = network.stem[0].weight.detach().clone(), list(network.state_dict())  # type: ignore[union-attr]
    with qat.rounding_in_forward(network):
        train.fit(network, dataset(), HOW, 0, tmp_path / "c.pt", None)
    assert sorted(network.state_dict()) == sorted(names)
    assert type(network.classifier) is nn.Linear
    assert network.stem[0].weight.unique().numel() == before.numel()  # type: ignore[union-attr]
    assert not torch.equal(network.stem[0].weight, before)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_an_interrupted_one_ends_with_the_same_weights(tmp_path: Path) -> None:
    def trained(checkpoint: Path, data: Dataset) -> Small:
        torch.manual_seed(0)
        network = Small()
        with qat.rounding_in_forward(network):
            train.fit(network, data, HOW, 5, checkpoint, None)
        return network

    whole = trained(tmp_path / "whole.pt", dataset())
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "half.pt", interrupted(dataset(), stop=9))  # in the second epoch of six batches each
    resumed = trained(tmp_path / "half.pt", dataset())
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_pruned_weights_stay_zero_in_it(tmp_path: Path) -> None:
    pruned = sparsify(Small(), 0.5, "global")
    before = {path: layer.weight.detach() == 0 for path, layer in weighted(pruned)}
    with qat.rounding_in_forward(pruned):
        train.fit(pruned, dataset(), HOW, 0, tmp_path / "c.pt", None)
    assert all(torch.equal(layer.weight == 0, before[path]) for path, layer in weighted(pruned))


def test_a_detector_is_trained_under_it() -> None:
    """Depthwise convolutions and several outputs."""
    network = zoo.create("scrfd_500m_boxes", 1, seed=0)
    names, before = list(network.state_dict()), network.head[0].box.weight.detach().clone()  # type: ignore[union-attr]
    step = torch.optim.SGD(network.parameters(), 0.1)
    with qat.rounding_in_forward(network):
        outputs = network(torch.randn(2, 3, 64, 64))
        sum(output.square().mean() for output in outputs).backward()
        step.step()
    assert sorted(network.state_dict()) == sorted(names)
    assert not torch.equal(network.head[0].box.weight, before)  # type: ignore[union-attr]
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())
