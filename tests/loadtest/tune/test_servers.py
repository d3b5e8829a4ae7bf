"""The servers of a tuning: real processes, and what is refused before any is started."""

import itertools
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from loadtest.tune.candidates import DEFAULT, Configuration
from loadtest.tune.servers import Servers, check_memory, find_variant, free_ports, link_variant, standing_by
from protos.errors import UsageError
from protos.repository import MANIFEST, default_variant, load_golden, scan
from protos.support.machine import available_cores
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.support import toy
from tests.support.serving import connect

VARIANT = "fp32-onnxruntime"
TOO_MANY = Configuration(threads=1024)


@dataclass(frozen=True)
class Standing:
    """Servers of two configurations, of which one cannot be had, while the first port is taken."""

    servers: Servers
    ports: tuple[int, ...]
    said: list[str]
    versions: list[str]
    """The variants that the default's server has."""
    memory: dict[str, int]


@pytest.fixture(scope="module")
def standing(repository: Path) -> Standing:
    said, free = list[str](), free_ports()
    ports = tuple(next(free) for _ in range(3))
    with socket.create_server(("127.0.0.1", ports[0])), pytest.MonkeyPatch.context() as environment:
        environment.setenv("PARETO_QUEUE_SIZE", "no number: a server that reads this does not start")
        with standing_by(repository, toy.MODEL, VARIANT, time.sleep, iter(ports)) as servers:
            servers.start_all([DEFAULT, TOO_MANY], 1, said.append)
            with connect(servers.target) as channel:
                asked = pb.ModelMetadataRequest(name=toy.MODEL)
                versions = [*GRPCInferenceServiceStub(channel).ModelMetadata(asked, timeout=10).versions]
            memory = servers.memory(VARIANT)
    return Standing(servers, ports, said, versions, memory)


def test_a_server_whose_port_is_taken_is_started_on_another(standing: Standing) -> None:
    assert standing.servers.target == f"127.0.0.1:{standing.ports[1]}"


def test_a_server_has_the_one_variant_only(standing: Standing) -> None:
    assert standing.versions == [VARIANT]


def test_a_configuration_that_does_not_start_is_left_out_with_its_reason(standing: Standing) -> None:
    reason = f"--threads: got 1024, expected at most the {available_cores()} available cores"
    assert standing.servers.left_out == {TOO_MANY: reason}
    assert [*standing.servers.ready] == [DEFAULT]


def test_it_is_said_how_far_the_start_is_and_what_memory_is_taken(standing: Standing) -> None:
    first, second, third = standing.said
    assert first == "standing by: 1 of 2 servers"
    assert second.startswith("left out: --threads 1024: --threads: got 1024")
    assert re.fullmatch(r"standing by: 1 server, which take [\d,]+ MB of memory", third)


def test_the_memory_of_a_server_is_known_by_the_name_of_its_variant(standing: Standing) -> None:
    assert [*standing.memory] == [VARIANT]
    assert standing.memory[VARIANT] > 10e6


def test_afterwards_no_server_is_left(standing: Standing) -> None:
    server = standing.servers.ready[DEFAULT]
    assert server.process.returncode == 0
    for port in (standing.ports[1], standing.ports[1] + 1):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_where_the_default_does_not_serve_the_variant_nothing_is_measured(tmp_path: Path) -> None:
    root = toy.repository(tmp_path, ("onnxruntime",))
    toy.publish_variant(root, "onnxruntime", "wrong", factor=3.0)
    with (
        standing_by(root, toy.MODEL, "wrong-onnxruntime", time.sleep) as servers,
        pytest.raises(UsageError, match=r"^the default configuration does not serve the variant: "),
    ):
        servers.start_all([DEFAULT, TOO_MANY], 1, print)


def test_a_repository_of_links_has_the_variant_as_its_default(repository: Path, tmp_path: Path) -> None:
    links = link_variant(repository, toy.MODEL, "fp32-openvino", tmp_path / "models")
    assert [(entry.model, entry.name, entry.broken) for entry in scan(links)] == [(toy.MODEL, "fp32-openvino", None)]
    assert default_variant(links, toy.MODEL) == "fp32-openvino"
    assert len(load_golden(links, toy.MODEL)) == 4


@pytest.mark.parametrize(
    ("model", "variant", "message"),
    [
        ("car", VARIANT, "--model: got 'car', expected a model of the repository '{root}'"),
        ("toy", "int8-pytorch", "--variant: got 'int8-pytorch', expected one of fp32-onnxruntime, fp32-openvino"),
    ],
)
def test_what_the_repository_lacks_is_refused(model: str, variant: str, message: str, repository: Path) -> None:
    with pytest.raises(UsageError) as refused:
        find_variant(repository, model, variant)
    assert str(refused.value) == message.format(root=repository)


def test_a_broken_variant_is_refused(tmp_path: Path) -> None:
    root = toy.repository(tmp_path, ("onnxruntime",))
    (root / toy.MODEL / VARIANT / MANIFEST).unlink()
    with pytest.raises(UsageError, match=r"^--variant: 'fp32-onnxruntime' is broken: 'manifest\.json' is missing$"):
        find_variant(root, toy.MODEL, VARIANT)


def test_a_repository_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--repository: got '.*/none', expected a folder that exists$"):
        find_variant(tmp_path / "none", toy.MODEL, VARIANT)


def test_servers_that_do_not_fit_the_memory_are_refused_before_they_are_started() -> None:
    others = [Configuration(threads=2), Configuration(workers=2)]
    check_memory(others, 100_000_000, 400_000_000)
    with pytest.raises(UsageError) as refused:
        check_memory(others, 100_000_000, 399_000_000)
    assert str(refused.value) == (
        "2 servers beside the default take about 400 MB of memory, 399 MB are left: expected fewer values of"
        " --threads, --workers or --batch-max"
    )


def test_free_ports_come_in_pairs_below_those_of_clients() -> None:
    for port in itertools.islice(free_ports(), 3):
        assert 10_000 <= port < 32_000
        for each in (port, port + 1):
            socket.create_server(("127.0.0.1", each)).close()
