"""Clustering: as many values as asked, each the mean of those that it stands for."""

import numpy as np
import torch

from compressors.networks.layers import weighted, weights
from compressors.recipes import clustering
from compressors.recipes.element_pruning import sparsify
from tests.support.compressors.small import Small


def test_groups_that_lie_apart_are_found_exactly() -> None:
    values = np.array([-1.5, -1.25, 0.5, 0.75, 3.0, 3.5], np.float32)
    assert clustering.nearest(values, 3).tolist() == [-1.375, -1.375, 0.625, 0.625, 3.25, 3.25]


def test_few_values_stay_as_they_are() -> None:
    values = np.array([0.1, 0.2, 0.2, 0.3], np.float32)
    assert clustering.nearest(values, 3).tolist() == values.tolist()


def test_far_outliers_do_not_break_it() -> None:
    values = np.concatenate([np.linspace(0.1, 0.2, 100), [1e6]]).astype(np.float32)
    assert np.unique(clustering.nearest(values, 32)).tolist() == [np.float32(0.15), np.float32(1e6)]


def test_zeros_are_a_cluster_of_their_own() -> None:
    values = np.array([0.0, 0.01, 0.02, 1.0, 0.0], np.float32)
    np.testing.assert_allclose(clustering.nearest(values, 3), [0.0, 0.015, 0.015, 1.0, 0.0], rtol=1e-6)


def test_it_comes_near_to_the_least_possible_error() -> None:
    """Lloyd and Max's 32 levels for a normal distribution have a mean squared error of 0.0025."""
    values = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    assert np.mean((clustering.nearest(values, 32) - values) ** 2) < 0.0027


def test_each_layer_has_its_values_and_the_network_stays_as_it_was() -> None:
    torch.manual_seed(0)
    network = Small()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    shared = clustering.share_values(network, 8)
    assert [len(layer.weight.unique()) for _, layer in weighted(shared)] == [8, 8, 8]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(shared.stem[1].weight, network.stem[1].weight)  # type: ignore[operator, index]


def test_queries_keys_and_values_of_attention_are_clustered_too() -> None:
    shared = clustering.share_values(torch.nn.TransformerEncoderLayer(16, 2, 32), 8)
    assert {name: len(weight.unique()) for name, weight in weights(shared).items()} == {
        "self_attn.in_proj": 8,
        "self_attn.out_proj": 8,
        "linear1": 8,
        "linear2": 8,
    }


def test_a_pruned_network_stays_pruned() -> None:
    pruned = sparsify(Small(), 0.5, "global")
    for (_, one), (_, other) in zip(weighted(pruned), weighted(clustering.share_values(pruned, 4)), strict=True):
        assert torch.equal(one.weight == 0, other.weight == 0)
        assert len(other.weight.unique()) == 4
