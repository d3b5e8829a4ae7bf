"""The runtime and the service for KServe, by the models of its Python package, and in step with the server.

No cluster with KServe is at hand: that it takes them is tested as far as its models go, that they run is not.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from server.settings import parse
from tests.deploy.files import DEPLOY, dockerfile, read
from tests.deploy.kubernetes import kserve_models
from tests.deploy.kubernetes.kubectl import build, plant, refused

FOLDER = DEPLOY / "kubernetes/kserve"
PLANTED = [
    ("runtime.yaml", "supportedModelFormats", "supportedModelFormat"),
    ("runtime.yaml", "protocolVersions: [grpc-v2]", "protocolVersions: grpc-v2"),
    ("runtime.yaml", "{ name: paretoserve, version", "{ format: paretoserve, version"),
    ("runtime.yaml", 'version: "1"', "version: 1"),
    ("runtime.yaml", 'port: "8002"', "port: 8002"),
    ("runtime.yaml", "containerPort: 8001", 'containerPort: "8001"'),
    ("runtime.yaml", "readinessProbe", "readynessProbe"),
    ("runtime.yaml", "emptyDir", "emptydir"),
    ("service.yaml", "minReplicas: 2", 'minReplicas: "2"'),
    ("service.yaml", "storageUri", "storageURI"),
    ("service.yaml", "predictor:", "predictors:"),
    ("service.yaml", "modelFormat:", "format:"),
    ("service.yaml", "automountServiceAccountToken: false", 'automountServiceAccountToken: "no"'),
]


def mistakes(folder: Path) -> list[str]:
    """What KServe's models say of a folder, and Kubernetes' schemas of the rest."""
    resources, found = build(folder), list[str]()
    for resource in resources:
        found += kserve_models.mistakes(resource)
    return found or refused([kserve_models.pod_of(each) for each in resources], folder)


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    spec: dict[str, Any] = read("kubernetes/kserve/runtime.yaml")["spec"]
    return spec


def copy(tmp_path: Path) -> Path:
    """A copy of the folder, to be written into."""
    return Path(shutil.copytree(FOLDER, tmp_path / "kserve"))


def test_runtime_and_service_are_what_kserve_takes(tmp_path: Path) -> None:
    assert mistakes(copy(tmp_path)) == []


@pytest.mark.parametrize(("file", "old", "new"), PLANTED)
def test_a_misspelt_field_and_a_wrong_type_are_found(file: str, old: str, new: str, tmp_path: Path) -> None:
    plant(path := copy(tmp_path) / file, old, new)
    assert mistakes(path.parent) != []


def test_the_service_asks_for_what_the_runtime_has(pod: dict[str, Any]) -> None:
    model = read("kubernetes/kserve/service.yaml")["spec"]["predictor"]["model"]
    assert model["runtime"] == read("kubernetes/kserve/runtime.yaml")["metadata"]["name"]
    assert model["modelFormat"] in pod["supportedModelFormats"]
    assert model["protocolVersion"] in pod["protocolVersions"]
    (volume, _) = read("kubernetes/base/deployment.yaml")["spec"]["template"]["spec"]["volumes"]
    assert model["storageUri"] == f"pvc://{volume['persistentVolumeClaim']['claimName']}"


def test_the_image_is_named_once() -> None:
    (built,) = (each for each in build(FOLDER) if each["kind"] == "ServingRuntime")
    (image,) = read("kubernetes/kserve/kustomization.yaml")["images"]
    assert built["spec"]["containers"][0]["image"] == f"{image['newName']}:{image['newTag']}"


def test_the_container_is_that_of_the_deployment_but_for_names_of_kserve(container: dict[str, Any]) -> None:
    pod = read("kubernetes/base/deployment.yaml")["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    for same in ("image", "resources", "readinessProbe", "lifecycle"):
        assert container[same] == server[same]
    assert container["securityContext"] == server["securityContext"] | pod["securityContext"]
    env = {each["name"]: each["value"] for each in container["env"]}
    assert env == {each["name"]: each["value"] for each in server["env"]} | {"PARETO_REPOSITORY": "/mnt/models"}
    predictor = read("kubernetes/kserve/service.yaml")["spec"]["predictor"]
    assert predictor["terminationGracePeriodSeconds"] == pod["terminationGracePeriodSeconds"]


def test_ports_and_user_are_the_server_s(container: dict[str, Any], pod: dict[str, Any], tmp_path: Path) -> None:
    given = {each["name"]: each["value"] for each in container["env"]} | {"PARETO_REPOSITORY": str(tmp_path)}
    settings = parse([], given)
    assert container["ports"] == [{"name": "h2c", "containerPort": settings.port}]
    assert container["livenessProbe"]["httpGet"]["port"] == settings.metrics_port
    assert pod["annotations"]["prometheus.kserve.io/port"] == str(settings.metrics_port)
    assert [str(container["securityContext"]["runAsUser"])] == dockerfile("USER")
