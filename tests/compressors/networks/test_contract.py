"""What every network keeps: answers of its own for each row, the same ones twice, and its input left as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compressors.measure import evaluate
from compressors.networks import contract, zoo
from compressors.networks.layers import INPUT
from protos.errors import UsageError
from tests.support.compressors.small import Small, classes
from tests.support.compressors.world import small_world, start

SHAPE = (3, 8, 8)


class BatchStatistics(Small):
    def __init__(self) -> None:
        super().__init__()
        self.stem[1] = nn.BatchNorm2d(16, track_running_stats=False)


class Dropped(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(F.dropout(x, 0.2))  # of the inputs: of 12 outputs the same may be dropped twice


class InPlace(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.sub_(0.5))


class Endless(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / 0


class Tupled(Small):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:  # type: ignore[override]
        return (super().forward(x),)


class Rounding(Small):
    """A network that makes the rounding of single precision large, which is another for another batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rounding = 0.05 if x.dtype == torch.float32 and len(x) == 1 else 0.0
        return super().forward(x) + rounding


def test_rounding_that_a_network_makes_large_breaks_no_contract() -> None:
    contract.check(Rounding().eval(), SHAPE, classes(3))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (BatchStatistics, "answers a row otherwise alone than among others"),
        (Dropped, "answers the same inputs otherwise the second time"),
        (InPlace, "writes into its input"),
        (Endless, "not finite"),
        (Tupled, r"got a tuple from the network, expected a tensor"),
    ],
)
def test_a_network_that_breaks_its_contract_is_one_line(kind: type[nn.Module], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        contract.check(kind().eval(), SHAPE, classes(3))
    assert "\n" not in str(error.value)


def test_a_network_that_keeps_its_contract_passes() -> None:
    contract.check(Small().eval(), SHAPE, classes(3))


def test_answers_of_any_scale_are_compared() -> None:
    network = BatchStatistics().eval()
    with torch.no_grad():
        network.classifier.weight *= 1e-6
        network.classifier.bias.zero_()
    with pytest.raises(UsageError, match="otherwise alone"):
        contract.check(network, SHAPE, classes(3))


STUDY = """
models = {{ small = "small" }}
data = "small"
calibration = 8
runtimes = ["torchscript"]
[recipes.fp32]
{step}
"""
STEPS = {
    "load": 'step = "load"\nfile = "{file}"',
    "train": 'step = "train"\nfit = {{ epochs = 1, batch = 16, learning_rate = 0.1 }}',
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", [BatchStatistics, Dropped, InPlace])
def test_no_build_begins_with_a_network_that_breaks_its_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[nn.Module], step: str
) -> None:
    torch.save(kind().state_dict(), tmp_path / "weights.pt")
    (tmp_path / "s.toml").write_text(STUDY.format(step=STEPS[step].format(file=tmp_path / "weights.pt")))
    with small_world():
        monkeypatch.setitem(zoo.NETWORKS, "small", lambda classes: kind())
        with pytest.raises(UsageError, match="the network"):
            start(tmp_path / "s.toml").check()
    assert not (tmp_path / "models").exists()


def test_the_reference_run_cannot_write_into_the_test_images() -> None:
    images = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    before = images.copy()
    evaluate.eager(InPlace().eval())({INPUT: images})
    np.testing.assert_array_equal(images, before)
