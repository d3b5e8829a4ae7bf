"""Which layer costs how much in int8."""

import pytest
import torch
from torch import nn

from compressors.export.exporters import Answer, Job
from compressors.export.lowerings import StaticInt8
from compressors.measure.sensitivity import Sensitivity, sensitivity, table
from compressors.networks.layers import INPUT, OUTPUT

IMAGES = torch.rand(8, 4, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The second layer multiplies a channel that is always zero by 5000, which takes the whole range of its weights."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)]
    with torch.no_grad():
        layers[0].weight[0] = layers[0].bias[0] = 0  # type: ignore[index]
        layers[1].weight[:, 0] = 5000
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).eval()
    folder = tmp_path_factory.mktemp("sensitivity")
    return Job(network, IMAGES[:2].clone(), StaticInt8(float_layers=("4",)), IMAGES, folder)


def closeness(job: Job, answer: Answer) -> dict[str, float]:
    with torch.no_grad():
        expected = job.network(IMAGES)
    error = torch.from_numpy(answer({INPUT: IMAGES.numpy()})[OUTPUT]) - expected
    return {"closeness": 1 - float(error.abs().mean() / expected.std())}


def test_the_layer_whose_weights_int8_ruins_is_the_one_to_leave_in_floating_point(job: Job) -> None:
    none, best, worst = sensitivity(job, lambda answer: closeness(job, answer))
    assert (none.layers, best.layers, worst.layers) == ((), ("2",), ("0",))
    assert none.metrics["closeness"] < 0.8 < 0.95 < best.metrics["closeness"]


def test_alone_in_int8_it_is_the_one_that_costs(job: Job) -> None:
    none, best, worst = sensitivity(job, lambda answer: closeness(job, answer), [["0"], ["2"]], "alone in int8")
    assert (none.layers, best.layers, worst.layers) == ((), ("0",), ("2",))
    assert none.metrics["closeness"] > 0.9999
    assert worst.metrics["closeness"] < 0.8


def test_the_table_has_the_difference_in_points() -> None:
    found = [Sensitivity((), {"ap": 0.5, "hard": 0.25}), Sensitivity(("a", "b"), {"ap": 0.52, "hard": 0.2375})]
    assert table(found).splitlines() == [
        "| layers | ap | hard |",
        "|---|---:|---:|",
        "| none | 0.5000 (+0.00) | 0.2500 (+0.00) |",
        "| a, b | 0.5200 (+2.00) | 0.2375 (-1.25) |",
    ]
