"""Adding a runtime is an adapter, an exporter and a row in each table: done here, in a copy, and served for real."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from protos import repository
from protos.tensors import decode_response, encode_request
from tests.support.serving import ROOT, ServerProcess, serving

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]  # it builds for real

ADAPTER = """
from pathlib import Path

import numpy as np

from protos.manifest import Variant
from server.runtimes import Array


class MatrixProduct:
    def __init__(self, path: Path, variant: Variant, threads: int) -> None:
        self._input, self._output = variant.inputs[0].name, variant.outputs[0].name
        with np.load(path) as arrays:
            self._weight, self._bias = arrays["weight"], arrays["bias"]

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        rows = inputs[self._input]
        return {self._output: rows.reshape(len(rows), -1) @ self._weight.T + self._bias}

    def close(self) -> None:
        del self._weight
"""
EXPORTER = """
import numpy as np

from compressors.export.exporters import Exported, Job


def export(job: Job) -> Exported:
    arrays = {name.rpartition(".")[2]: tensor.numpy() for name, tensor in job.network.state_dict().items()}
    np.savez(job.folder / "model.npz", **arrays)
    return Exported("model.npz")
"""
ROWS = {
    "protos/manifest.py": ("RuntimeName = Literal[", '"toy", '),
    "server/runtimes/__init__.py": ("RUNTIMES = {", '"toy": "server.runtimes.toy:MatrixProduct", '),
    "compressors/export/exporters.py": (
        "EXPORTERS: dict[RuntimeName, Exporter] = {",
        '"toy": Exporter("compressors.export.toy:export", ("numpy",)), ',
    ),
}
NETWORK = """
from torch import nn

def linear(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, num_classes))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with the new runtime, and beside them a user's network, weights and images."""
    folder = tmp_path_factory.mktemp("project")
    for package in ("protos", "server", "compressors"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "server/runtimes/toy.py").write_text(ADAPTER)
    (folder / "compressors/export/toy.py").write_text(EXPORTER)
    for file, (table, row) in ROWS.items():
        source = (folder / file).read_text()
        assert source.count(table) == 1, f"{file} has no '{table}'"
        (folder / file).write_text(source.replace(table, table + row))
    (folder / "theirs.py").write_text(NETWORK)
    torch.manual_seed(0)
    torch.save(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)).state_dict(), folder / "weights.pt")
    pixels = np.random.default_rng(0).integers(0, 255, (60, 4, 4, 3), np.uint8)
    np.savez(folder / "photos.npz", images=pixels, labels=np.arange(60) % 2)
    return folder


@pytest.fixture(scope="module")
def built(project: Path) -> str:
    """What `pareto-compress build` says of the user's network in two runtimes, the new one among them."""
    command = [*(sys.executable, "-m", "compressors", "build", "--model", "theirs:linear", "--weights", "weights.pt")]
    command += ["--name", "mine", "--data", "photos.npz", "--calibration", "16", "--repository", "models"]
    command += ["--budget", "15s"]  # what it is timed for is another test's affair
    ended = subprocess.run(
        [*command, "--runtimes", "onnxruntime", "toy"], cwd=project, capture_output=True, text=True, timeout=900
    )
    return ended.stdout + ended.stderr


def test_a_variant_of_the_new_runtime_is_built_and_measured(project: Path, built: str) -> None:
    (variant,) = [e.variant for e in repository.scan(project / "models") if e.name == "fp32-onnxruntime"]
    assert variant is not None, built
    manifest = (project / "models/mine/fp32-toy/manifest.json").read_text()
    assert '"runtime": "toy"' in manifest
    assert re.search(r'"agreement": 1\.0', manifest)
    assert '"latency"' in manifest


def test_what_the_new_exporter_cannot_lower_is_a_row_with_its_reason(built: str) -> None:
    assert re.search(r"int8-toy[^\n]*refused", built)


@pytest.fixture
def server(project: Path, built: str) -> Iterator[ServerProcess]:
    with serving(project / "models", root=project) as server:
        yield server


def test_the_server_answers_with_it_as_with_another(server: ServerProcess) -> None:
    images = np.random.default_rng(1).random((3, 3, 4, 4), np.float32)
    with server.stub() as stub:
        toy, other = (
            decode_response(stub.ModelInfer(encode_request("mine", variant, {"input": images}), timeout=30))["logits"]
            for variant in ("fp32-toy", "fp32-onnxruntime")
        )
    np.testing.assert_allclose(toy, other, atol=1e-5)
