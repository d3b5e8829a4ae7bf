"""int8 on a CPU without VNNI: QEMU hides AVX512 and VNNI from every library, and computes as such a CPU does.

The network is made to saturate: its weights are nearly equal, its inputs bright, so that sums of two 8-bit products
pass 16 bits unless one side has 7 bits. What a full range does there is shown, so that the test is known to be able
to fail.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compressors.export import exporters
from compressors.export.exporters import Job
from compressors.export.lowerings import AccuracyAwareInt8, DynamicInt8, Lowering, StaticInt8, required
from compressors.networks.layers import INPUT, OUTPUT
from protos.errors import VariantError
from protos.manifest import RuntimeName, to_json
from protos.support.machine import VNNI
from server import runtimes
from tests.support.compressors.artifacts import described
from tests.support.compressors.emulated import answering, ask, without_avx512
from tests.support.compressors.small import scoring

REDUCED: dict[str, Lowering] = {
    "static": StaticInt8(),
    "dynamic": DynamicInt8(),
    "aware": AccuracyAwareInt8(max_drop=1),
}
CASES = [
    (runtime, name)
    for runtime in exporters.EXPORTERS
    for name, lowering in REDUCED.items()
    if exporters.refusal(lowering, runtime) is None
]
QUICK_THERE = [("onnxruntime", "static"), ("onnxruntime", "dynamic"), ("openvino", "static")]
"""What is tried by default: PyTorch, which two runtimes need, takes a minute to be imported there."""

ANSWER = f"""
import numpy, pathlib, sys
from protos.manifest import from_json
from server import runtimes
for line in sys.stdin:
    folder = pathlib.Path(line.rstrip())
    adapter = runtimes.load(folder / "artifact", from_json((folder / "manifest.json").read_text()), 1)
    images = numpy.load(folder / "in.npy")
    alone = [adapter.infer({{"{INPUT}": images[i:i + 1]}})["{OUTPUT}"] for i in range(len(images))]
    numpy.save(folder / "out.npy", [adapter.infer({{"{INPUT}": images}})["{OUTPUT}"], numpy.concatenate(alone)])
    print("done", flush=True)
"""


class Bright(nn.Module):
    """Convolutions and linear layers whose weights are nearly equal; (N, 3, 16, 16) to (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 3)),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                sign = torch.where(torch.arange(len(layer.weight)) % 5 > 0, 1.0, -1.0)
                shape = (-1, *(1 for _ in layer.weight.shape[1:]))
                spread = 1 + 0.1 * torch.rand(layer.weight.shape)
                layer.weight.data = spread * sign.reshape(shape) / layer.weight[0].numel()
                layer.bias.data.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Bright().eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return 0.5 + 0.5 * torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def without_vnni() -> Iterator["subprocess.Popen[str]"]:
    """A process on an emulated CPU with AVX2 and without VNNI, which answers for each folder that it is given."""
    with answering([*without_avx512(), sys.executable, "-c", ANSWER]) as process:
        yield process


def largest_error(
    network: nn.Module,
    images: torch.Tensor,
    runtime: RuntimeName,
    lowering: Lowering,
    folder: Path,
    where: "subprocess.Popen[str]",
) -> float:
    """The error of the answers in `where`, the largest beside the network's largest output."""
    labels = torch.zeros(len(images), dtype=torch.int64)
    job = Job(network, images[:2].clone(), lowering, images, folder / "artifact", scoring(labels.numpy()))
    exported = exporters.export(exporters.EXPORTERS[runtime], job)
    (folder / "manifest.json").write_text(to_json(described(folder / "artifact", runtime, exported.entry, lowering)))
    np.save(folder / "in.npy", images[:8].numpy())
    ask(where, str(folder))
    with torch.no_grad():
        expected = network(images[:8]).numpy()
    return float(np.abs(np.load(folder / "out.npy") - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("runtime", "name"),
    [
        pytest.param(*case, id=f"{case[1]}-{case[0]}", marks=[pytest.mark.long] * (case not in QUICK_THERE))
        for case in CASES
    ],
)
def test_int8_built_here_is_right_there(
    network: nn.Module,
    images: torch.Tensor,
    runtime: RuntimeName,
    name: str,
    tmp_path: Path,
    without_vnni: "subprocess.Popen[str]",
) -> None:
    assert largest_error(network, images, runtime, REDUCED[name], tmp_path, without_vnni) < 0.03


@pytest.mark.parametrize("runtime", [pytest.param("torchscript", marks=pytest.mark.long), "onnxruntime", "openvino"])
def test_a_full_range_is_wrong_there(
    network: nn.Module,
    images: torch.Tensor,
    runtime: RuntimeName,
    tmp_path: Path,
    without_vnni: "subprocess.Popen[str]",
) -> None:
    full = StaticInt8(range="full")
    assert largest_error(network, images, runtime, full, tmp_path, without_vnni) > 0.3


def test_a_full_range_is_bound_to_vnni_by_its_manifest() -> None:
    assert required(StaticInt8(range="full")) == required(AccuracyAwareInt8(1, range="full")) == VNNI
    assert required(StaticInt8()) == required(DynamicInt8()) == ()


def test_a_variant_is_refused_where_the_cpu_lacks_what_it_requires(tmp_path: Path) -> None:
    """One of the sets is enough."""
    plain = described(tmp_path, "onnxruntime", "model.onnx")
    with pytest.raises(VariantError, match=r"^needs a CPU with one of quantum, steam, this one has .*avx2"):
        runtimes.load(tmp_path, replace(plain, requires=("quantum", "steam")), 1)
    with pytest.raises(Exception, match=r"model\.onnx"):  # it gets as far as the file, which is not there
        runtimes.load(tmp_path, replace(plain, requires=("quantum", "avx2")), 1)
