"""Networks: what they weigh, and how they come back from their weights alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compressors.export import exporters
from compressors.export.lowerings import FLOAT32
from compressors.networks import zoo
from compressors.networks.layers import INPUT, OUTPUT
from compressors.networks.torchvision import torchvision
from compressors.recipes import channel_pruning
from protos.manifest import RuntimeName
from server import runtimes
from tests.support.compressors.artifacts import described
from tests.support.compressors.small import Small, dataset


def test_the_seed_decides_the_first_weights() -> None:
    one, same, other = (zoo.create("resnet18", 10, seed).fc.weight for seed in (0, 0, 1))  # type: ignore[union-attr]
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_size_is_counted_exactly() -> None:
    network = Small()
    with torch.no_grad():
        network.classifier.weight[0] = 0
    size = zoo.measure(network.eval(), torch.zeros(1, 3, 8, 8))
    convolutions, norms, classifier = 3 * 16 * 9 + 16 * 16 * 9, 2 * 2 * 16, 16 * 3 + 3
    assert size.parameters == convolutions + norms + classifier
    # of what is nonzero: batch norms start with a bias of 0, and one row of the classifier was cleared
    assert size.nonzero_parameters == size.parameters - 2 * 16 - 16
    assert size.macs == 64 * convolutions + 16 * 3


def test_a_pruned_resnet_comes_back_from_its_weights() -> None:
    data = dataset()
    pruned = channel_pruning.remove_channels(zoo.create("resnet18", 3, seed=0).eval(), 0.5, data)
    restored = zoo.restore("resnet18", 3, pruned.state_dict())
    inputs = torch.from_numpy(data.inputs(data.test)[:4])
    with torch.no_grad():
        assert torch.equal(restored(inputs), pruned(inputs))
    assert str(restored) == str(pruned)


def test_pruning_half_of_the_channels_leaves_about_a_quarter_of_the_work() -> None:
    data = dataset()
    network = zoo.create("resnet18", 3, seed=0).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    example = torch.zeros(1, 3, 32, 32)
    pruned = zoo.measure(channel_pruning.remove_channels(network, 0.5, data), example)
    whole = zoo.measure(network, example)
    assert 0.2 < pruned.macs / whole.macs < 0.3
    assert 0.2 < pruned.parameters / whole.parameters < 0.3
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


PARAMETERS = {
    "onnx": 0,  # its weights come with its graph
    "resnet18": 11_181_642,
    "resnet34": 21_289_802,
    "resnet50": 23_528_522,
    "vgg19": 38_958_922,
    "mobilenet_v2": 2_236_682,
    "vit_b_16": 85_806_346,
    "vit_tiny": 460_906,
    "plain_cnn": 228_518,
    "depthwise_cnn": 222_250,
    "grouped_cnn": 219_418,
    "scrfd_500m_kps": 631_410 + 9 * 3 * 1154,  # of nine more classes
    "scrfd_500m_boxes": 631_410 + 9 * 3 * 1154 - 3 * 11_540,
    "scrfd_10g_kps": 4_229_902 + 9 * 3 * 1442,
}


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_every_network_has_the_parameters_that_it_is_known_for(name: str) -> None:
    with torch.device("meta"):
        network = zoo.NETWORKS[name](10)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


def test_vgg19_for_a_hundred_classes_is_the_one_of_157_megabytes() -> None:
    with torch.device("meta"):
        network = zoo.NETWORKS["vgg19"](100)
    assert round(4 * sum(parameter.numel() for parameter in network.parameters()) / 1e6) == 157


class Plain(nn.Sequential):
    """VGG's kind: convolutions, then linear layers on what is flattened, four pixels of each channel."""

    def __init__(self, classes: int) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(128, 24), nn.ReLU(), nn.Linear(24, classes),
        )  # fmt: skip


class Inverted(nn.Module):
    """MobileNetV2's kind: an inverted residual with a depthwise convolution."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        block = torchvision.models.mobilenetv2.InvertedResidual
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), block(16, 16, 1, 4), block(16, 24, 2, 4))
        self.head = nn.Linear(24, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x).mean((2, 3)))


KINDS = {
    "small": (Small, "stem.0"),
    "plain": (Plain, "3"),
    "inverted": (Inverted, "layers.0"),
    "depthwise_cnn": (zoo.NETWORKS["depthwise_cnn"], "0"),
    "grouped_cnn": (zoo.NETWORKS["grouped_cnn"], "0"),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.75])
def test_every_kind_is_pruned_by_channels_and_comes_back(
    name: str, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset()
    factory, first = KINDS[name]
    monkeypatch.setitem(zoo.NETWORKS, name, factory)
    network = zoo.create(name, 3, seed=0).eval()
    pruned = channel_pruning.remove_channels(network, ratio, data)
    halfway = channel_pruning.remove_channels(network, ratio / 2, data, network)
    inputs = torch.from_numpy(data.inputs(data.test)[:4])
    with torch.no_grad():
        assert torch.equal(zoo.restore(name, 3, pruned.state_dict())(inputs), pruned(inputs))
    width = network.get_submodule(first).weight.shape[0]  # type: ignore[union-attr, index]
    left = pruned.get_submodule(first).weight.shape[0]  # type: ignore[union-attr, index]
    assert 0.6 * (1 - ratio) * width <= left <= (1 - ratio) * width
    in_rounds = channel_pruning.remove_channels(halfway, ratio, data, network)
    assert [p.shape for p in in_rounds.parameters()] == [p.shape for p in pruned.parameters()]


def test_attention_is_not_pruned_by_channels() -> None:
    with pytest.raises(ValueError, match="does not take networks with attention"):
        channel_pruning.remove_channels(zoo.create("vit_tiny", 3, seed=0), 0.5, dataset())


RUNTIMES = {
    "plain_cnn": ("torchscript", "pytorch"),
    "depthwise_cnn": ("torchscript", "pytorch"),
    "grouped_cnn": tuple(exporters.EXPORTERS),
    "vit_tiny": tuple(exporters.EXPORTERS),
}
"""Where a test can afford to export a network; the plain two are the grouped one's operators."""


QUICK_WITH_ATTENTION = "torchscript"
"""For the other runtimes, the export of a transformer takes as long as all others: that is `make test-long`'s."""


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        pytest.param(n, r, marks=[pytest.mark.long] * (n == "vit_tiny" and r != QUICK_WITH_ATTENTION))
        for n, runtimes in RUNTIMES.items()
        for r in runtimes
    ],
)
def test_small_networks_come_back_and_are_exported(name: str, runtime: RuntimeName, tmp_path: Path) -> None:
    network = zoo.restore(name, 3, zoo.create(name, 3, seed=0).state_dict())
    inputs = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    job = exporters.Job(network, inputs[:2], FLOAT32, None, tmp_path / "artifact")
    entry = exporters.export(exporters.EXPORTERS[runtime], job).entry
    adapter = runtimes.load(job.folder, described(job.folder, runtime, entry), 1)
    with torch.no_grad():
        expected = network(inputs).numpy()
    np.testing.assert_allclose(adapter.infer({INPUT: inputs.numpy()})[OUTPUT], expected, rtol=0, atol=1e-5)
    adapter.close()
