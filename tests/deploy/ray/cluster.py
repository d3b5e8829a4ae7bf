"""A real Ray cluster of this process's own that is given deploy/ray/serve.yaml as `serve run` gives it."""

import asyncio
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import serve
from ray.serve._private import api
from ray.serve.config import gRPCOptions
from ray.serve.schema import ServeDeploySchema

from tests.deploy.files import read
from tests.support.serving import ROOT, Samples, eventually, quiet_port, scrape

CORES = 4
"""What Ray believes to have; a replica takes one of them."""
START_SECONDS = 120.0


class Cluster:
    """Ray with Serve; `address` is the "host:port" of its gRPC proxy, `application` what serve.yaml has."""

    def __init__(self, folder: Path, models: Path) -> None:
        config = read("ray/serve.yaml")
        config["grpc_options"]["port"], config["http_options"]["port"] = quiet_port(), quiet_port()
        self.address = f"127.0.0.1:{config['grpc_options']['port']}"
        (self.application,) = config.pop("applications")
        self.application["args"]["repository"] = str(models)
        self._config, self._folder = config, folder

    def start(self) -> None:
        """Starts Ray and the proxies, as `serve run` does."""
        os.environ |= {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(64 * 1024 * 1024),
            "PYTHONPATH": str(ROOT),
        }
        ray.init(
            address="local",
            num_cpus=CORES,
            include_dashboard=False,
            namespace="serve",
            log_to_driver=False,
            _temp_dir=str(self._folder),
        )
        schema = ServeDeploySchema.model_validate({**self._config, "applications": []})
        self._client = api.serve_start(
            http_options=schema.http_options.model_dump(),
            proxy_location=schema.proxy_location,
            grpc_options=gRPCOptions(**schema.grpc_options.model_dump()),
        )

    def with_args(self, args: dict[str, Any], **deployment: Any) -> dict[str, Any]:
        """The application of serve.yaml with other arguments, and other options of its deployment."""
        application = deepcopy(self.application)
        application["args"] |= args
        application["deployments"][0] |= deployment
        return application

    def slow(self, args: dict[str, Any], **deployment: Any) -> dict[str, Any]:
        """The same, where an execution takes 20 ms and has one row."""
        return self.with_args({"batch-max": 1} | args, **deployment) | {"import_path": "tests.deploy.ray.slow:build"}

    def submit(self, *applications: dict[str, Any]) -> None:
        """Has Ray serve these, and no others."""
        schema = ServeDeploySchema.model_validate({**self._config, "applications": [*applications]})
        self._client.deploy_apps(schema, _blocking=False)

    def deploy(self, *applications: dict[str, Any]) -> None:
        """Has Ray serve these, and no others; returns when it does."""
        self.submit(*applications)
        wanted = {application["name"]: "RUNNING" for application in applications}
        asyncio.run(eventually(self.statuses, wanted, START_SECONDS))
        asyncio.run(eventually(lambda: len(self.pids()) == self.running(), seconds=START_SECONDS))  # the old are gone

    def statuses(self) -> dict[str, str]:
        """What Ray says of each application."""
        return {name: str(each.status.value) for name, each in serve.status().applications.items()}

    def told(self, name: str = "paretoserve") -> str:
        """What Ray tells of an application and its deployments."""
        application = serve.status().applications[name]
        return application.message + "".join(each.message for each in application.deployments.values())

    def running(self) -> int:
        """How many replicas take calls."""
        deployments = [each for one in serve.status().applications.values() for each in one.deployments.values()]
        return sum(each.replica_states.get("RUNNING", 0) for each in deployments)

    def pids(self) -> list[int]:
        """The processes of replicas, from their start to their end."""
        return [each.pid for each in self._processes("ray::ServeReplica")]

    def proxy_pid(self) -> int:
        """The process of the proxy."""
        (proxy,) = self._processes("ray::ProxyActor")
        return proxy.pid

    def other_pids(self) -> list[int]:
        """Ray's own processes: its controller, its store of objects and actors, its logs, and more."""
        served = {self.proxy_pid(), *self.pids()}
        return [each.pid for each in psutil.Process().children(recursive=True) if each.pid not in served]

    def metrics(self, pid: int, *names: str) -> Samples:
        """The samples of a replica's metrics page."""
        (log,) = self._folder.glob(f"session_latest/logs/worker-*-{pid}.err")
        found = re.search(r"metrics=(\S+)", log.read_text())
        assert found, log.read_text()
        return scrape(found[1], *names)

    def stop(self) -> None:
        """Ends all of it; fails where something goes on."""
        mine = psutil.Process().children(recursive=True)
        serve.shutdown()
        ray.shutdown()
        _, alive = psutil.wait_procs(mine, timeout=30)
        assert not alive

    def _processes(self, name: str) -> list[psutil.Process]:
        return [each for each in psutil.Process().children(recursive=True) if _title(each).startswith(name)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@contextmanager
def cluster(folder: Path, models: Path) -> Iterator[Cluster]:
    """Ray, which serves nothing yet; `folder` has a short path, since Unix sockets lie in it."""
    running = Cluster(folder, models)
    try:
        running.start()
        yield running
    finally:
        running.stop()
