"""The manifests, as kubectl makes them, against Kubernetes' own schemas, and in step with what the server does.

No cluster is at hand: that they are valid and fit together is tested here, that they run is not.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import Settings, parse
from tests.deploy.files import DEPLOY, RULES, copied, dockerfile, read
from tests.deploy.kubernetes.crds import FIELDS, kind_of, unknown_fields
from tests.deploy.kubernetes.kubectl import build, by_kind, plant, refused
from tests.deploy.promql import problems

FILES = DEPLOY / "kubernetes"
OVERLAYS = ("base", "hpa", "keda", "monitoring", "store", "loadtest", "locust-operator")


def mistakes(resources: list[dict[str, Any]], folder: Path) -> list[str]:
    """What Kubernetes' schemas say of its own kinds, and `crds` of others'."""
    others = [each for each in resources if kind_of(each) in FIELDS]
    found = [field for each in others for field in unknown_fields(each)]
    return [*found, *refused([each for each in resources if each not in others], folder)]


@pytest.fixture(scope="module")
def deployment() -> dict[str, Any]:
    return by_kind(FILES / "base")["Deployment"]


@pytest.fixture(scope="module")
def settings(container: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    given = {each["name"]: each["value"] for each in container["env"]}
    return parse(["--repository", str(tmp_path_factory.mktemp("models"))], given)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_is_what_kubernetes_takes(overlay: str, tmp_path: Path) -> None:
    assert mistakes(build(FILES / overlay), tmp_path) == []


PLANTED = [
    ("base/deployment.yaml", "readOnlyRootFilesystem", "readOnlyRootFileSystem"),
    ("base/deployment.yaml", "periodSeconds: 2", 'periodSeconds: "2"'),
    ("base/deployment.yaml", "maxUnavailable: 0", "maxUnavailabel: 0"),
    ("base/service.yaml", "clusterIP: None", "clusterIp: None"),
    ("base/disruption.yaml", "maxUnavailable: 1", "maxUnavailables: 1"),
    ("base/network.yaml", "policyTypes", "policyType"),
    ("hpa/autoscaler.yaml", "averageValue", "averageValues"),
    ("keda/scaledobject.yaml", "minReplicaCount", "minReplicas"),
    ("keda/scaledobject.yaml", "serverAddress", "serveraddress"),
    ("monitoring/servicemonitor.yaml", "endpoints", "endpoint"),
    ("monitoring/rules.yaml", "expr:", "expression:"),
    ("store/deployment.yaml", "startupProbe", "startUpProbe"),
    ("store/network.yaml", "protocol", "protocols"),
    ("loadtest/master.yaml", "backoffLimit", "backOffLimit"),
    ("loadtest/workers.yaml", "completions: 4", 'completions: "4"'),
    ("loadtest/claim.yaml", "accessModes", "accessMode"),
    ("locust-operator/locusttest.yaml", "workers:", "workerReplicas:"),
    ("locust-operator/locusttest.yaml", "resources:", "resource:"),
]


@pytest.mark.parametrize(("file", "old", "new"), PLANTED)
def test_a_misspelt_field_is_found(file: str, old: str, new: str, tmp_path: Path) -> None:
    shutil.copytree(FILES, tmp_path / "k")
    plant(path := tmp_path / "k" / file, old, new)
    assert mistakes(build(path.parent), tmp_path) != []


def test_the_image_and_its_user_are_those_of_the_dockerfile(container: dict[str, Any], pod: dict[str, Any]) -> None:
    assert container["image"].partition(":")[0] == read("compose.yaml")["services"]["server"]["image"]
    assert [str(pod["securityContext"]["runAsUser"])] == dockerfile("USER")
    mounts = {each["mountPath"]: each.get("readOnly", False) for each in container["volumeMounts"]}
    assert mounts == {"/models": True, "/tmp": False}
    assert "PARETO_REPOSITORY=/models" in dockerfile("ENV")
    assert "server" in copied()


def test_ports_are_the_server_s_wherever_they_are_named(container: dict[str, Any], settings: Settings) -> None:
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"grpc": settings.port, "metrics": settings.metrics_port}
    assert container["readinessProbe"]["grpc"]["port"] == settings.port
    assert container["livenessProbe"]["httpGet"]["port"] == "metrics"  # health is NOT_SERVING where all variants failed
    service = by_kind(FILES / "base")["Service"]
    assert {each["name"]: each["port"] for each in service["spec"]["ports"]} == ports


def test_a_pod_is_given_the_time_that_its_drain_takes(
    pod: dict[str, Any], container: dict[str, Any], settings: Settings
) -> None:
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = settings.drain_notice + settings.drain_timeout
    assert pod["terminationGracePeriodSeconds"] > before + drain
    ready, alive = container["readinessProbe"], container["livenessProbe"]
    assert settings.drain_notice >= ready["periodSeconds"] * ready["failureThreshold"]
    assert alive["periodSeconds"] * alive["failureThreshold"] > drain


def test_a_pod_has_whole_cores_of_its_own(container: dict[str, Any]) -> None:
    asked, allowed = container["resources"]["requests"], container["resources"]["limits"]
    assert asked == allowed
    assert int(asked["cpu"]) >= 1


def test_the_rules_are_those_of_prometheus() -> None:
    assert read("kubernetes/monitoring/rules.yaml")["spec"] == yaml.safe_load(RULES.read_text())


def test_both_autoscalers_ask_alike() -> None:
    hpa, keda = read("kubernetes/hpa/autoscaler.yaml")["spec"], read("kubernetes/keda/scaledobject.yaml")["spec"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (keda["minReplicaCount"], keda["maxReplicaCount"])
    assert hpa["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (metric,), (trigger,) = hpa["metrics"], keda["triggers"]
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": trigger["metadata"]["threshold"]}
    assert trigger["metricType"] == "AverageValue"


@pytest.mark.parametrize("overlay", ["hpa", "keda"])
def test_the_number_of_replicas_is_the_autoscaler_s_alone(overlay: str) -> None:
    assert "replicas" not in by_kind(FILES / overlay)["Deployment"]["spec"]


def test_a_client_is_let_in_by_its_label_alone() -> None:
    calls, _ = by_kind(FILES / "base")["NetworkPolicy"]["spec"]["ingress"]
    assert calls["from"] == [{"podSelector": {"matchLabels": {"paretoserve-client": "true"}}}]


def test_all_select_the_pods_of_the_deployment(deployment: dict[str, Any]) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    specs = {kind: each["spec"] for kind, each in by_kind(FILES / "base").items()}
    assert specs["Deployment"]["selector"] == {"matchLabels": labels}
    assert specs["PodDisruptionBudget"]["selector"] == {"matchLabels": labels}
    assert specs["NetworkPolicy"]["podSelector"] == {"matchLabels": labels}
    assert specs["Service"]["selector"] == labels


def expressions() -> Iterator[str]:
    """What the autoscalers ask Prometheus for."""
    yield read("kubernetes/keda/scaledobject.yaml")["spec"]["triggers"][0]["metadata"]["query"]
    (rule,) = read("kubernetes/hpa/adapter-rules.yaml")["rules"]["custom"]
    yield rule["metricsQuery"].replace("<<.GroupBy>>", "instance").replace("<<.LabelMatchers>>", "")


@pytest.mark.parametrize("expression", [*expressions()])
def test_what_autoscalers_ask_for_is_what_the_server_tells(expression: str) -> None:
    assert problems(expression) == []


def test_the_adapter_makes_the_metric_that_the_autoscaler_wants() -> None:
    (rule,) = read("kubernetes/hpa/adapter-rules.yaml")["rules"]["custom"]
    (metric,) = read("kubernetes/hpa/autoscaler.yaml")["spec"]["metrics"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
