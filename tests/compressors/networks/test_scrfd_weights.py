"""Weights of SCRFD out of a graph: what an exporter folded answers as before, and what does not fit is named."""

import copy
import warnings
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from compressors.networks import scrfd_weights, user_network
from compressors.networks.scrfd import Head, MobileNet, Pafpn, ResNet, Scrfd
from protos.errors import UsageError

Written = tuple[Scrfd, onnx.ModelProto]


def tiny(classes: int = 1, last_keypoints: int = 5) -> Scrfd:
    """Both kinds of blocks at the least size."""
    backbone = MobileNet((8, 8, 8, 8, 8), (1, 1, 1, 1))
    backbone.stages[2] = ResNet(8, (8, 8), (1, 1)).stages[1]
    heads = [Head(nn.Identity(), 8, classes, keypoints) for keypoints in (5, 5, last_keypoints)]
    return Scrfd(backbone, Pafpn((8, 8, 8), 8), heads).eval()


class Scaled(nn.Conv2d):
    """The convolution of boxes in the authors' larger networks."""

    def __init__(self) -> None:
        super().__init__(8, 8, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.scale


@pytest.fixture(scope="module")
def written() -> Written:
    """A network with weights of its own, and the graph that PyTorch exports of it."""
    torch.manual_seed(0)
    network = tiny()
    network.head[1].box = Scaled()
    for name, values in [*network.named_parameters(), *network.named_buffers()]:
        if name.endswith(("norm.weight", "running_var", "scale")):
            nn.init.uniform_(values, 0.5, 2)
        elif name.endswith(("bias", "running_mean")):
            nn.init.normal_(values)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # the exporter's own, of PyTorch's parts
        program = torch.onnx.export(network, (torch.zeros(1, 3, 64, 64),), dynamo=True, verbose=False)
    assert program is not None
    graph = program.model_proto
    operators = {node.op_type for node in graph.graph.node}
    assert "BatchNormalization" not in operators
    assert "Mul" in operators
    return network, graph


def test_a_graph_fills_the_network_that_it_was_made_of(written: Written, tmp_path: Path) -> None:
    network, graph = written
    onnx.save(graph, tmp_path / "weights.onnx")
    read, images = tiny(), torch.randn(2, 3, 96, 64)
    user_network.load(read, tmp_path / "weights.onnx")
    with torch.no_grad():
        torch.testing.assert_close(read(images), network(images), atol=1e-4, rtol=1e-4)


def test_with_statistics_a_network_answers_in_training_as_in_evaluation(written: Written, tmp_path: Path) -> None:
    onnx.save(written[1], tmp_path / "weights.onnx")
    network, images = tiny(), torch.randn(4, 3, 96, 64)
    user_network.load(network, tmp_path / "weights.onnx")
    with torch.no_grad():
        before, lost = network(images), copy.deepcopy(network).train()(images)
        scrfd_weights.give_statistics(network, images)
        torch.testing.assert_close(network(images), before, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(network.train()(images), before, atol=1e-3, rtol=1e-3)
    assert (lost[3] - before[3]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (tiny(classes=2), r"got weights \[2, 8, 3, 3\] of '.+', expected weights \[4, 8, 3, 3\] of 'head\.0\.score'"),
        (tiny(last_keypoints=0), r"got weights \[20, 8, 3, 3\] of '.+', expected no further convolution"),
        (nn.Linear(1, 1), "got an ONNX graph, expected a state dict"),
    ],
    ids=["classes", "keypoints", "linear"],
)
def test_a_network_that_does_not_fit_is_named(
    network: nn.Module, message: str, written: Written, tmp_path: Path
) -> None:
    onnx.save(written[1], tmp_path / "weights.onnx")
    with pytest.raises(UsageError, match=rf"^weights\.onnx: {message}"):
        user_network.load(network, tmp_path / "weights.onnx")


def test_a_graph_that_computes_otherwise_is_refused(written: Written, tmp_path: Path) -> None:
    other = onnx.ModelProto()
    other.CopyFrom(written[1])
    next(node for node in other.graph.node if node.op_type == "Relu").op_type = "Tanh"
    onnx.save(other, tmp_path / "weights.onnx")
    with pytest.raises(UsageError, match=r"^weights\.onnx: its answers are not those of the network"):
        user_network.load(tiny(), tmp_path / "weights.onnx")


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.onnx").write_bytes(b"no graph")
    with pytest.raises(UsageError, match=r"^weights\.onnx: not an ONNX graph"):
        user_network.load(tiny(), tmp_path / "weights.onnx")
