"""Images built by `deploy/image.sh`, and servers that run in containers of them: by Debian's buildah, as root.

Containers are of buildah's isolation `chroot`: the image's files, user and environment, and this machine's network.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

import psutil

from tests.support.processes import finished
from tests.support.serving import ROOT, ServerProcess, quiet_port

BUILD_SECONDS = 1500.0
RUN = ("buildah", "run", "--isolation", "chroot")


def build(image: str, *runtimes: str, root: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Builds an image from the checkout `root`."""
    return finished(["bash", str(root / "deploy/image.sh"), image, *runtimes], BUILD_SECONDS)


class Container:
    """A container of an image; `described` is all that buildah says of it, `config` how it is to be run."""

    def __init__(self, image: str) -> None:
        self.name = _buildah("from", "--pull-never", image)
        self.described = _buildah("inspect", self.name)
        self.config: dict[str, Any] = json.loads(self.described)["Docker"]["config"]

    def run(self, *command: str, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        """Runs a command in it, with more variables than the image has."""
        return finished([*RUN, *_variables(environment or {}), self.name, "--", *command])

    def health(self, server: ServerProcess) -> int:
        """The exit code of the image's health check."""
        kind, *command = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.run(*command, environment={"PARETO_PORT": server.grpc_address.rpartition(":")[2]}).returncode


class ContainerServer(ServerProcess):
    """The server of an image in a container, on ports that were free; `repository` is mounted at /models, read-only."""

    def __init__(self, container: Container, repository: Path) -> None:
        ports = {"PARETO_PORT": str(quiet_port()), "PARETO_METRICS_PORT": str(quiet_port())}
        mount = ("--volume", f"{repository}:/models:ro")
        entry = container.config["Entrypoint"]
        super().__init__([], (*RUN, *mount, *_variables(ports), container.name, "--", *entry))

    @property
    def inside(self) -> psutil.Process:
        """The process that the entry point started, which is not buildah's own."""
        return psutil.Process(self.pid).children(recursive=True)[-1]

    def signal(self, number: int = SIGTERM) -> None:
        """Sends a signal to where `docker stop` sends it."""
        self.inside.send_signal(number)


@contextmanager
def container_of(image: str) -> Iterator[Container]:
    """A container, removed at the end."""
    container = Container(image)
    try:
        yield container
    finally:
        _buildah("rm", container.name)


@contextmanager
def serving_in(container: Container, repository: Path) -> Iterator[ContainerServer]:
    """A server in a container, loaded, and stopped at the end."""
    server = ContainerServer(container, repository)
    try:
        server.wait_until_loaded()
        yield server
    finally:
        server.stop()


def remove(image: str) -> None:
    """Removes an image; nothing else uses it."""
    _buildah("rmi", image)


def _variables(environment: dict[str, str]) -> list[str]:
    return [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]


def _buildah(*arguments: str) -> str:
    run = finished(["buildah", *arguments])
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()
