"""Element-wise pruning: exactly the asked share, the smallest first, and zeros that stay."""

from pathlib import Path

import pytest
import torch
from torch import nn

from compressors.networks.layers import weighted
from compressors.recipes import element_pruning, train
from tests.support.compressors.small import Small, dataset

WEIGHTS = {"stem.0": 3 * 16 * 9, "block.0": 16 * 16 * 9, "classifier": 16 * 3}


def zeros(network: nn.Module) -> dict[str, int]:
    return {path: int((layer.weight == 0).sum()) for path, layer in weighted(network)}


def test_local_pruning_zeroes_the_share_of_each_layer() -> None:
    pruned = element_pruning.sparsify(Small(), 0.6, "local")
    assert zeros(pruned) == {path: round(0.6 * count) for path, count in WEIGHTS.items()}


def test_global_pruning_zeroes_the_share_of_the_whole_the_smallest_of_all() -> None:
    network = Small()
    pruned = element_pruning.sparsify(network, 0.6, "global")
    before = torch.cat([layer.weight.flatten() for _, layer in weighted(network)])
    after = torch.cat([layer.weight.flatten() for _, layer in weighted(pruned)])
    assert int((after == 0).sum()) == round(0.6 * sum(WEIGHTS.values()))
    assert before[after == 0].abs().max() < before[after != 0].abs().min()
    assert torch.equal(before[after != 0], after[after != 0])


def test_pruning_again_counts_what_is_zero_already() -> None:
    twice = element_pruning.sparsify(element_pruning.sparsify(Small(), 0.5, "local"), 0.75, "local")
    assert zeros(twice) == {path: round(0.75 * count) for path, count in WEIGHTS.items()}


def test_it_is_permanent_and_leaves_the_network_as_it_was() -> None:
    network = Small()
    pruned = element_pruning.sparsify(network, 0.9, "global")
    assert pruned.state_dict().keys() == network.state_dict().keys()
    assert sum(zeros(network).values()) == 0


@pytest.mark.parametrize("scope", ["local", "global"])
def test_zeros_stay_through_fine_tuning_and_all_else_moves(tmp_path: Path, scope: str) -> None:
    pruned = element_pruning.sparsify(Small(), 0.5, scope)  # type: ignore[arg-type]
    before = {path: layer.weight.detach().clone() for path, layer in weighted(pruned)}
    train.fit(pruned, dataset(), train.Fit(epochs=1, batch=16, learning_rate=0.1), 0, tmp_path / "c.pt", None)
    for path, layer in weighted(pruned):
        assert torch.equal(layer.weight == 0, before[path] == 0)
        assert not torch.equal(layer.weight, before[path])


def test_a_layer_that_starts_from_zero_is_not_held_there(tmp_path: Path) -> None:
    network = Small()
    nn.init.zeros_(network.classifier.weight)
    train.fit(network, dataset(), train.Fit(epochs=1, batch=16, learning_rate=0.1), 0, tmp_path / "c.pt", None)
    assert zeros(network)["classifier"] == 0
