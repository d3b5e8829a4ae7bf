"""The page: names as agreed in protos, counts as the client's, one series per state."""

import platform
from collections import Counter
from pathlib import Path
from time import perf_counter

import grpc
import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from protos import telemetry
from protos.telemetry import ROWS_BUCKETS, SECONDS_BUCKETS
from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from server.observability.instruments import Histogram
from tests.support import toy
from tests.support.serving import Samples, ServerProcess, by_labels, serving

VARIANTS = ("fp32-onnxruntime", "fp32-openvino")
MIX = (
    # (variant asked for, rows, times)
    ("", 1, 3),
    (VARIANTS[0], 2, 4),
    (VARIANTS[0], 65, 2),
    (VARIANTS[1], 3, 5),
    (VARIANTS[1], 0, 6),
    ("nope", 1, 7),
)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, front: str) -> tuple[Counter[tuple[str, str]], Samples]:
    """What a client counted, by the variant asked for and the code, and the page after it."""
    counted: Counter[tuple[str, str]] = Counter()
    with serving(toy.repository(tmp_path_factory.mktemp("mixed"))) as server, server.stub() as stub:
        for variant, rows, times in MIX:
            for _ in range(times):
                try:
                    stub.ModelInfer(encode_request("toy", variant, {"input": toy.images(rows)}), timeout=10)
                    counted[variant, "OK"] += 1
                except grpc.RpcError as error:
                    counted[variant, error.code().name] += 1
        return counted, server.metrics()


@pytest.mark.parametrize(
    "series",
    [
        telemetry.REQUESTS.series[0],
        *(f"{each.name}_count" for each in (telemetry.REQUEST_DURATION, telemetry.QUEUE_DURATION)),
        *(f"{each.name}_count" for each in (telemetry.COMPUTE_DURATION, telemetry.BATCH_ROWS)),
    ],
)
def test_a_page_of_one_series_alone_has_counted_every_answer_that_its_client_has(
    server: ServerProcess, series: str
) -> None:
    with server.stub() as stub:
        for times in (1, 2):
            before = sum(server.metrics(series).values())
            for _ in range(times):
                stub.ModelInfer(encode_request("toy", VARIANTS[0], {"input": toy.images(1)}), timeout=10)
            assert sum(server.metrics(series).values()) - before == times


def test_a_page_of_the_process_alone_has_its_cpu_time(server: ServerProcess) -> None:
    assert [*server.metrics("process_cpu_seconds_total").values()] > [0.0]


def test_requests_are_those_that_the_client_counted_by_variant_and_code(
    mixed: tuple[Counter[tuple[str, str]], Samples],
) -> None:
    counted, page = mixed
    assert counted == {
        ("", "OK"): 3,
        (VARIANTS[0], "OK"): 4,
        (VARIANTS[0], "INVALID_ARGUMENT"): 2,
        (VARIANTS[1], "OK"): 5,
        (VARIANTS[1], "INVALID_ARGUMENT"): 6,
        ("nope", "NOT_FOUND"): 7,
    }
    assert by_labels(page, "pareto_requests_total", "model", "variant", "code") == {
        ("toy", VARIANTS[0], "OK"): 7,
        ("toy", VARIANTS[0], "INVALID_ARGUMENT"): 2,
        ("toy", VARIANTS[1], "OK"): 5,
        ("toy", VARIANTS[1], "INVALID_ARGUMENT"): 6,
    }
    assert by_labels(page, "grpc_server_handled_total", "grpc_method", "grpc_code") == {
        ("ServerReady", "OK"): 1,
        ("ModelInfer", "OK"): 12,
        ("ModelInfer", "INVALID_ARGUMENT"): 8,
        ("ModelInfer", "NOT_FOUND"): 7,
    }


def test_durations_and_batches_are_those_of_the_successes(
    mixed: tuple[Counter[tuple[str, str]], Samples],
) -> None:
    _, page = mixed
    for name in ("request_duration_seconds", "queue_duration_seconds", "compute_duration_seconds", "batch_rows"):
        assert by_labels(page, f"pareto_{name}_count", "variant") == {(VARIANTS[0],): 7, (VARIANTS[1],): 5}
    assert by_labels(page, "pareto_batch_rows_sum", "variant") == {(VARIANTS[0],): 11, (VARIANTS[1],): 15}
    for variant in VARIANTS:
        total, queue, compute = (
            by_labels(page, f"pareto_{part}_duration_seconds_sum", "variant")[variant,]
            for part in ("request", "queue", "compute")
        )
        assert 0 < queue + compute < total


@pytest.mark.parametrize("front", ["grpcio", "native"])
def test_stages_queue_and_engine_are_all_the_time_of_the_answers(repository: Path, front: str) -> None:
    requests = [encode_request("toy", "", {"input": toy.images(rows)}) for rows in (1, 64, 7)]
    with serving(repository, "--front", front) as server, server.stub() as stub:
        began = perf_counter()
        for request in requests:
            stub.ModelInfer(request, timeout=10)
        assert [answer.error_message for answer in stub.ModelStreamInfer(iter(requests), timeout=10)] == [""] * 3
        waited = perf_counter() - began
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            stub.ModelInfer(encode_request("toy", "", {"input": toy.images(65)}), timeout=10)
        page = server.metrics()
    stages = {stage: seconds for (stage,), seconds in by_labels(page, "pareto_stage_seconds_total", "stage").items()}
    assert list(stages) == list(telemetry.STAGES)
    assert all(seconds > 0 for seconds in stages.values())
    answered, *parts = (
        by_labels(page, f"pareto_{part}_duration_seconds_sum", "variant")[VARIANTS[0],]
        for part in ("request", "queue", "compute")
    )
    receive = stages.pop("receive")
    assert sum(stages.values()) + sum(parts) == pytest.approx(answered, abs=1e-6)
    assert receive + answered < waited * 3  # on the stream three wait at once


def test_nothing_is_in_flight_queued_or_rejected_afterwards(
    mixed: tuple[Counter[tuple[str, str]], Samples],
) -> None:
    _, page = mixed
    for name in ("pareto_inflight_requests", "pareto_queue_depth", "pareto_rejected_total"):
        assert [value for (series, _), value in page.items() if series == name] != []
        assert by_labels(page, name, "variant") == {}


def test_no_label_is_a_requests_own_text(mixed: tuple[Counter[tuple[str, str]], Samples]) -> None:
    _, page = mixed
    assert {value for _, labels in page for name, value in labels if name == "variant"} == set(VARIANTS)


def test_the_page_holds_every_agreed_metric_and_no_other(server: ServerProcess) -> None:
    with server.stub() as stub:
        stub.ServerLive(pb.ServerLiveRequest(), timeout=10)  # so that one call is counted
    names = {name for name, _ in server.metrics() if not name.startswith("process_")}
    assert names == {name for metric in telemetry.METRICS for name in metric.series}
    assert any(name == "process_resident_memory_bytes" for name, _ in server.metrics())


def test_every_code_of_every_variant_is_there_before_it_is_counted(repository: Path) -> None:
    codes = (
        "OK", "CANCELLED", "NOT_FOUND", "INVALID_ARGUMENT", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED",
        "INTERNAL",
    )  # fmt: skip
    with serving(repository) as server:
        requests = {
            labels: value for (name, labels), value in server.metrics().items() if name == "pareto_requests_total"
        }
    assert requests == {
        (("code", code), ("model", "toy"), ("variant", variant)): 0 for code in codes for variant in VARIANTS
    }


def test_a_variant_is_described_as_its_manifest_does(server: ServerProcess, repository: Path) -> None:
    page = server.metrics()
    labels = ("model", "variant", "recipe", "runtime", "precision", "measured")
    assert by_labels(page, "pareto_variant_info", *labels) == {
        ("toy", VARIANTS[0], "fp32", "onnxruntime", "fp32", "here"): 1,
        ("toy", VARIANTS[1], "fp32", "openvino", "fp32", "here"): 1,
    }
    assert by_labels(page, "pareto_variant_quality", "variant", "metric") == {
        (variant, metric): value
        for variant in VARIANTS
        for metric, value in (("top1", 0.75), ("top1_parent", 0.75), ("top1_fp32", 0.75), ("agreement", 1.0))
    }
    size = (repository / "toy" / VARIANTS[0] / "model.onnx").stat().st_size
    assert by_labels(page, "pareto_variant_artifact_bytes", "variant") == {(VARIANTS[0],): size, (VARIANTS[1],): size}
    assert by_labels(page, "pareto_variant_memory_bytes", "variant") == dict.fromkeys(
        [(VARIANTS[0],), (VARIANTS[1],)], 3_000_000
    )
    assert all(by_labels(page, "pareto_model_load_duration_seconds", "variant")[variant,] > 0 for variant in VARIANTS)


def test_the_default_variant_is_marked_among_all(server: ServerProcess) -> None:
    marked = {dict(labels)["variant"]: value for (name, labels), value in server.metrics().items() if "default" in name}
    assert marked == {VARIANTS[0]: 1, VARIANTS[1]: 0}


def test_the_page_tells_the_version_that_the_server_tells(server: ServerProcess) -> None:
    with server.stub() as stub:
        version = stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=10).version
    told = by_labels(server.metrics(), "pareto_build_info", "version", "python")
    assert told == {(version, platform.python_version()): 1}


def test_a_variant_has_one_state_of_five(server: ServerProcess) -> None:
    states = [labels for (name, labels) in server.metrics() if name == "pareto_variant_state"]
    assert len(states) == 5 * len(VARIANTS)
    assert by_labels(server.metrics(), "pareto_variant_state", "variant", "state") == {
        (VARIANTS[0], "READY"): 1,
        (VARIANTS[1], "READY"): 1,
    }


@pytest.mark.parametrize("buckets", [SECONDS_BUCKETS, ROWS_BUCKETS])
def test_every_value_falls_into_the_bucket_that_the_library_finds(buckets: tuple[float, ...]) -> None:
    values = [0.0, -1.0, 1e9, float("inf")]
    values += [edge * factor for edge in buckets for factor in (0.999, 1.0, 1.001)]
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    Histogram("x", "x", ("variant",), registry=ours, buckets=buckets).labels("a").observe_all(values)
    child = prometheus_client.Histogram("x", "x", ("variant",), registry=theirs, buckets=buckets).labels("a")
    for value in values:
        child.observe(value)
    assert generate_latest(ours) == generate_latest(theirs)
