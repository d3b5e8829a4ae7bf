"""One page for two workers: what it counts is what the client counted, also after a worker's death."""

import asyncio
import io
import signal
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from PIL import Image

from protos import telemetry
from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.support import toy
from tests.support.server.worker_pool import pids, to_each_worker
from tests.support.serving import Samples, ServerProcess, by_labels, eventually, serving

VARIANTS = ("fp32-onnxruntime", "fp32-openvino")
MIX = (
    # (variant asked for, rows): OK, OK, OK, INVALID_ARGUMENT, INVALID_ARGUMENT, NOT_FOUND
    ("", 1), (VARIANTS[0], 2), (VARIANTS[1], 3), (VARIANTS[0], 65), (VARIANTS[1], 0), ("nope", 1),
)  # fmt: skip
ROUNDS, ROUNDS_AFTER_A_DEATH, AT_ONCE = 70, 10, 6
"""Per connection: rounds of the mix, each call of it so many times at once, more than the queue holds."""

QUEUE = 2
LARGE, SMALL = (4000, 40), (4, 1)
"""Images of so many pixels a side, and how many of them: seconds, and next to nothing, to read."""

REJECTED = {"queue_full": "RESOURCE_EXHAUSTED", "expired": "DEADLINE_EXCEEDED", "cancelled": "CANCELLED"}
"""What a client hears of each reason why a request is not executed."""

Counts = Counter[tuple[str, str]]
"""Calls by variant and code."""


def call_mix(channel: grpc.Channel, rounds: int, counted: Counts, lock: threading.Lock) -> None:
    stub = GRPCInferenceServiceStub(channel)
    for _ in range(rounds):
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


def load(connections: Sequence[tuple[int, grpc.Channel]], rounds: int, counted: Counts) -> None:
    """Sends the mix over all connections at once, and adds how it was answered to `counted`."""
    lock = threading.Lock()
    clients = [threading.Thread(target=call_mix, args=(channel, rounds, counted, lock)) for _, channel in connections]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def pictures(side: int, count: int) -> pb.ModelInferRequest:
    """One request that holds the same black image so many times, as PNG files."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side)).save(stream, "PNG")
    return encode_request("toy", "", {"input": np.array([stream.getvalue()] * count, np.object_)})


def give_up(server: ServerProcess, channels: Collection[grpc.Channel], counted: Counts) -> None:
    """In each worker some requests for certain expire, and some are cancelled, before they are executed.

    They wait for images to be read, while all threads that do so are held up. Adds them to `counted`.
    """

    def send(count: int, size: tuple[int, int], timeout: float) -> list["grpc.Future[pb.ModelInferResponse]"]:
        message = pictures(*size)
        stubs = [GRPCInferenceServiceStub(channel) for channel in channels]
        return [stub.ModelInfer.future(message, timeout=timeout) for stub in stubs for _ in range(count)]

    def until_under_way(calls: int) -> None:
        asyncio.run(eventually(lambda: sum(by_labels(server.metrics(), "pareto_inflight_requests").values()), calls))

    slots = int(server.wait_for_log(r"workers x slots x threads = \d+ x (\d+) x")[1])
    held = send(slots, LARGE, timeout=60)
    until_under_way(len(held))
    for timeout, cancels in ((60.0, True), (2.0, False)):
        waiting = send(QUEUE, SMALL, timeout)
        until_under_way(len(held) + len(waiting))
        if cancels:
            for call in waiting:
                call.cancel()
        counted.update((VARIANTS[0], call.code().name) for call in waiting)
        until_under_way(len(held))
    for call in held:
        call.cancel()
    counted.update((VARIANTS[0], call.code().name) for call in held)
    until_under_way(0)


def check(page: Samples, counted: Counts) -> None:
    """That every count of the page is the client's."""
    assert by_labels(page, "pareto_requests_total", "variant", "code") == {
        key: calls for key, calls in counted.items() if key[0] in VARIANTS
    }
    by_code: Counter[str] = Counter()
    for (_, code), calls in counted.items():
        by_code[code] += calls
    handled = by_labels(page, "grpc_server_handled_total", "grpc_method", "grpc_code")
    assert {code: calls for (method, code), calls in handled.items() if method == "ModelInfer"} == by_code
    for name in ("request", "queue", "compute"):
        counts = by_labels(page, f"pareto_{name}_duration_seconds_count", "variant")
        assert counts == {(variant,): counted[variant, "OK"] for variant in VARIANTS}
    refused = {(variant, reason): counted[variant, code] for variant in VARIANTS for reason, code in REJECTED.items()}
    assert by_labels(page, "pareto_rejected_total", "variant", "reason") == {key: n for key, n in refused.items() if n}
    assert (
        by_labels(page, "pareto_inflight_requests", "variant") == by_labels(page, "pareto_queue_depth", "variant") == {}
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, front: str) -> Iterator[ServerProcess]:
    repository: Path = toy.repository(tmp_path_factory.mktemp("page"))
    with serving(repository, "--workers", "2", "--queue-size", str(QUEUE)) as server:
        yield server


def test_counts_are_the_clients_also_after_two_deaths(server: ServerProcess) -> None:
    counted: Counts = Counter()
    with to_each_worker(server, least=4) as connections:
        load(connections, ROUNDS, counted)
        give_up(server, dict(connections).values(), counted)
        assert counted.total() >= 10_000
        assert {code for _, code in counted} == {"OK", "INVALID_ARGUMENT", "NOT_FOUND", *REJECTED.values()}
        check(server.metrics(), counted)
    for deaths in (1, 2):
        psutil.Process(pids(server)[0]).send_signal(signal.SIGKILL)
        server.wait_for_log(rf"(?s)(died \(SIGKILL\).*){{{deaths}}}")
        check(server.metrics(), counted)
        asyncio.run(eventually(lambda: by_labels(server.metrics(), "pareto_workers"), {(): 2}))
        with to_each_worker(server, least=2) as connections:
            load(connections, ROUNDS_AFTER_A_DEATH, counted)
            check(server.metrics(), counted)
    assert by_labels(server.metrics(), "pareto_worker_restarts_total", "reason") == {("SIGKILL",): 2}
    assert "the next one starts in 0.2 s" in server.log


def test_the_page_holds_every_agreed_metric_and_no_other(server: ServerProcess) -> None:
    names = {name for name, _ in server.metrics() if not name.startswith("process_")}
    agreed = (*telemetry.METRICS, *telemetry.SUPERVISOR_METRICS)
    assert names == {name for metric in agreed for name in metric.series}


def test_what_all_workers_say_alike_is_not_added_up(server: ServerProcess) -> None:
    page = server.metrics()
    assert by_labels(page, "pareto_variant_state", "variant", "state") == {
        (variant, "READY"): 1 for variant in VARIANTS
    }
    assert by_labels(page, "pareto_variant_info", "variant") == {(variant,): 1 for variant in VARIANTS}
    assert by_labels(page, "pareto_variant_quality", "variant", "metric")[VARIANTS[0], "top1"] == 0.75
    assert max(by_labels(page, "pareto_variant_artifact_bytes").values()) < 1000
    assert set(by_labels(page, "pareto_variant_memory_bytes", "variant").values()) == {3_000_000}
    assert by_labels(page, "pareto_default_variant", "variant") == {(VARIANTS[0],): 1}
    assert list(by_labels(page, "pareto_build_info").values()) == [1]
