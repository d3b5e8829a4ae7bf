"""Channels of a detector are removed: depthwise groups, sums of a pyramid, several outputs."""

import pytest
import torch

from compressors.networks import zoo
from compressors.networks.layers import weighted
from compressors.networks.scrfd import Scrfd
from compressors.recipes import channel_pruning


@pytest.mark.parametrize("name", ["scrfd_500m_kps", "scrfd_500m_boxes"])
def test_half_of_a_detectors_channels_go_and_it_comes_back_from_its_weights(name: str) -> None:
    network, images = zoo.create(name, 1, seed=0).eval(), torch.randn(2, 3, 64, 64)
    assert isinstance(network, Scrfd)
    shapes = [output.shape for output in network(images)]
    widths = {path: layer.weight.shape[0] for path, layer in weighted(network)}
    channel_pruning.narrow(network, {p: w // 2 for p, w in widths.items()}, network.last_layers(), images[:1])
    left = {path: layer.weight.shape[0] for path, layer in weighted(network)}
    last = {path for path in widths if path.rpartition(".")[2] in ("score", "box", "points")}
    assert left == {path: width if path in last else width // 2 for path, width in widths.items()}
    answers, restored = network(images), zoo.restore(name, 1, network.state_dict())(images)
    assert [output.shape for output in answers] == shapes
    assert all(torch.equal(one, other) for one, other in zip(answers, restored, strict=True))
