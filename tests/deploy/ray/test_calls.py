"""Each call of the protocol through Ray Serve gets what it gets from `pareto-serve`, to the last bit and word."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import grpc
import pytest

from deploy.ray.app import DECIDED_BY_RAY, read_settings
from protos.errors import UsageError
from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from server.settings import Settings
from tests.deploy.ray.cluster import Cluster
from tests.support import toy
from tests.support.serving import by_labels, connect, eventually, serving

PARTS = (
    *(
        "liveness",
        "server metadata",
        "model metadata",
        "readiness of variants",
        "answers",
        "bytes",
        "classes",
        "images",
    ),
    *(
        "errors",
        "variants that cannot serve",
        "model configuration",
        "repository index",
        "repository control",
        "health",
    ),
    *("stream", "statistics"),
)
VARIANT = "fp32-onnxruntime"
REQUEST = encode_request("toy", VARIANT, {"input": toy.images(1)})


def calls(address: str, models: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.deploy.ray.tritonclient_calls", address, "toy"]
    done = subprocess.run([*command, str(models / "toy/golden.npz")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def documents(ray: Cluster, models: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What tritonclient gets from Ray Serve, and from a server of the same variants and as many cores."""
    ray.deploy(ray.application)
    with serving(models, "--batch-max", "0") as server:
        return calls(ray.address, models), calls(server.grpc_address, models)


def test_every_part_is_compared(documents: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert [set(document) for document in documents] == [set(PARTS)] * 2


@pytest.mark.parametrize("part", PARTS)
def test_tritonclient_gets_the_same_from_ray_as_from_the_server(
    documents: tuple[dict[str, Any], dict[str, Any]], part: str
) -> None:
    by_ray, direct = documents
    assert by_ray[part] == direct[part]


@pytest.fixture
def stub(ray: Cluster) -> Iterator[GRPCInferenceServiceStub]:
    with connect(ray.address) as channel:
        yield GRPCInferenceServiceStub(channel)


def outcomes(stub: GRPCInferenceServiceStub, calls: int) -> list[grpc.Future]:
    """Calls that were made at once, and have ended."""
    made = [stub.ModelInfer.future(REQUEST, timeout=30) for _ in range(calls)]
    for call in made:
        call.exception()
    return made


def test_a_full_queue_refuses_in_our_words_with_the_time_to_come_again(
    ray: Cluster, stub: GRPCInferenceServiceStub
) -> None:
    ray.deploy(ray.slow({"queue-size": 4}))
    made = outcomes(stub, 64)
    refused = [call for call in made if call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert {call.code() for call in made} == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert {call.details() for call in refused} == {"4 requests are waiting for this variant, its queue is full"}
    assert all(int(dict(call.trailing_metadata())["grpc-retry-pushback-ms"]) > 0 for call in refused)


def test_a_request_whose_deadline_passes_in_the_queue_is_not_executed(
    ray: Cluster, stub: GRPCInferenceServiceStub
) -> None:
    ray.deploy(ray.slow({"queue-size": 127}))  # a new replica, which has counted nothing
    (replica,) = ray.pids()
    early = [stub.ModelInfer.future(REQUEST, timeout=30) for _ in range(60)]  # they take 1.2 s
    late = stub.ModelInfer.future(REQUEST, timeout=0.6)
    assert late.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert {call.exception() for call in early} == {None}
    page = ray.metrics(replica)
    assert by_labels(page, "pareto_requests_total", "code") == {("OK",): 60, ("CANCELLED",): 1}
    assert by_labels(page, "pareto_rejected_total", "reason") == {("cancelled",): 1}
    assert sum(by_labels(page, "pareto_batch_rows_sum", "variant").values()) == 60


def test_a_stream_that_its_client_leaves_is_over_in_the_replica(ray: Cluster, stub: GRPCInferenceServiceStub) -> None:
    ray.deploy(ray.with_args({"max-rows": 16}))  # a new replica, which has counted nothing
    (replica,) = ray.pids()
    over = threading.Event()

    def requests() -> Iterator[pb.ModelInferRequest]:
        yield REQUEST
        over.wait(30)

    stream = stub.ModelStreamInfer(requests(), timeout=30)
    assert next(stream).infer_response.model_version == VARIANT
    stream.cancel()
    over.set()

    def ended() -> dict[tuple[str, ...], float]:
        """Of whichever code: Ray cancels it, or lets it end as if the client had closed it."""
        return by_labels(ray.metrics(replica), "grpc_server_handled_total", "grpc_method")

    asyncio.run(eventually(ended, {("ModelStreamInfer",): 1}))


def test_a_message_above_64_mb_is_refused(ray: Cluster, stub: GRPCInferenceServiceStub) -> None:
    ray.deploy(ray.application)
    request = pb.ModelInferRequest(model_name="toy", raw_input_contents=[bytes(65 * 1024 * 1024)])
    with pytest.raises(grpc.RpcError) as told:
        stub.ModelInfer(request, timeout=60)
    assert told.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_bytes_that_are_no_message_are_refused_in_our_words(ray: Cluster) -> None:
    ray.deploy(ray.application)
    with connect(ray.address) as channel, pytest.raises(grpc.RpcError) as told:
        channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(b"\xff\xff", timeout=30)
    assert (told.value.code(), told.value.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the message is not the one that this method takes",
    )


def test_a_replica_has_the_metrics_page_of_a_server(ray: Cluster, stub: GRPCInferenceServiceStub) -> None:
    ray.deploy(ray.with_args({"max-rows": 32}))  # a new replica, which has counted nothing
    for _ in range(3):
        stub.ModelInfer(REQUEST, timeout=30)
    (replica,) = ray.pids()
    counted = by_labels(ray.metrics(replica), "pareto_requests_total", "variant", "code")
    assert counted == {(VARIANT, "OK"): 3}


def test_each_application_serves_its_own_variants_to_calls_that_name_it(
    ray: Cluster, stub: GRPCInferenceServiceStub
) -> None:
    """One application for each variant: the metadata `application` chooses, as with any application of Ray Serve."""

    variants = [VARIANT, "other-onnxruntime"]
    named = [{"name": variant, "route_prefix": f"/{variant}"} for variant in variants]
    ray.deploy(*(ray.with_args({"only": f"toy/{each['name']}"}) | each for each in named))
    for variant in variants:
        index = stub.RepositoryIndex(pb.RepositoryIndexRequest(), metadata=[("application", variant)], timeout=30)
        assert [(row.version, row.state) for row in index.models] == [(variant, "READY")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"port": 8001}, "args: got 'port', expected none: Ray Serve decides it"),
        ({"max-rows": 0}, "--max-rows: got '0', expected a whole number from 1 to 65536"),
        ({"max-rowz": 1}, "unrecognized arguments: --max-rowz=1"),
        ({"repository": "/nowhere"}, "--repository: got '/nowhere', expected a folder that exists"),
    ],
)
def test_a_mistake_in_the_arguments_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as told:
        read_settings(given)
    assert str(told.value) == said


def test_every_path_is_the_same_wherever_a_replica_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    paths = {name for name, hint in get_type_hints(Settings).items() if Path in (hint, *get_args(hint))}
    given = {name: "here" for name in paths if name.replace("_", "-") not in DECIDED_BY_RAY}
    settings = read_settings({name.replace("_", "-"): path for name, path in given.items()})
    assert {name: getattr(settings, name) for name in given} == dict.fromkeys(given, tmp_path / "here")


def test_a_mistake_in_the_arguments_is_told_by_ray_and_what_was_served_goes_on(
    ray: Cluster, stub: GRPCInferenceServiceStub
) -> None:
    ray.deploy(ray.application)
    ray.submit(ray.with_args({"max-rows": 0}))
    asyncio.run(eventually(ray.statuses, {"paretoserve": "DEPLOY_FAILED"}))
    assert "--max-rows: got '0'" in ray.told()
    assert stub.ModelInfer(REQUEST, timeout=30).model_version == VARIANT


@pytest.mark.parametrize(
    ("args", "because"),
    [
        (
            {"only": "toy/wrong-onnxruntime"},
            "no variant can be served: toy/wrong-onnxruntime: golden outputs differ by",
        ),
        ({"repository": "s3://bucket/models"}, "s3:// needs a library: pip install 'paretoserve[s3]'"),
    ],
)
def test_a_version_that_can_serve_nothing_says_why_and_gets_no_call(
    ray: Cluster, stub: GRPCInferenceServiceStub, args: dict[str, Any], because: str
) -> None:
    ray.deploy(ray.application)
    ray.submit(ray.with_args(args))
    asyncio.run(eventually(lambda: because in ray.told(), seconds=60))
    assert stub.ModelInfer(REQUEST, timeout=30).model_version == VARIANT


def test_the_threads_of_an_engine_fit_the_cores_that_ray_gives_a_replica(ray: Cluster) -> None:
    ray.submit(ray.with_args({"threads": 2}))
    because = "--threads: got 2, expected at most the 1 available cores"
    asyncio.run(eventually(lambda: because in ray.told(), seconds=60))
