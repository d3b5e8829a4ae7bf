"""A network that takes pixels, in each runtime, as it is and in int8."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compressors.export import exporters
from compressors.export.exporters import Job
from compressors.export.lowerings import FLOAT32, Lowering, StaticInt8
from compressors.networks.layers import INPUT, OUTPUT
from compressors.networks.pixels import fold_input
from compressors.recipes import train
from compressors.recipes.steps import Fit
from protos.manifest import RuntimeName
from protos.preprocessing import input_spec
from server import runtimes
from tests.support.compressors.artifacts import described
from tests.support.compressors.small import Dataset, Small, dataset


def data_with(mean: float) -> Dataset:
    return replace(dataset(), preprocessing=replace(dataset().preprocessing, mean=(mean,) * 3))


MEANS = {"with a map": 0.4, "with a bias": 0.0}
CASES = [
    pytest.param(
        *(kind, runtime, *case),
        id=f"{kind}-{name}-{runtime}",
        marks=[pytest.mark.long] * ((name, runtime) == ("int8", "pytorch")),  # compiled for a quarter of a minute
    )
    for kind in MEANS
    for name, case in {"fp32": (FLOAT32, 1.0), "int8": (StaticInt8(), 0.9)}.items()
    for runtime in exporters.EXPORTERS
]


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    data = data_with(MEANS[request.param])
    torch.manual_seed(0)
    network = Small()
    checkpoint = tmp_path_factory.mktemp("train") / "c.pt"
    train.fit(network, data, Fit(epochs=8, batch=16, learning_rate=0.1), 0, checkpoint, None)
    return fold_input(network, data.preprocessing)


@pytest.mark.parametrize(("network", "runtime", "lowering", "agreement"), CASES, indirect=["network"])
def test_pixels_are_answered_by_every_runtime_alone_and_in_batches(
    network: torch.nn.Module, runtime: RuntimeName, lowering: Lowering, agreement: float, tmp_path: Path
) -> None:
    """The mean of what is folded plays no part any more."""
    data = replace(dataset(), preprocessing=replace(dataset().preprocessing, layout="NHWC"))
    pixels = data.inputs(data.test)
    calibration = torch.from_numpy(data.inputs(data.calibration)) if lowering.calibrated else None
    job = Job(network, torch.from_numpy(pixels[:2]), lowering, calibration, tmp_path)
    entry = exporters.export(exporters.EXPORTERS[runtime], job).entry
    spec = input_spec(INPUT, data.preprocessing)
    variant = replace(described(tmp_path, runtime, entry, lowering), inputs=(spec,), preprocessing=data.preprocessing)
    assert (spec.datatype, spec.shape) == ("UINT8", (-1, 8, 8, 3))
    with torch.inference_mode():
        wanted = network(torch.from_numpy(pixels)).numpy()
    with closing(runtimes.load(tmp_path, variant, threads=1)) as adapter:
        together, alone = adapter.infer({INPUT: pixels})[OUTPUT], adapter.infer({INPUT: pixels[:1]})[OUTPUT]
    assert (together.argmax(1) == wanted.argmax(1)).mean() >= agreement
    assert abs(alone - together[:1]).max() < 1e-3 * abs(wanted).max()
    errors = abs(together - wanted) / (wanted.max() - wanted.min())
    assert errors.max() < 1e-4 if lowering is FLOAT32 else errors.mean() < 0.02
