"""The overlay whose models come from a store: a container like its own, on a root that nobody can write, serves."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from signal import SIGKILL
from typing import Any

import numpy as np
import pytest

from compressors.build.push import push
from protos.tensors import decode_response, encode_request
from server.settings import parse
from tests.deploy.files import DEPLOY
from tests.deploy.kubernetes.kubectl import by_kind, plant
from tests.support import toy
from tests.support.serving import ServerProcess
from tests.support.stores.servers import Registry

FILES = DEPLOY / "kubernetes"
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'
"""Runs a command that can write into one folder of this machine's disk, and nowhere else."""


@pytest.fixture(scope="module")
def resources() -> dict[str, dict[str, Any]]:
    """What kubectl makes of the overlay, by kind."""
    return by_kind(FILES / "store")


@pytest.fixture(scope="module")
def deployment(resources: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return resources["Deployment"]


@pytest.fixture(scope="module")
def variables(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


def served_by(variables: Mapping[str, str], folder: Path) -> ServerProcess:
    """A server with these variables and no others, which can write into `folder` alone."""
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, str(folder)]
    given = {"PATH": "/usr/bin:/bin", "HOME": "/root", "PARETO_PORT": "0", "PARETO_METRICS_PORT": "0", **variables}
    assigned = [f"{name}={value}" for name, value in given.items()]
    return ServerProcess([], [*alone, "env", "-i", *assigned, sys.executable, "-m", "server"])


def test_a_server_that_can_write_only_what_is_mounted_fetches_and_serves(
    variables: dict[str, str], container: dict[str, Any], tmp_path: Path
) -> None:
    models = toy.repository(tmp_path / "models", ("onnxruntime",))
    (tmp_path / "store").mkdir()
    registry, disk = Registry(tmp_path / "store"), tmp_path / "disk"
    mounts = {each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")}
    for mount in mounts:
        (disk / mount.strip("/")).mkdir(parents=True)
    within = {name: f"{disk}{value}" if value in mounts else value for name, value in variables.items()}
    with registry.running():
        push(models, registry.url, [], delete=False)
        server = served_by({"TMPDIR": f"{disk}/tmp", **within, "PARETO_REPOSITORY": registry.url}, disk)
        try:
            server.wait_until_loaded()
            with server.stub() as stub:
                response = stub.ModelInfer(encode_request("toy", "", {"input": toy.images(2)}), timeout=30)
            np.testing.assert_allclose(decode_response(response)["logits"], toy.answer(toy.images(2)), rtol=1e-5)
        finally:
            server.signal(SIGKILL)  # the manifest's drain takes seconds
            server.stop()


def test_the_repository_is_a_url_and_no_claim_is_asked_for(variables: dict[str, str], pod: dict[str, Any]) -> None:
    assert isinstance(parse([], variables).repository, str)
    assert [volume for volume in pod["volumes"] if "emptyDir" not in volume] == []


def test_the_cache_is_bounded(variables: dict[str, str], pod: dict[str, Any], container: dict[str, Any]) -> None:
    (name,) = (
        each["name"] for each in container["volumeMounts"] if each["mountPath"] == variables["PARETO_REPOSITORY_CACHE"]
    )
    (volume,) = (each for each in pod["volumes"] if each["name"] == name)
    assert volume["emptyDir"]["sizeLimit"]


def test_a_pod_may_take_minutes_to_fetch_and_no_other_probe_counts_them(
    deployment: dict[str, Any], container: dict[str, Any]
) -> None:
    start = container["startupProbe"]
    seconds = start["periodSeconds"] * start["failureThreshold"]
    assert 600 <= seconds < deployment["spec"]["progressDeadlineSeconds"]
    assert start["httpGet"] == container["livenessProbe"]["httpGet"]  # readiness may take as long as loading


def test_credentials_may_come_from_a_secret_or_from_elsewhere(container: dict[str, Any]) -> None:
    assert container["envFrom"] == [{"secretRef": {"name": "paretoserve-store", "optional": True}}]


def test_a_pod_may_ask_for_names_and_by_https_and_nothing_else(resources: dict[str, dict[str, Any]]) -> None:
    (rule,) = resources["NetworkPolicy"]["spec"]["egress"]
    assert {(each["port"], each["protocol"]) for each in rule["ports"]} == {(443, "TCP"), (53, "UDP"), (53, "TCP")}


@pytest.mark.parametrize("overlay", ["hpa", "keda", "monitoring"])
def test_what_adds_to_the_base_adds_to_it(overlay: str, pod: dict[str, Any], tmp_path: Path) -> None:
    files = Path(shutil.copytree(FILES, tmp_path / "k"))
    plant(files / overlay / "kustomization.yaml", "../base", "../store")
    assert by_kind(files / overlay)["Deployment"]["spec"]["template"]["spec"] == pod
