"""Networks: what they weigh, and how they come back from their weights alone."""

import torch

from compressors import models, prune
from tests.compressors.small import Small, dataset


def test_the_seed_decides_the_first_weights() -> None:
    one, same, other = (models.create("resnet18", 10, seed).fc.weight for seed in (0, 0, 1))  # type: ignore[union-attr]
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_size_is_counted_exactly() -> None:
    network = Small()
    with torch.no_grad():
        network.classifier.weight[0] = 0
    size = models.measure(network.eval(), torch.zeros(1, 3, 8, 8))
    convolutions, norms, classifier = 3 * 16 * 9 + 16 * 16 * 9, 2 * 2 * 16, 16 * 3 + 3
    assert size.parameters == convolutions + norms + classifier
    # of what is nonzero: batch norms start with a bias of 0, and one row of the classifier was cleared
    assert size.nonzero_parameters == size.parameters - 2 * 16 - 16
    assert size.macs == 64 * convolutions + 16 * 3


def test_a_pruned_resnet_comes_back_from_its_weights() -> None:
    data = dataset()
    pruned = prune.remove_channels(models.create("resnet18", 3, seed=0).eval(), 0.5, data)
    restored = models.restore("resnet18", 3, pruned.state_dict())
    inputs = torch.from_numpy(data.inputs(data.test)[:4])
    with torch.no_grad():
        assert torch.equal(restored(inputs), pruned(inputs))
    assert str(restored) == str(pruned)


def test_pruning_half_of_the_channels_leaves_about_a_quarter_of_the_work() -> None:
    data = dataset()
    network = models.create("resnet18", 3, seed=0).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    example = torch.zeros(1, 3, 32, 32)
    pruned = models.measure(prune.remove_channels(network, 0.5, data), example)
    whole = models.measure(network, example)
    assert 0.2 < pruned.macs / whole.macs < 0.3
    assert 0.2 < pruned.parameters / whole.parameters < 0.3
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
