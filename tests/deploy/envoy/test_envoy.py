"""Envoy in front of real servers: every call finds one that can take it, whatever happens to the others."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGKILL, SIGSTOP

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.deploy.envoy.balancing import FILES, Envoy, answered, balancing, envoy_program
from tests.support import certificates, toy
from tests.support.serving import ServerProcess, connect, eventually, serving
from tests.support.steady import SteadyLoad

VARIANT, FAILED = "fp32-onnxruntime", "wrong-onnxruntime"
REQUEST = encode_request("toy", VARIANT, {"input": toy.images(1)})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A variant that serves, and one that fails its golden check."""
    root = toy.repository(tmp_path_factory.mktemp("models"), ("onnxruntime",))
    toy.publish_variant(root, "onnxruntime", recipe="wrong", factor=3.0)
    return root


@contextmanager
def started(models: Path, count: int, *flags: str) -> Iterator[list[ServerProcess]]:
    with ExitStack() as all_of_them:
        yield [all_of_them.enter_context(serving(models, "--drain-notice", "1", *flags)) for _ in range(count)]


@pytest.fixture(scope="module")
def servers(models: Path, front: str) -> Iterator[list[ServerProcess]]:
    with started(models, 2) as two:
        yield two


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> certificates.Pair:
    folder = tmp_path_factory.mktemp("certificates")
    return certificates.issue(certificates.authority(folder, "root"), folder, "envoy")


@pytest.fixture(scope="module")
def envoy(
    servers: list[ServerProcess], pair: certificates.Pair, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Envoy]:
    with balancing(tmp_path_factory.mktemp("envoy"), [each.grpc_address for each in servers], pair) as running:
        yield running


@pytest.fixture
def stub(envoy: Envoy) -> Iterator[GRPCInferenceServiceStub]:
    with connect(envoy.address) as channel:
        yield GRPCInferenceServiceStub(channel)


def test_the_calls_of_one_connection_are_shared_out_within_a_tenth(
    servers: list[ServerProcess], stub: GRPCInferenceServiceStub
) -> None:
    before = [answered(server) for server in servers]
    for _ in range(100):
        for call in [stub.ModelInfer.future(REQUEST, timeout=30) for _ in range(32)]:
            call.result()
    first, second = (answered(server) - was for server, was in zip(servers, before, strict=True))
    assert first + second == 3200
    assert abs(first - second) <= 0.1 * 1600


def test_a_stream_is_answered_request_by_request(stub: GRPCInferenceServiceStub) -> None:
    """Each request is sent when the one before it was answered: whoever waits for a stream's end would hang here."""
    answers: list[str] = []

    def requests() -> Iterator[pb.ModelInferRequest]:
        for number in range(3):
            request = encode_request("toy", VARIANT, {"input": toy.images(1)})
            request.id = str(number)
            yield request
            asyncio.run(eventually(lambda number=number: len(answers) > number))

    for response in stub.ModelStreamInfer(requests(), timeout=30):
        assert not response.error_message
        answers.append(response.infer_response.id)
    assert answers == ["0", "1", "2"]


def test_what_a_server_refuses_is_told_once_and_asked_of_no_other(envoy: Envoy, stub: GRPCInferenceServiceStub) -> None:
    retries = envoy.stats("upstream_rq_retry$")
    with pytest.raises(grpc.RpcError, match="expected 1 to 64") as told:
        stub.ModelInfer(encode_request("toy", VARIANT, {"input": toy.images(65)}), timeout=30)
    assert told.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert envoy.stats("upstream_rq_retry$") == retries


def test_a_compressed_message_goes_to_no_server(servers: list[ServerProcess], stub: GRPCInferenceServiceStub) -> None:
    before = [answered(server) for server in servers]
    with pytest.raises(grpc.RpcError) as told:
        stub.ModelInfer(REQUEST, timeout=30, compression=grpc.Compression.Gzip)
    assert told.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert [answered(server) for server in servers] == before


def test_a_message_above_64_mb_goes_to_no_server(envoy: Envoy, stub: GRPCInferenceServiceStub) -> None:
    before = envoy.stats("upstream_rq_total$")
    request = pb.ModelInferRequest(model_name="toy", raw_input_contents=[bytes(65 * 1024 * 1024)])
    with pytest.raises(grpc.RpcError):
        stub.ModelInfer(request, timeout=60)
    assert envoy.stats("upstream_rq_total$") == before
    assert stub.ModelInfer(REQUEST, timeout=30).model_name == "toy"


def test_a_connection_beyond_the_bound_is_closed_and_the_others_go_on(
    servers: list[ServerProcess], tmp_path: Path
) -> None:
    with balancing(tmp_path, [servers[0].grpc_address], connections=2) as envoy, ExitStack() as channels:
        for number in range(2):
            channels.enter_context(held := connect(envoy.address))
            stub = GRPCInferenceServiceStub(held)
            assert stub.ModelInfer(REQUEST, timeout=30).model_version == VARIANT, number
        with connect(envoy.address) as third, pytest.raises(grpc.RpcError) as told:
            GRPCInferenceServiceStub(third).ModelInfer(REQUEST, timeout=5)
        assert told.value.code() == grpc.StatusCode.UNAVAILABLE
        assert stub.ModelInfer(REQUEST, timeout=30).model_version == VARIANT


def test_calls_that_would_take_more_memory_than_the_bound_are_unavailable(
    servers: list[ServerProcess], tmp_path: Path
) -> None:
    with balancing(tmp_path, [servers[0].grpc_address], heap=1_000_000) as envoy, connect(envoy.address) as channel:

        def told() -> grpc.StatusCode:
            call = GRPCInferenceServiceStub(channel).ModelInfer.future(REQUEST, timeout=30)
            call.exception()
            return call.code()

        asyncio.run(eventually(told, grpc.StatusCode.UNAVAILABLE))  # it looks four times a second


def test_calls_of_a_variant_that_failed_put_no_server_out(envoy: Envoy, stub: GRPCInferenceServiceStub) -> None:
    healthy = envoy.healthy()
    for _ in range(30):
        with pytest.raises(grpc.RpcError, match="is FAILED"):
            stub.ModelInfer(encode_request("toy", FAILED, {"input": toy.images(1)}), timeout=30)
    assert envoy.healthy() == healthy
    assert len(healthy) == 2


def test_tls_ends_at_envoy(envoy: Envoy, pair: certificates.Pair) -> None:
    root = grpc.ssl_channel_credentials((pair.certificate.parent / "root.crt").read_bytes())
    with grpc.secure_channel(envoy.tls_address, root) as channel:
        assert GRPCInferenceServiceStub(channel).ModelInfer(REQUEST, timeout=30).model_version == VARIANT


def test_health_is_asked_through_it(envoy: Envoy) -> None:
    with connect(envoy.address) as channel:
        said = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert said.status == health_pb2.HealthCheckResponse.SERVING


def test_a_server_that_dies_under_load_costs_nobody_an_answer(models: Path, front: str, tmp_path: Path) -> None:
    with started(models, 2) as (dying, other), balancing(tmp_path, [dying.grpc_address, other.grpc_address]) as envoy:
        with SteadyLoad(envoy.address, REQUEST, rate=100) as load:
            asyncio.run(eventually(lambda: answered(dying) > 20))
            dying.signal(SIGKILL)
            asyncio.run(eventually(envoy.healthy, {other.grpc_address}))
            load.wait_for(50)
        assert load.outcomes == {"OK": load.sent}, load.texts


def test_a_request_of_three_megabytes_is_asked_again_as_well(models: Path, front: str, tmp_path: Path) -> None:
    large = encode_request("toy", VARIANT, {"input": np.zeros((1, 1000, 1000, 3), np.uint8)})
    with started(models, 2) as (dying, other), balancing(tmp_path, [dying.grpc_address, other.grpc_address]) as envoy:
        with SteadyLoad(envoy.address, large, rate=30) as load:
            asyncio.run(eventually(lambda: answered(dying) > 10))
            dying.signal(SIGSTOP)  # what it is sent from now on is on its way when it dies
            asyncio.run(eventually(lambda: sum(envoy.stats("upstream_rq_active$").values()) >= 4))
            dying.signal(SIGKILL)
            load.wait_for(30)
        assert load.outcomes == {"OK": load.sent}, load.texts
        assert envoy.stats("upstream_rq_retry$")["upstream_rq_retry"] >= 1


def test_a_server_that_is_taken_out_of_the_list_gets_no_call_though_it_is_well(
    models: Path, front: str, tmp_path: Path
) -> None:
    with started(models, 2) as (out, left), balancing(tmp_path, [out.grpc_address, left.grpc_address]) as envoy:
        envoy.route_to([left.grpc_address])
        asyncio.run(eventually(envoy.healthy, {left.grpc_address}))
        with connect(envoy.address) as channel:
            for _ in range(50):
                GRPCInferenceServiceStub(channel).ModelInfer(REQUEST, timeout=30)
        assert (answered(out), answered(left)) == (0, 50)


def test_all_servers_are_replaced_under_load_and_nobody_notices(models: Path, front: str, tmp_path: Path) -> None:
    with (
        started(models, 2) as old,
        balancing(tmp_path, [each.grpc_address for each in old]) as envoy,
        SteadyLoad(envoy.address, REQUEST, rate=100) as load,
        started(models, 2) as new,
    ):
        load.wait_for(50)
        for those in ([*old, *new], new):  # nobody would be known to be well, were all exchanged at once
            envoy.route_to([each.grpc_address for each in those])
            asyncio.run(eventually(envoy.healthy, {each.grpc_address for each in those}))
        for server in old:
            server.signal()
        assert [server.wait() for server in old] == [0, 0]
        load.wait_for(50)
        assert load.stop() == {"OK": load.sent}


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("envoy.yaml", "retry_on: unavailable", "retry_onn: unavailable", "retry_onn"),
        ("envoy.yaml", "service_name: servers", "servicename: servers", "servicename"),
        ("envoy.yaml", "lb_policy: LEAST_REQUEST", "lb_policy: LEAST", "LEAST"),
        ("envoy.yaml", "cluster: servers", "cluster: server", "unknown cluster 'server'"),
        ("envoy.yaml", "./endpoints.yaml", "./endpoint.yaml", "endpoint.yaml"),
    ],
)
def test_a_mistake_in_its_file_is_named_by_envoy_before_it_starts(
    tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    for each in FILES.glob("*.yaml"):
        text = each.read_text()
        assert each.name != file or old in text
        (tmp_path / each.name).write_text(text.replace(old, new) if each.name == file else text)
    given = [envoy_program(), "--mode", "validate", "-c", "envoy.yaml"]
    done = subprocess.run(given, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert said in done.stderr
