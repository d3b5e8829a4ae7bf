"""One page for two workers: what it counts is what the client counted, also after a worker's death."""

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import psutil
import pytest

from protos import telemetry
from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import toy
from tests.server.team import pids, to_each_worker
from tests.server.test_metrics import of
from tests.serving import Samples, ServerProcess, eventually, serving

VARIANTS = ("fp32-onnxruntime", "fp32-openvino")
MIX = (
    # (variant asked for, rows): OK, OK, OK, INVALID_ARGUMENT, INVALID_ARGUMENT, NOT_FOUND
    ("", 1), (VARIANTS[0], 2), (VARIANTS[1], 3), (VARIANTS[0], 65), (VARIANTS[1], 0), ("nope", 1),
)  # fmt: skip
ROUNDS, AT_ONCE = 7, 6
"""Per connection: rounds of the mix, each call of it so many times at once, more than the queue holds."""

Counts = Counter[tuple[str, str]]
"""Calls by variant and code."""


def call_mix(channel: grpc.Channel, counted: Counts, lock: threading.Lock) -> None:
    stub = GRPCInferenceServiceStub(channel)
    for _ in range(ROUNDS):
        calls = [
            (variant or VARIANTS[0], stub.ModelInfer.future(request(variant, rows), timeout=60))
            for variant, rows in MIX
            for _ in range(AT_ONCE)
        ]
        codes = [(variant, call.code().name) for variant, call in calls]
        with lock:
            counted.update(codes)


def request(variant: str, rows: int) -> pb.ModelInferRequest:
    return encode_request("toy", variant, {"input": toy.images(rows)})


def load(connections: Sequence[tuple[int, grpc.Channel]], counted: Counts) -> None:
    """Sends the mix over all connections at once, and adds how it was answered to `counted`."""
    lock = threading.Lock()
    clients = [threading.Thread(target=call_mix, args=(channel, counted, lock)) for _, channel in connections]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def check(page: Samples, counted: Counts) -> None:
    """That every count of the page is the client's."""
    assert of(page, "pareto_requests_total", "variant", "code") == {
        key: calls for key, calls in counted.items() if key[0] in VARIANTS
    }
    by_code: Counter[str] = Counter()
    for (_, code), calls in counted.items():
        by_code[code] += calls
    handled = of(page, "grpc_server_handled_total", "grpc_method", "grpc_code")
    assert {code: calls for (method, code), calls in handled.items() if method == "ModelInfer"} == by_code
    for name in ("request", "queue", "compute"):
        counts = of(page, f"pareto_{name}_duration_seconds_count", "variant")
        assert counts == {(variant,): counted[variant, "OK"] for variant in VARIANTS}
    refused = {(variant, "queue_full"): counted[variant, "RESOURCE_EXHAUSTED"] for variant in VARIANTS}
    assert of(page, "pareto_rejected_total", "variant", "reason") == {key: n for key, n in refused.items() if n}
    assert of(page, "pareto_inflight_requests", "variant") == of(page, "pareto_queue_depth", "variant") == {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository: Path = toy.repository(tmp_path_factory.mktemp("page"))
    with serving(repository, "--workers", "2", "--queue-size", "2") as server:
        yield server


def test_counts_are_the_clients_also_after_two_deaths(server: ServerProcess) -> None:
    counted: Counts = Counter()
    with to_each_worker(server, least=4) as connections:
        load(connections, counted)
        assert counted.total() >= 1000
        assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"} == {code for _, code in counted}
        check(server.metrics(), counted)
    for deaths in (1, 2):
        psutil.Process(pids(server)[0]).send_signal(signal.SIGKILL)
        server.wait_for_log(rf"(?s)(died \(SIGKILL\).*){{{deaths}}}")
        check(server.metrics(), counted)
        asyncio.run(eventually(lambda: of(server.metrics(), "pareto_workers"), {(): 2}))
        with to_each_worker(server, least=2) as connections:
            load(connections, counted)
            check(server.metrics(), counted)
    assert of(server.metrics(), "pareto_worker_restarts_total", "reason") == {("SIGKILL",): 2}
    assert "the next one starts in 0.2 s" in server.log


def test_the_page_holds_every_agreed_metric_and_no_other(server: ServerProcess) -> None:
    names = {name for name, _ in server.metrics() if not name.startswith("process_") and not name.endswith("_created")}
    agreed = (*telemetry.METRICS, *telemetry.SUPERVISOR_METRICS)
    assert names == {name for metric in agreed for name in metric.series}


def test_what_all_workers_say_alike_is_not_added_up(server: ServerProcess) -> None:
    page = server.metrics()
    assert of(page, "pareto_variant_state", "variant", "state") == {(variant, "READY"): 1 for variant in VARIANTS}
    assert of(page, "pareto_variant_info", "variant") == {(variant,): 1 for variant in VARIANTS}
    assert of(page, "pareto_variant_quality", "variant", "metric")[VARIANTS[0], "top1"] == 0.75
    assert max(of(page, "pareto_variant_artifact_bytes").values()) < 1000
