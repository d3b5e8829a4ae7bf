"""Artifacts of networks with few values: stored compressed in every runtime, and loaded as they were."""

from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch
from onnx import numpy_helper

from compressors.export import exporters
from compressors.export.exporters import Job
from compressors.export.lowerings import FLOAT32, StaticInt8
from compressors.networks.layers import INPUT, OUTPUT
from compressors.recipes import clustering
from protos import packing
from protos.manifest import RuntimeName
from server import runtimes
from tests.support.compressors.artifacts import described
from tests.support.compressors.small import Small, dataset
from tests.support.compressors.world import published, start

CASES = [
    *((runtime, "fp32") for runtime in exporters.EXPORTERS),
    pytest.param("pytorch", "int8", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("runtime", "lowering"), CASES, ids=lambda case: str(case))
def test_a_packed_artifact_answers_as_the_one_that_is_not(runtime: RuntimeName, lowering: str, tmp_path: Path) -> None:
    """Also after the folder that it was unpacked to is gone, and as often as one likes."""
    torch.manual_seed(0)
    data = dataset()
    inputs = data.inputs(data.test)
    job = Job(
        clustering.share_values(Small().eval(), 8),
        torch.from_numpy(inputs[:2]),
        FLOAT32 if lowering == "fp32" else StaticInt8(),
        torch.from_numpy(inputs) if lowering == "int8" else None,
        tmp_path / "artifact",
        compressible=True,
    )
    entry = exporters.export(exporters.EXPORTERS[runtime], job).entry
    plain = described(job.folder, runtime, entry)
    expected = runtimes.load(job.folder, plain, 1).infer({INPUT: inputs})[OUTPUT]
    packing.pack(job.folder)
    packed = described(job.folder, runtime, entry)
    assert all(file.path.endswith(".xz") for file in packed.files)
    assert packed.artifact_bytes < 0.75 * plain.artifact_bytes
    assert sum(file.unpacked_bytes or 0 for file in packed.files) == plain.artifact_bytes
    adapter = runtimes.load(job.folder, packed, 1)
    for batch in (96, 1, 7, 96):
        answer = adapter.infer({INPUT: inputs[:batch]})[OUTPUT]
        np.testing.assert_allclose(answer, expected[:batch], rtol=0, atol=1e-5)
    adapter.close()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_weights_that_share_values_still_do_in_the_artifact(runtime: RuntimeName, tmp_path: Path) -> None:
    network = clustering.share_values(Small().eval(), 8)
    job = Job(network, torch.zeros(2, 3, 8, 8), FLOAT32, None, tmp_path / "artifact", compressible=True)
    entry = job.folder / exporters.export(exporters.EXPORTERS[runtime], job).entry
    if runtime == "onnxruntime":
        constants = [numpy_helper.to_array(tensor) for tensor in onnx.load(entry).graph.initializer]
    else:
        operations = openvino.Core().read_model(entry).get_ops()
        constants = [op.get_data() for op in operations if op.get_type_name() == "Constant"]
    weights = [values for values in constants if values.ndim > 1 and values.size > values.shape[0]]
    assert [len(np.unique(values)) for values in weights] == [8, 8, 8]


STUDY = """
models = { small = "small" }
data = "small"
calibration = 8
runtimes = ["torchscript"]
[recipes.fp32]
step = "train"
fit = { epochs = 2, batch = 16, learning_rate = 0.1 }
[recipes.clusters4]
step = "clustering"
parent = "fp32"
clusters = 4
[recipes.clusters4-int8]
step = "static-int8"
parent = "clusters4"
"""


@pytest.mark.usefixtures("world")
def test_a_build_stores_what_is_compressible_packed(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(STUDY)
    build = start(tmp_path / "small.toml")
    build.run()
    assert build.failures == {}
    files = {name: [file.path for file in variant.files] for name, variant in published(build).items()}
    assert files == {
        "fp32-torchscript": ["model.pt"],
        "clusters4-torchscript": ["model.pt.xz"],
        "clusters4-int8-torchscript": ["model.pt.xz"],
    }
    again = start(tmp_path / "small.toml")
    again.run()
    assert published(again) == published(build)
