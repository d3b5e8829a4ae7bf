"""Triton's own client, unmodified and in its own process, against a real server."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protos.v1 import inference_pb2 as pb
from tests.support import certificates, toy
from tests.support.serving import serving

SCRIPT = Path(__file__).with_name("tritonclient_session.py")
VARIANTS = ["fp32-onnxruntime", "fp32-openvino"]


@pytest.fixture(scope="module", params=["plain", "native", "TLS", "mutual TLS"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("triton")
    root = toy.repository(folder / "models")
    flags, files = ["--front", "native"] if request.param == "native" else [], []
    if "TLS" in request.param:
        authority = certificates.authority(folder, "root")
        pair = certificates.issue(authority, folder, "server")
        flags = ["--tls-cert", str(pair.certificate), "--tls-key", str(pair.key)]
        files = [str(authority.certificate)]
    if request.param == "mutual TLS":
        client = certificates.issue(authority, folder, "client")
        flags += ["--tls-client-ca", str(authority.certificate)]
        files += [str(client.key), str(client.certificate)]
    with serving(root, "--allow-repository-control", *flags, ready=False) as server:
        arguments = [server.grpc_address, "toy", str(root / "toy" / "golden.npz"), *files]
        done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_it_sees_a_live_and_ready_server_before_and_after(session: dict[str, Any]) -> None:
    assert [session[key] for key in ("live", "ready", "model ready", "ready afterwards")] == [True] * 4


def test_it_reads_the_metadata_with_all_variants_as_versions(session: dict[str, Any]) -> None:
    assert session["server"]["name"] == "paretoserve"
    assert session["metadata"] == {
        "name": "toy",
        "versions": VARIANTS,
        "platform": "onnxruntime",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": ["-1", "3", "4", "4"]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": ["-1", "3"]}],
    }


@pytest.mark.parametrize(
    ("asked", "answers"), [("", VARIANTS[0]), (VARIANTS[0], VARIANTS[0]), (VARIANTS[1], VARIANTS[1])]
)
def test_each_variant_gives_it_the_right_labels_and_its_own_name(
    session: dict[str, Any], asked: str, answers: str
) -> None:
    assert session["answers"][asked] == {"variant": answers, "id": "an id", "labels": session["labels"]}


@pytest.mark.parametrize(("count", "answered"), [(1, 1), (3, 3), (100, 3)])
def test_it_reads_the_largest_values_with_their_labels(session: dict[str, Any], count: int, answered: int) -> None:
    expected = []
    for row in session["logits"]:
        order = sorted(range(3), key=lambda index, row=row: -row[index])[:answered]
        expected.append([f"{row[index]:.6f}:{index}:{toy.LABELS[index]}" for index in order])
    assert session["classes"][str(count)] == expected


def test_images_as_pixels_and_as_files_give_it_the_same_answer(session: dict[str, Any]) -> None:
    assert session["images"]["UINT8"] == session["images"]["BYTES"]
    assert np.shape(session["images"]["UINT8"]) == (2, 3)


@pytest.mark.parametrize(
    ("case", "code", "fragments"),
    [
        ("unknown model", "NOT_FOUND", ["'nope'", "toy"]),
        ("unknown variant", "NOT_FOUND", ["'nope'", *VARIANTS]),
        ("wrong dtype", "INVALID_ARGUMENT", ["'input'", "FP64", "FP32"]),
        ("wrong rank", "INVALID_ARGUMENT", ["'input'", "[4, 3, 16]", "expected rank 4"]),
        ("wrong dim", "INVALID_ARGUMENT", ["'input'", "[4, 3, 8, 2]", "[-1, 3, 4, 4]"]),
        ("one byte too few", "INVALID_ARGUMENT", ["'input'", "767 bytes", "768"]),
        ("one byte too many", "INVALID_ARGUMENT", ["'input'", "769 bytes", "768"]),
        ("raw and typed together", "INVALID_ARGUMENT", ["'input'", "raw and typed"]),
        ("two inputs of one name", "INVALID_ARGUMENT", ["'input'", "twice"]),
        ("negative dim", "INVALID_ARGUMENT", ["'input'", "[-4, 3, 4, 4]", "no negative"]),
        ("huge dim", "INVALID_ARGUMENT", ["'input'", f"got batch {2**62}", "expected 1 to 64"]),
        ("unknown output", "INVALID_ARGUMENT", ["'nope'", "'logits'"]),
        ("input in shared memory", "INVALID_ARGUMENT", ["'input'", "shared memory, which is not supported"]),
        ("output in shared memory", "INVALID_ARGUMENT", ["'logits'", "shared memory, which is not supported"]),
        ("shared memory", "UNIMPLEMENTED", []),
        ("fewer than no classes", "INVALID_ARGUMENT", ["'logits'", "'classification'", "at least 1"]),
    ],
)
def test_what_does_not_fit_reaches_it_as_the_status_of_the_design(
    session: dict[str, Any], case: str, code: str, fragments: list[str]
) -> None:
    status, text = session["statuses"][case]
    assert (status, [part for part in fragments if part not in text]) == (f"StatusCode.{code}", [])


def test_it_reads_the_configuration(session: dict[str, Any]) -> None:
    config = session["config"]
    assert (config["name"], config["platform"], config["max_batch_size"]) == ("toy", "onnxruntime", 64)
    assert config["input"] == [{"name": "input", "data_type": "TYPE_FP32", "dims": ["3", "4", "4"]}]
    assert config["output"] == [{"name": "logits", "data_type": "TYPE_FP32", "dims": ["3"]}]
    assert config["instance_group"] == [{"count": 1, "kind": "KIND_CPU"}]


def test_it_reads_the_statistics_of_what_it_asked_for(session: dict[str, Any]) -> None:
    rows = len(session["labels"])
    for stats, requests in zip(session["statistics"], (2, 1), strict=True):  # the first is the default, too
        assert stats["inference_stats"]["success"]["count"] == str(requests)
        assert (stats["inference_count"], stats["execution_count"]) == (str(requests * rows), str(requests))
        assert [batch["batch_size"] for batch in stats["batch_stats"]] == [str(rows)]
        assert int(stats["last_inference"]) > 0


@pytest.mark.parametrize("client", ["stream", "asyncio"])
def test_its_streams_get_each_answer_once_and_errors_in_between(session: dict[str, Any], client: str) -> None:
    asked = [number for number in range(50) if number % 10 != 9]
    assert session[client]["answers"] == [[str(n), VARIANTS[n % 2], session["labels"]] for n in asked]
    assert len(session[client]["errors"]) == 5
    assert all("'nope'" in text for text in session[client]["errors"])


def test_its_asyncio_client_gets_the_right_labels(session: dict[str, Any]) -> None:
    assert session["asyncio"]["infer"] == ["an id", VARIANTS[0], session["labels"]]
    assert (session["asyncio"]["live"], session["asyncio"]["config"]) == (True, "toy")


def test_a_health_probe_finds_the_server_its_model_and_each_variant_serving(session: dict[str, Any]) -> None:
    serving = dict.fromkeys(["", "toy", *(f"toy/{variant}" for variant in VARIANTS)], "SERVING")
    assert session["health"] == {**serving, "nope": "NOT_FOUND"}


def test_it_unloads_and_loads_a_model(session: dict[str, Any]) -> None:
    control = session["control"]
    ready = [{"name": "toy", "version": variant, "state": "READY"} for variant in VARIANTS]
    gone = [{**row, "state": "UNAVAILABLE", "reason": "unloaded"} for row in ready]
    assert [control["before"], control["unloaded"], control["loaded"]] == [ready, gone, ready]
    assert (control["ready while unloaded"], control["ready once loaded"]) == (False, True)


def test_it_cannot_load_a_path_or_a_configuration(session: dict[str, Any]) -> None:
    assert session["control"]["load of a path"][0] == "StatusCode.NOT_FOUND"
    assert session["control"]["load of a config"][0] == "StatusCode.INVALID_ARGUMENT"


def test_our_messages_are_on_the_wire_what_its_own_are(session: dict[str, Any]) -> None:
    theirs, ours = session["wire format"], wire_format()
    assert {"inference.ModelConfig", "inference.ModelStatistics", "inference.DataType"} <= ours.keys() <= theirs.keys()
    for name, fields in ours.items():
        assert fields == {field: theirs[name].get(field) for field in fields}, name


def wire_format() -> dict[str, dict[str, object]]:
    """As in the session, of our own messages."""
    formats: dict[str, dict[str, object]] = {}
    messages = list(pb.DESCRIPTOR.message_types_by_name.values())
    enums = list(pb.DESCRIPTOR.enum_types_by_name.values())
    while messages:
        message = messages.pop()
        formats[message.full_name] = {
            field.name: [field.number, field.type, field.is_repeated] for field in message.fields
        }
        messages += message.nested_types
        enums += message.enum_types
    for enum in enums:
        formats[enum.full_name] = {value.name: value.number for value in enum.values}
    return formats
