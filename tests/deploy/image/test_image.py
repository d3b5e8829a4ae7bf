"""The image with one runtime, built for real and run: what it serves, as whom, and what it has not got.

`make image-test` does the same for the image of all runtimes.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos.tensors import decode_response, encode_request
from tests.deploy.files import copied
from tests.deploy.image.containers import (
    BUILD_SECONDS,
    Container,
    ContainerServer,
    build,
    container_of,
    remove,
    serving_in,
)
from tests.support import toy
from tests.support.serving import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(BUILD_SECONDS + 60)]

IMAGE = "paretoserve-test"
PACKAGES = "/opt/paretoserve/lib/python3.11/site-packages"


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """An image with ONNX Runtime alone."""
    run = build(IMAGE, "onnxruntime")
    assert run.returncode == 0, run.stderr
    yield IMAGE
    remove(IMAGE)


@pytest.fixture(scope="module")
def container(image: str) -> Iterator[Container]:
    with container_of(image) as made:
        yield made


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A variant for ONNX Runtime, and one for PyTorch; in a folder of their own, since pytest's is closed to others."""
    return toy.repository(tmp_path_factory.mktemp("mounted") / "models", ("onnxruntime", "pytorch"))


@pytest.fixture(scope="module")
def server(container: Container, models: Path) -> Iterator[ContainerServer]:
    with serving_in(container, models) as running:
        yield running


def test_the_server_in_the_image_answers_what_the_network_answers(server: ContainerServer) -> None:
    images = toy.images(3)
    with server.stub() as stub:
        response = stub.ModelInfer(encode_request("toy", "", {"input": images}), timeout=30)
    assert response.model_version == "fp32-onnxruntime"
    np.testing.assert_allclose(decode_response(response)["logits"], toy.answer(images), rtol=1e-5)


def test_the_server_runs_as_a_user_who_can_change_neither_it_nor_the_repository(
    container: Container, server: ContainerServer
) -> None:
    assert set(server.inside.uids()) == {10001}
    mounts = Path(f"/proc/{server.inside.pid}/mounts").read_text().splitlines()
    (options,) = [mount.split()[3].split(",") for mount in mounts if mount.split()[1].endswith("/models")]
    assert "ro" in options
    own_home = ("-path", "/home/pareto", "-prune", "-o")
    writable = container.run("find", "/", "-xdev", *own_home, "-type", "d", "-writable", "-print").stdout.split()
    assert sorted(writable) == ["/run/lock", "/tmp", "/var/tmp"]


def test_the_health_check_of_the_image_tells_a_server_from_none(container: Container, models: Path) -> None:
    with serving_in(container, models) as running:
        assert container.health(running) == 0
        running.stop()
        assert container.health(running) == 1


def test_a_stop_lets_the_server_drain_and_end_with_0(container: Container, models: Path) -> None:
    with serving_in(container, models) as running:
        running.signal()
        assert running.wait() == 0
        assert "draining" in running.log
        assert running.log.rstrip().endswith("stopped")


def test_a_variant_whose_runtime_the_image_has_not_says_so(server: ContainerServer) -> None:
    with server.stub() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(encode_request("toy", "fp32-pytorch", {"input": toy.images(1)}), timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "runtime 'pytorch' needs 'torch', which is not installed" in caught.value.details()


def test_the_image_has_what_was_asked_for_and_no_more(container: Container) -> None:
    packages = {*container.run("ls", PACKAGES).stdout.split()}
    assert packages >= {"onnxruntime", "server", "protos"}
    assert packages & {"torch", "openvino", "loadtest", "pip", "setuptools"} == set()
    names = ("-name", "tests", "-o", "-name", "*.whl", "-o", "-name", "server")
    assert container.run("find", "/opt", "/home", "/tmp", *names).stdout.split() == [f"{PACKAGES}/server"]
    programs = "for name in gcc make pareto-serve; do command -v $name; done"
    assert container.run("sh", "-c", programs).stdout.split() == ["/opt/paretoserve/bin/pareto-serve"]


def test_the_image_does_not_say_where_its_packages_came_from(container: Container) -> None:
    assert "PARETO_HOST" in container.described
    assert "PIP_" not in container.described


@pytest.mark.parametrize(
    ("runtimes", "line", "error"),
    [
        ("onnxruntime,tensorrt", "", "RUNTIMES: got 'onnxruntime,tensorrt', expected some of ('pytorch', "),
        ("", "", "RUNTIMES: got '', expected some of ('pytorch', "),
        ("onnxruntime", "COPY protos protos\n", "No module named 'protos'"),
        ("onnxruntime", "COPY server server\n", "No module named 'server'"),
    ],
)
def test_what_is_wrong_fails_the_build_and_is_named(runtimes: str, line: str, error: str, tmp_path: Path) -> None:
    for source in (*copied(), ".dockerignore", "deploy/image.sh", "deploy/Dockerfile"):
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        (tmp_path / source).parent.mkdir(exist_ok=True)
        copy(ROOT / source, tmp_path / source)
    text = (tmp_path / "deploy/Dockerfile").read_text()
    assert line in text
    (tmp_path / "deploy/Dockerfile").write_text(text.replace(line, ""))
    run = build(f"{IMAGE}-wrong", runtimes, root=tmp_path)
    assert (run.returncode != 0, run.stdout) == (True, "")
    assert error in run.stderr
