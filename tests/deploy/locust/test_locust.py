"""What compose, Kubernetes and Locust's operator start fits together, and Locust takes each flag of it.

No Docker engine and no cluster are at hand: that images are built and tests run there is not tested.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, ROOT, copied, dockerfile, read

IMAGE = "locust/Dockerfile"
PARSE = (
    "import json, sys\n"
    "from loadtest import locustfile\n"
    "from locust.argument_parser import get_parser\n"
    "print(json.dumps(vars(get_parser().parse_args(sys.argv[1:])), default=str))\n"
)


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Locust's own parser, with our flags, given what a container is given."""
    image = dict(line.split("=") for line in dockerfile("ENV", IMAGE))
    known = {**os.environ, **image, **environment}
    return subprocess.run(
        [sys.executable, "-c", PARSE, *arguments], cwd=ROOT, env=known, capture_output=True, text=True
    )


def options(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """What Locust's flags then are; it must take them."""
    done = parse(arguments, environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compose(text: Any) -> str:
    """A value of the compose file where no variable is set but those that must be."""
    return re.sub(r"\$\{\w+:([-?])([^}]*)\}", lambda found: found[2] if found[1] == "-" else "digits", str(text))


def composed(name: str) -> dict[str, Any]:
    """The flags of a service of the compose file."""
    service = read("locust/compose.yaml")["services"][name]
    environment = {key: compose(value) for key, value in service["environment"].items()}
    return options(shlex.split(compose(service["command"])), environment)


def job(name: str) -> dict[str, Any]:
    """A Job's spec."""
    spec: dict[str, Any] = read(f"kubernetes/loadtest/{name}.yaml")["spec"]
    return spec


def pod(name: str) -> dict[str, Any]:
    """The spec of a Job's pod."""
    spec: dict[str, Any] = job(name)["template"]["spec"]
    return spec


def in_cluster(name: str) -> dict[str, Any]:
    """The flags of a Job's container."""
    (generated,) = read("kubernetes/loadtest/kustomization.yaml")["configMapGenerator"]
    (container,) = pod(name)["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": generated["name"]}}]
    return options(container["args"], dict(line.split("=") for line in generated["literals"]))


def by_operator(*first: str) -> dict[str, Any]:
    """The flags of the operator's pods: its own, then ours, which both kinds get."""
    return options([*first, *shlex.split(read("kubernetes/locust-operator/locusttest.yaml")["spec"]["args"])], {})


def test_the_image_s_context_holds_all_that_it_copies_and_nothing_else() -> None:
    assert [source for source in copied(IMAGE) if not (ROOT / source).exists()] == []
    allowed = re.findall(r"^!(.+)$", (DEPLOY / f"{IMAGE}.dockerignore").read_text(), re.MULTILINE)
    inside = [source for source in copied(IMAGE) if not source.startswith("loadtest/")]
    assert sorted(allowed) == sorted(inside)
    for service in read("locust/compose.yaml")["services"].values():  # its paths count from the first file's folder
        build, (models,) = service["build"], service["volumes"]
        assert (DEPLOY / build["context"]).resolve() == ROOT
        assert ROOT / build["dockerfile"] == DEPLOY / IMAGE
        assert models["source"] == read("compose.yaml")["services"]["server"]["volumes"][0]["source"]


def test_the_image_starts_locust_in_a_folder_with_our_locustfile_and_not_as_root() -> None:
    assert dockerfile("ENTRYPOINT", IMAGE) == ['["locust"]']
    assert dockerfile("USER", IMAGE) == ["10001"]
    assert dockerfile("COPY", IMAGE)[-1] == "loadtest/locustfile.py loadtest/rampfile.py ./"


def test_a_master_in_compose_waits_for_as_many_workers_as_are_started() -> None:
    master, worker = composed("master"), composed("worker")
    assert (master["master"], worker["worker"]) == (True, True)
    assert compose(read("locust/compose.yaml")["services"]["worker"]["scale"]) == str(master["expect_workers"])
    assert worker["master_host"] in read("locust/compose.yaml")["services"]
    server, port = master["host"].split(":")
    assert f"127.0.0.1:{port}:{port}" in read("compose.yaml")["services"][server]["ports"]


def test_a_port_that_asks_nobody_who_they_are_is_for_this_machine_unless_somebody_says_otherwise() -> None:
    (port,) = read("locust/compose.yaml")["services"]["master"]["ports"]
    assert compose(port) == f"127.0.0.1:{composed('worker')['master_port']}:{composed('master')['master_bind_port']}"
    assert dockerfile("EXPOSE", IMAGE) == ["5557"]


def test_a_master_in_kubernetes_waits_for_as_many_workers_as_are_started() -> None:
    master, worker, workers = in_cluster("master"), in_cluster("workers"), job("workers")
    assert (master["master"], worker["worker"]) == (True, True)
    assert master["expect_workers"] == workers["parallelism"] == workers["completions"]
    service = read("kubernetes/loadtest/service.yaml")
    assert (service["metadata"]["name"], service["spec"]["ports"][0]["port"]) == (
        worker["master_host"],
        worker["master_port"],
    )
    assert pod("master")["containers"][0]["ports"] == [{"name": "locust", "containerPort": master["master_bind_port"]}]


def test_the_operator_s_test_is_the_same_but_for_real_inputs() -> None:
    test, job_ = by_operator("--master"), in_cluster("master")
    same = (
        "host",
        "model",
        "num_users",
        "spawn_rate",
        "run_time",
        "stop_timeout",
        "expect_workers",
        "headless",
        "rate",
    )
    assert {name: test[name] for name in same} == {name: job_[name] for name in same}
    assert read("kubernetes/locust-operator/locusttest.yaml")["spec"]["workers"] == test["expect_workers"]
    assert by_operator("--worker", "--master-host", "paretoserve-loadtest-master")["samples"] == test["samples"]


def test_what_asks_the_server_is_let_in_and_is_none_of_its_pods() -> None:
    policy, service = read("kubernetes/base/network.yaml")["spec"], read("kubernetes/base/service.yaml")
    (client,) = policy["ingress"][0]["from"]
    jobs = [job(name)["template"]["metadata"]["labels"] for name in ("master", "workers")]
    test = read("kubernetes/locust-operator/locusttest.yaml")["spec"]
    for labels in (*jobs, test["master"]["labels"], test["worker"]["labels"]):
        assert client["podSelector"]["matchLabels"].items() <= labels.items()
    (all_,) = read("kubernetes/loadtest/kustomization.yaml")["labels"]
    assert not service["spec"]["selector"].items() <= all_["pairs"].items()
    assert in_cluster("master")["host"] == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"


def test_samples_outlive_the_pods_of_kubernetes() -> None:
    (volume,) = (each for each in pod("master")["volumes"] if each["name"] == "runs")
    assert volume["persistentVolumeClaim"]["claimName"] == read("kubernetes/loadtest/claim.yaml")["metadata"]["name"]
    mounts = {each["name"]: each["mountPath"] for each in pod("master")["containers"][0]["volumeMounts"]}
    master = in_cluster("master")
    assert master["samples"].startswith(f"{mounts['runs']}/")
    assert master["repository"] == mounts["models"]


@pytest.mark.parametrize("flag", ["--expect-workers=four", "--masters", "--run-time=soon", "--rates=5"])
def test_a_flag_that_locust_does_not_take_is_found(flag: str) -> None:
    assert parse([*pod("master")["containers"][0]["args"], flag], {}).returncode == 2
