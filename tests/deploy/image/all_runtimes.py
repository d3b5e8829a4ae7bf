"""The image with all runtimes serves what pareto-compress built on this machine: `make image-test`.

Compiled PyTorch packages are among it, which link against the system's C and C++ libraries: the image's have to fit.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protos.manifest import RuntimeName
from protos.repository import load_golden, scan
from protos.tasks.table import TASKS
from protos.tensors import decode_response, encode_request
from server.runtimes import RUNTIMES
from tests.deploy.image.containers import Container, ContainerServer, container_of, serving_in
from tests.support.processes import finished

pytestmark = pytest.mark.timeout(900)

STUDY = f"""
models = {{ digits = "plain_cnn" }}
data = "digits"
calibration = 128
runtimes = {[*RUNTIMES]}

[recipes.fp32]
step = "train"
fit = {{ epochs = 1, batch = 64, learning_rate = 0.05, shift = 2 }}

[recipes.int8]
step = "static-int8"
parent = "fp32"
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FP32 and int8 in each runtime."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "digits.toml").write_text(STUDY)
    flags = ("--study", str(folder / "digits.toml"), "--repository", str(folder / "models"))
    run = finished([sys.executable, "-m", "compressors", "build", *flags], 600)
    assert run.returncode == 0, run.stderr
    return folder / "models"


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    with container_of("paretoserve-server") as made:
        yield made


@pytest.fixture(scope="module")
def server(container: Container, models: Path) -> Iterator[ContainerServer]:
    with serving_in(container, models) as running:
        yield running


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_image_answers_as_fp32_did_where_it_was_built(
    runtime: RuntimeName, server: ContainerServer, models: Path
) -> None:
    variants = [entry.variant for entry in scan(models) if entry.variant and entry.variant.runtime == runtime]
    assert {variant.recipe.name for variant in variants} >= {"fp32"}
    for variant in variants:
        golden = load_golden(models, "digits", variant)
        request = encode_request("digits", variant.variant, golden.inputs)
        with server.stub() as stub:
            outputs = decode_response(stub.ModelInfer(request, timeout=30))
        assert variant.golden is not None
        assert TASKS[variant.task].golden_error(outputs, golden.outputs) <= variant.golden.tolerance


def test_every_variant_is_ready_and_the_image_is_healthy(container: Container, server: ContainerServer) -> None:
    assert " FAILED" not in server.log.replace(" 0 FAILED", "")
    assert container.health(server) == 0


def test_a_stop_lets_the_server_drain_and_end_with_0(container: Container, models: Path) -> None:
    with serving_in(container, models) as running:
        running.signal()
        assert running.wait() == 0
