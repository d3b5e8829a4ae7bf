"""`--max-memory`: variants come into memory when they are asked for, and the least recently used leave. Real servers,
whose variants take real memory: each has 24 MB of weights."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from resource import RLIMIT_NOFILE, prlimit

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.errors import UsageError
from protos.repository import fingerprint, promote
from protos.tensors import decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from server.hosting.memory import resident_bytes
from server.settings import parse
from tests.support import toy
from tests.support.server.connection import Client, connected
from tests.support.server.doors import expected
from tests.support.server.repository_control import IMAGES, factor, index, publish
from tests.support.server.resident import resident, sampling
from tests.support.server.standins import Gate, host
from tests.support.serving import ServerProcess, by_labels, connect, eventually, refusal, serving

MB = 1_000_000
WEIGHTS, NEEDED = 24 * MB, 60 * MB
"""Of one variant, and what loading it takes for a moment: its file, and what is made of it."""
NAMES = [f"v{number}-onnxruntime" for number in range(4)]


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four variants, the first of them the default. Not to be altered."""
    root = toy.repository(tmp_path_factory.mktemp("heavy"), ("onnxruntime",))
    for name in NAMES:
        toy.publish_variant(root, "onnxruntime", name.partition("-")[0], ballast=WEIGHTS, needed=NEEDED)
    promote(root, "toy", NAMES[0])
    return root


@pytest.fixture(scope="module")
def room_for_two(heavy: Path) -> str:
    """The limit of a server that has room for two of them, not for three."""
    with serving(heavy, "--max-memory", "2GB") as server, server.stub() as stub:
        ask(stub, "fp32-onnxruntime")  # the library is in memory from now on
        bare = resident(server)
        ask(stub, NAMES[0])
        each = resident(server) - bare
        assert each > WEIGHTS
        return f"{(bare + each + NEEDED + each / 2) / 0.98 / MB:.0f}MB"


@pytest.fixture
def server(heavy: Path, room_for_two: str) -> Iterator[ServerProcess]:
    with serving(heavy, "--max-memory", room_for_two) as server:
        yield server


def ask(stub: GRPCInferenceServiceStub, variant: str, timeout: float = 60) -> None:
    """Asks once; the answer has to be right."""
    response = stub.ModelInfer(encode_request("toy", variant, {"input": IMAGES}), timeout=timeout)
    assert response.model_version == variant
    np.testing.assert_allclose(decode_response(response)["logits"], toy.answer(IMAGES), rtol=1e-5)


def states(server: ServerProcess) -> dict[str, str]:
    """Of each variant."""
    return dict(by_labels(server.metrics("pareto_variant_state"), "pareto_variant_state", "variant", "state").keys())


def count(server: ServerProcess, name: str) -> dict[str, int]:
    """A counter of each variant for which it is not 0."""
    return {variant: int(value) for (variant,), value in by_labels(server.metrics(name), name, "variant").items()}


def test_at_the_start_nothing_is_in_memory_and_everything_can_be_asked(server: ServerProcess) -> None:
    assert set(states(server).values()) == {"COLD"}
    assert "0 variants are READY, 0 FAILED, 5 COLD" in server.log
    with server.stub() as stub, connect(server.grpc_address) as channel:
        assert stub.ModelReady(pb.ModelReadyRequest(name="toy", version=NAMES[1]), timeout=10).ready
        rows = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=10).models
        assert {(row.state, row.reason) for row in rows} == {("READY", "cold: a request has it loaded")}
        metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="toy", version=NAMES[1]), timeout=10)
        assert [each.name for each in metadata.inputs] == ["input"]
        config = stub.ModelConfig(pb.ModelConfigRequest(name="toy", version=NAMES[1]), timeout=10).config
        assert list(config.dynamic_batching.preferred_batch_size) == [16]
        for service in ("", "toy", f"toy/{NAMES[1]}"):
            request = health_pb2.HealthCheckRequest(service=service)
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_a_request_has_its_variant_loaded_once(front: str, server: ServerProcess) -> None:
    with server.stub() as stub:
        ask(stub, NAMES[1])
        ask(stub, NAMES[1])
    assert states(server)[NAMES[1]] == "READY"
    assert count(server, "pareto_variant_loads_total") == {NAMES[1]: 1}
    assert count(server, "pareto_requests_total") == {NAMES[1]: 2}


def test_the_one_that_was_not_asked_for_longest_leaves(server: ServerProcess) -> None:
    with server.stub() as stub:
        for name in (NAMES[0], NAMES[1], NAMES[0], NAMES[2]):
            ask(stub, name)
        assert {name: states(server)[name] for name in NAMES[:3]} == dict(
            zip(NAMES, ("READY", "COLD", "READY"), strict=False)
        )
        assert count(server, "pareto_variant_evictions_total") == {NAMES[1]: 1}
        ask(stub, NAMES[1])
    assert count(server, "pareto_variant_loads_total") == {NAMES[0]: 1, NAMES[1]: 2, NAMES[2]: 1}


def test_the_memory_stays_below_the_limit_while_all_are_asked_for_at_once(
    front: str, server: ServerProcess, room_for_two: str
) -> None:
    with sampling(server) as seen, server.stub() as stub, ThreadPoolExecutor(16) as clients:
        list(clients.map(lambda number: ask(stub, NAMES[number % 4]), range(64)))
    assert count(server, "pareto_requests_total") == dict.fromkeys(NAMES, 16)
    assert sum(count(server, "pareto_variant_evictions_total").values()) >= 2
    assert max(seen) <= float(room_for_two.removesuffix("MB")) * MB


def test_a_pinned_variant_is_loaded_at_the_start_and_stays(heavy: Path, room_for_two: str) -> None:
    pinned = f"toy/{NAMES[3]}"
    with serving(heavy, "--max-memory", room_for_two, "--pin", pinned) as server:
        assert states(server)[NAMES[3]] == "READY"
        with server.stub() as stub:
            for name in NAMES[:3]:
                ask(stub, name)
        assert states(server)[NAMES[3]] == "READY"
        assert count(server, "pareto_variant_loads_total")[NAMES[3]] == 1
        assert NAMES[3] not in count(server, "pareto_variant_evictions_total")


def test_who_would_not_wait_is_told_when_to_come_again(heavy: Path, front: str) -> None:
    with serving(heavy, "--max-memory", "2GB", "--cold-wait", "0") as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            ask(stub, NAMES[1])
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == f"variant 'toy/{NAMES[1]}' is COLD: it is being loaded"
        hints = [int(value) for key, value in caught.value.trailing_metadata() if key == "grpc-retry-pushback-ms"]
        assert [hint > 0 for hint in hints] == [True] * expected("pushback", front)
        asyncio.run(eventually(lambda: states(server)[NAMES[1]], "READY"))
        ask(stub, NAMES[1])


def test_a_variant_that_can_never_fit_is_listed_as_failed_and_takes_no_place(tmp_path: Path) -> None:
    toy.repository(tmp_path, ("onnxruntime",))
    toy.publish_variant(tmp_path, "onnxruntime", "huge", needed=3000 * MB)
    with serving(tmp_path, "--max-memory", "2GB") as server, server.stub() as stub:
        ask(stub, "fp32-onnxruntime")
        with pytest.raises(grpc.RpcError) as caught:
            ask(stub, "huge-onnxruntime")
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        told = r"FAILED: loading it takes 3000 MB, --max-memory leaves 1\d{3} MB for all variants"
        assert re.search(f"variant 'toy/huge-onnxruntime' is {told}", caught.value.details())
        server.wait_for_log(f"variant toy/huge-onnxruntime {told}")
        assert states(server) == {"fp32-onnxruntime": "READY", "huge-onnxruntime": "FAILED"}


def test_a_variant_that_cannot_be_loaded_for_the_moment_stays_cold(root: Path, front: str) -> None:
    because = "its artifact could not be loaded: Too many open files"
    with serving(root, "--max-memory", "2GB", "--cold-wait", "0.2") as server, server.stub() as stub:
        ask(stub, "fp32-onnxruntime")
        with no_descriptor_left(server), pytest.raises(grpc.RpcError) as caught:
            ask(stub, "fp32-openvino")
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == f"variant 'toy/fp32-openvino' is COLD: {because}"
        hints = [int(value) for key, value in caught.value.trailing_metadata() if key == "grpc-retry-pushback-ms"]
        assert [hint > 0 for hint in hints] == [True] * expected("pushback", front)
        rows = stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=10).models
        assert ("READY", f"cold: {because}") in {(row.state, row.reason) for row in rows}
        while states(server)["fp32-openvino"] == "COLD":  # for a moment it is not tried again
            with suppress(grpc.RpcError):
                ask(stub, "fp32-openvino")
        ask(stub, "fp32-openvino")


@contextmanager
def no_descriptor_left(server: ServerProcess) -> Iterator[None]:
    """While the block lasts, the server can open nothing."""
    had = prlimit(server.pid, RLIMIT_NOFILE)
    prlimit(server.pid, RLIMIT_NOFILE, (3, had[1]))  # it has these, and more; what it has stays open
    try:
        yield
    finally:
        prlimit(server.pid, RLIMIT_NOFILE, had)


def test_an_altered_file_is_found_when_it_is_asked_for(root: Path) -> None:
    (root / "toy" / "fp32-openvino" / "model.onnx").write_bytes(b"noise")
    with serving(root, "--max-memory", "2GB") as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            ask(stub, "fp32-openvino")
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "is FAILED: file 'model.onnx' has 5 bytes" in caught.value.details()
        ask(stub, "fp32-onnxruntime")
        assert states(server) == {"fp32-onnxruntime": "READY", "fp32-openvino": "FAILED"}


def test_a_request_that_does_not_fit_has_nothing_loaded(server: ServerProcess) -> None:
    wrong = np.zeros((1, 3, 5, 5), np.float32)
    with server.stub() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(encode_request("toy", NAMES[2], {"input": wrong}), timeout=10)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert states(server)[NAMES[2]] == "COLD"


def test_requests_on_a_stream_have_their_variants_loaded(server: ServerProcess) -> None:
    with server.stub() as stub:
        requests = [encode_request("toy", name, {"input": IMAGES}, name) for name in NAMES]
        answers = list(stub.ModelStreamInfer(iter(requests), timeout=60))
    assert {answer.infer_response.id for answer in answers} == set(NAMES)
    assert [answer.error_message for answer in answers] == [""] * 4


def test_a_variant_with_a_request_under_way_does_not_leave(root: Path, front: str) -> None:
    async def run() -> None:
        async with connected(root, max_memory=8000.0, pin=("toy",)) as client:
            hosted, gate = client.server.registry.find("toy", ""), Gate()
            engine = host(client.server, gate)
            asking = asyncio.create_task(asked(client))
            await asyncio.to_thread(gate.entered.wait, 30)
            assert not await client.server.registry.evict(hosted)
            assert (hosted.state, hosted.engine) == ("READY", engine)
            gate.open.set()
            await asking
            await eventually(lambda: hosted.metrics.in_flight, 0)
            assert await client.server.registry.evict(hosted)
            assert (hosted.state, hosted.engine, gate.closed) == ("COLD", None, True)
            assert (await asked(client)).model_version == "fp32-onnxruntime"  # loaded again

    asyncio.run(run())


async def asked(client: Client) -> pb.ModelInferResponse:
    response: pb.ModelInferResponse = await client.stub.ModelInfer(
        encode_request("toy", "", {"input": IMAGES}), timeout=30
    )
    return response


def test_publications_are_followed_whether_a_variant_is_in_memory_or_not(root: Path) -> None:
    async def run() -> None:
        async with connected(root, max_memory=8000.0, watch=0.05) as client:
            registry = client.server.registry
            publish(root, 3.0)  # while it is COLD
            await eventually(lambda: registry.find("toy", "").entry.fingerprint != before)
            assert await factor(client, "") == 3.0
            publish(root, 5.0)  # while it is READY
            await eventually(lambda: registry.find("toy", "").metrics.statistics and loads(client) == 2)
            assert await factor(client, "") == 5.0
            assert await index(client) == {
                "fp32-onnxruntime": ("READY", ""),
                "fp32-openvino": ("READY", "cold: a request has it loaded"),
            }

    def loads(client: Client) -> float:
        return client.sample("pareto_variant_loads_total")

    before = fingerprint(root / "toy" / "fp32-onnxruntime")
    asyncio.run(run())


def test_the_limit_is_shared_out_among_workers(heavy: Path) -> None:
    with serving(heavy, "--max-memory", "600MB", "--workers", "2") as server, server.stub() as stub:
        for name in NAMES:
            ask(stub, name)
        assert "0 variants are READY, 0 FAILED, 5 COLD" in server.log
        assert {states(server)[name] for name in NAMES} <= {"READY", "COLD"}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--pin", "toy"], "--pin needs --max-memory: without it every variant stays in memory"),
        (["--max-memory", "2 cats"], "--max-memory: got '2 cats', expected a size such as 200MB or 1.5GB"),
        (["--max-memory", "-1"], "--max-memory: got '-1', expected a size such as 200MB or 1.5GB"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(root: Path, flags: list[str], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(["--repository", str(root), *flags], {})
    assert str(caught.value) == told


def test_a_pinned_name_that_the_repository_lacks_is_refused(root: Path) -> None:
    said = refusal("--repository", str(root), "--max-memory", "2GB", "--pin", "toy,tyo")
    assert said == "pareto-serve: --pin: got 'tyo', which the repository does not hold"


def test_a_limit_below_what_the_server_itself_takes_is_refused(root: Path) -> None:
    async def run() -> None:
        with pytest.raises(UsageError, match=r"--max-memory: got 5 MB a process, expected more than the \d+ MB"):
            async with connected(root, max_memory=5.0):
                pass

    assert resident_bytes() > 5 * MB
    asyncio.run(run())
