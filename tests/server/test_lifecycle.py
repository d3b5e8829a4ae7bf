"""Start and end of a real process: what it refuses to start with, and that no accepted request is lost."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from tests.support import toy
from tests.support.server import doors
from tests.support.server.load import Load, answered_calls
from tests.support.serving import ServerProcess, connect, refusal, serving


def test_sigterm_under_load_loses_no_accepted_request(repository: Path, front: str) -> None:
    with serving(repository, "--drain-notice", "3") as server, connect(server.grpc_address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        load = Load(server)
        server.signal()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        not_serving = perf_counter()
        assert server.wait() == 0
        outcomes = load.outcomes()
    assert outcomes.keys() == {"right", "UNAVAILABLE"}
    answered = answered_calls(server.log)
    assert answered.pop("OK") == outcomes["right"]
    assert ("UNAVAILABLE" in answered) == doors.expected("refusals at the end are counted", front)
    assert answered.keys() <= {"UNAVAILABLE"}
    assert min(load.first_failure) > not_serving
    assert "stopped" in server.log
    assert "Traceback" not in server.log


@pytest.mark.usefixtures("front")
def test_while_draining_it_still_answers_and_says_that_it_is_not_ready(repository: Path) -> None:
    with serving(repository, "--drain-notice", "60") as server, server.stub() as stub:
        server.signal()
        server.wait_for_log("draining")
        assert stub.ServerLive(pb.ServerLiveRequest(), timeout=10).live
        assert not stub.ServerReady(pb.ServerReadyRequest(), timeout=10).ready
        assert stub.ModelInfer(encode_request("toy", "", {"input": toy.images(1)}), timeout=10).model_name == "toy"
        with connect(server.grpc_address) as channel:
            for service in ("", "inference.GRPCInferenceService", "toy", "toy/fp32-openvino"):
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(service=service), timeout=10
                )
                assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        server.signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM
        assert "forced to end by a second signal" in server.log


@pytest.mark.usefixtures("front")
def test_sigint_ends_it_as_sigterm_does(repository: Path) -> None:
    with serving(repository) as server:
        server.signal(signal.SIGINT)
        assert server.wait() == 0


@pytest.mark.usefixtures("front")
def test_sigterm_while_loading_ends_it_well(repository: Path) -> None:
    server = ServerProcess(
        ["--repository", str(repository), "--port", "0", "--metrics-port", "0", "--drain-notice", "0"]
    )
    try:
        server.wait_for_log("serving grpc=")
    finally:
        code = server.stop()
    assert code == 0
    assert "Traceback" not in server.log


@contextmanager
def listener() -> Iterator[int]:
    """A port that someone else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


@pytest.mark.usefixtures("front")
@pytest.mark.parametrize("flag", ["--port", "--metrics-port"])
def test_a_port_in_use_is_one_clear_line(repository: Path, flag: str) -> None:
    with listener() as port:
        line = refusal("--repository", str(repository), flag, str(port))
    assert line.startswith(f"pareto-serve: {flag}: 127.0.0.1:{port} ")


def test_a_second_server_does_not_share_the_port_of_the_first(server: ServerProcess, repository: Path) -> None:
    _, port = server.grpc_address.split(":")
    line = refusal("--repository", str(repository), "--port", port)
    assert line == f"pareto-serve: --port: {server.grpc_address} is in use, or cannot be listened on"


def test_a_host_of_ipv6_is_listened_on_and_the_plan_names_the_front(repository: Path, front: str) -> None:
    with serving(repository, "--host", "::1") as server, server.stub() as stub:
        assert server.grpc_address.startswith("[::1]:")
        assert stub.ModelInfer(encode_request("toy", "", {"input": toy.images(1)}), timeout=30).model_name == "toy"
        server.wait_for_log(rf"plan: .*, front {front}\n")


def test_a_missing_repository_is_one_clear_line() -> None:
    line = refusal("--repository", "/no/such/folder")
    assert line == "pareto-serve: --repository: got '/no/such/folder', expected a folder that exists"


def test_more_threads_than_cores_are_one_clear_line(repository: Path) -> None:
    line = refusal("--repository", str(repository), "--threads", "1024")
    assert line.startswith("pareto-serve: --threads: got 1024, expected at most the ")
