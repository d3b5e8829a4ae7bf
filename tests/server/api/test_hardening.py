"""What an unfriendly client or a damaged repository must not achieve: no leak, no path, no bomb, no telemetry."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from protos.errors import ParetoServeError
from protos.manifest import File, from_json, to_json
from protos.tensors import decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.support import toy
from tests.support.server import doors
from tests.support.serving import ROOT, ServerProcess, connect, serving

LIMIT = 128 * 1024
"""Of the server that these tests share, in bytes."""
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
BROKEN = "fp32-openvino"


def code(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def sized(size: int) -> pb.ModelInferRequest:
    """A right request whose message has `size` bytes; what fills it up is a parameter that nobody knows."""
    request = encode_request("toy", "", {"input": toy.images(2)})
    filler = request.parameters["filler"]
    filler.string_param = "x" * (size - request.ByteSize() - 20)  # its length is written thrice, in up to 4 bytes
    filler.string_param += "x" * (size - request.ByteSize())
    assert request.ByteSize() == size
    return request


def handled(server: ServerProcess, wanted: str) -> float:
    """Calls of ModelInfer that ended so."""
    return sum(
        value
        for (name, labels), value in server.metrics().items()
        if name == "grpc_server_handled_total" and {("grpc_code", wanted), ("grpc_method", "ModelInfer")} <= set(labels)
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [(LIMIT - 1, grpc.StatusCode.OK), (LIMIT, grpc.StatusCode.OK), (LIMIT + 1, EXHAUSTED)],
)
def test_a_message_may_be_as_large_as_the_limit_and_no_larger(
    server: ServerProcess, stub: GRPCInferenceServiceStub, size: int, expected: grpc.StatusCode
) -> None:
    before = handled(server, "OK")
    assert code(lambda: stub.ModelInfer(sized(size), timeout=30))[0] == expected
    assert handled(server, "OK") == before + (expected == grpc.StatusCode.OK)


def test_a_compressed_message_counts_as_what_it_unpacks_to(server: ServerProcess) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.grpc_address, options, grpc.Compression.Gzip) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert code(lambda: stub.ModelInfer(sized(LIMIT), timeout=30))[0] == grpc.StatusCode.OK
        assert code(lambda: stub.ModelInfer(sized(50_000_000), timeout=60))[0] == EXHAUSTED
        assert code(lambda: stub.ModelInfer(sized(LIMIT), timeout=30))[0] == grpc.StatusCode.OK


def test_a_message_far_over_the_limit_is_refused_before_or_after_it_is_taken_in(
    server: ServerProcess, front: str
) -> None:
    size = 96 * 2**20  # more than any other test sends
    before = peak_bytes(server)
    with connect(server.grpc_address) as channel:
        send = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        assert code(lambda: send(bytes(size), timeout=60))[0] == EXHAUSTED
    assert (peak_bytes(server) - before > size / 3) == doors.expected("takes in what is too large", front)


def peak_bytes(server: ServerProcess) -> int:
    """The most memory that the server has held so far."""
    (line,) = [line for line in Path(f"/proc/{server.pid}/status").read_text().splitlines() if "VmHWM" in line]
    return int(line.split()[1]) * 1024


def test_a_message_packed_by_deflate_is_answered_or_refused_as_the_door_can(server: ServerProcess, front: str) -> None:
    with grpc.insecure_channel(server.grpc_address, compression=grpc.Compression.Deflate) as channel:
        ended, _ = code(lambda: GRPCInferenceServiceStub(channel).ModelInfer(sized(LIMIT), timeout=30))
    assert ended.name == doors.expected("deflate", front)


PATHS = [
    "..",
    "../toy",
    "./toy",
    "toy/",
    "toy/fp32-onnxruntime",
    "/etc/passwd",
    "..\\toy",
    "toy\0",
    "%2e%2e/toy",
    "~",
    ".",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "ask",
    [
        lambda stub, path: stub.ModelInfer(encode_request(path, "", {"input": toy.images(1)}), timeout=30),
        lambda stub, path: stub.ModelInfer(encode_request("toy", path, {"input": toy.images(1)}), timeout=30),
        lambda stub, path: stub.ModelReady(pb.ModelReadyRequest(name=path), timeout=30),
        lambda stub, path: stub.ModelReady(pb.ModelReadyRequest(name="toy", version=path), timeout=30),
        lambda stub, path: stub.ModelMetadata(pb.ModelMetadataRequest(name=path), timeout=30),
        lambda stub, path: stub.ModelConfig(pb.ModelConfigRequest(name="toy", version=path), timeout=30),
        lambda stub, path: stub.ModelStatistics(pb.ModelStatisticsRequest(name=path), timeout=30),
    ],
    ids=["infer", "infer a version", "ready", "version ready", "metadata", "config", "statistics"],
)
def test_a_path_in_the_place_of_a_name_is_no_name(
    stub: GRPCInferenceServiceStub, ask: Callable[[GRPCInferenceServiceStub, str], object], path: str
) -> None:
    assert code(lambda: ask(stub, path))[0] == NOT_FOUND


def test_a_path_is_not_loaded_where_loading_is_allowed(tmp_path: Path) -> None:
    root = toy.repository(tmp_path / "inside")
    toy.repository(tmp_path / "outside")
    with serving(root, "--allow-repository-control", "yes") as server, server.stub() as stub:
        for path in ["../outside/toy", "../outside", str(tmp_path / "outside" / "toy"), *PATHS]:
            for call, message in (
                (stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name=path)),
                (stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name=path)),
            ):
                ended, text = code(lambda call=call, message=message: call(message, timeout=30))  # type: ignore[misc]
                assert ended == NOT_FOUND
                assert str(tmp_path) not in text.replace(path, "")
        assert {row.name for row in stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=30).models} == {"toy"}


def outside(folder: Path, path: str) -> None:
    """A manifest whose artifact lies somewhere else, with the right size and hash."""
    variant = from_json((folder / "manifest.json").read_text())
    (file,) = variant.files
    elsewhere = File(path, file.sha256, file.bytes)
    (folder / "manifest.json").write_text(to_json(replace(variant, entry=path, files=(elsewhere,))))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda f: (f / "model.onnx").write_bytes(b""), "has 0 bytes, expected"),
    "truncated to a byte": (lambda f: (f / "model.onnx").write_bytes(b"\x08"), "has 1 bytes, expected"),
    "longer": (lambda f: (f / "model.onnx").write_bytes((f / "model.onnx").read_bytes() + b"\0"), "bytes, expected"),
    "a folder": (lambda f: ((f / "model.onnx").unlink(), (f / "model.onnx").mkdir()), "is missing"),
    "a link to nowhere": (
        lambda f: ((f / "model.onnx").unlink(), (f / "model.onnx").symlink_to("/no/such/file")),
        "is missing",
    ),
    "an empty manifest": (lambda f: (f / "manifest.json").write_text(""), "manifest is not JSON"),
    "half a manifest": (
        lambda f: (f / "manifest.json").write_text((f / "manifest.json").read_text()[:200]),
        "manifest is not JSON",
    ),
    "a manifest of nothing": (lambda f: (f / "manifest.json").write_text("[]"), "expected 2"),
    "a manifest of binary": (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe"), "its contents are damaged"),
    "a manifest nested too deeply": (lambda f: (f / "manifest.json").write_text("[" * 100_000), "manifest"),
    "of another variant": (
        lambda f: (f / "manifest.json").write_text((f.parent / "fp32-onnxruntime" / "manifest.json").read_text()),
        "manifest is of 'toy/fp32-onnxruntime'",
    ),
    "outside by dots": (lambda f: outside(f, "../fp32-onnxruntime/model.onnx"), "lies outside of the variant's folder"),
    "outside by a whole path": (
        lambda f: outside(f, str(f.parent / "fp32-onnxruntime" / "model.onnx")),
        "lies outside of the variant's folder",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_variant_is_unavailable_with_its_reason_and_no_path(tmp_path: Path, damage: str) -> None:
    apply, reason = DAMAGES[damage]
    apply(toy.repository(tmp_path) / "toy" / BROKEN)
    with serving(tmp_path) as server, server.stub() as stub:
        ended, text = code(lambda: stub.ModelInfer(encode_request("toy", BROKEN, {"input": toy.images(1)}), timeout=30))
        assert ended == grpc.StatusCode.UNAVAILABLE
        assert reason in text
        assert str(tmp_path) not in text
        assert [word for word in ("Error", "Errno", "Traceback", "site-packages") if word in text] == []
        state = ("pareto_variant_state", (("model", "toy"), ("state", "FAILED"), ("variant", BROKEN)))
        assert server.metrics()[state] == 1
        answer = stub.ModelInfer(encode_request("toy", "", {"input": toy.images(1)}), timeout=30)
        np.testing.assert_allclose(decode_response(answer)["logits"], toy.answer(toy.images(1)), rtol=1e-5)


METHODS = [
    ("unary_unary", f"/inference.GRPCInferenceService/{method.name}")
    for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    if not method.client_streaming
]
METHODS += [("unary_unary", "/grpc.health.v1.Health/Check"), ("unary_stream", "/grpc.health.v1.Health/Watch")]
METHODS += [("stream_stream", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")]


@pytest.mark.parametrize(("kind", "method"), METHODS)
def test_bytes_that_are_no_message_are_refused_alike_by_every_method(
    server: ServerProcess, kind: str, method: str
) -> None:
    noise = b"\xff\xff\xff"
    with connect(server.grpc_address) as channel:
        call = getattr(channel, kind)(method)
        sent = iter([noise]) if kind == "stream_stream" else noise
        ended = code(lambda: call(sent, timeout=30) if kind == "unary_unary" else list(call(sent, timeout=30)))
    assert ended == (INVALID, "the message is not the one that this method takes")


def test_an_unreadable_message_on_a_stream_is_answered_without_a_word_of_the_library(server: ServerProcess) -> None:
    with connect(server.grpc_address) as channel:
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        (answer,) = [pb.ModelStreamInferResponse.FromString(raw) for raw in call(iter([b"\xff\xff"]), timeout=30)]
    assert answer.error_message == "the message is not the one that this method takes"


def test_an_unknown_health_service_is_not_found_and_nothing_was_a_fault(server: ServerProcess) -> None:
    with connect(server.grpc_address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        request = health_pb2.HealthCheckRequest(service="../toy").SerializeToString()
        assert code(lambda: check(request, timeout=30))[0] == NOT_FOUND
    assert "Traceback" not in server.log


def test_no_domain_error_names_a_class_or_a_module_to_a_client() -> None:
    def all_of(kind: type[Exception]) -> list[type[Exception]]:
        return [kind, *(deeper for each in kind.__subclasses__() for deeper in all_of(each))]

    from server.status import text_of

    ours = [kind for kind in all_of(ParetoServeError) if not kind.__module__.startswith("loadtest")]  # a client's own
    for kind in [*ours, RuntimeError, KeyError, MemoryError, OSError]:
        error = kind("a text for the client")
        error.__cause__ = RuntimeError("secret")
        text = text_of(error)
        assert text in ("a text for the client", "internal error", "engine failed")


TELEMETRY = """
import json, os, sys
opened, reached = [], []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "subprocess.Popen"):
        reached.append(f"{event} {arguments}")
    elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        opened.append(str(arguments[0]))
sys.addaudithook(hook)
from pathlib import Path
from protos.repository import scan
from server import runtimes
entry = next(entry for entry in scan(Path(sys.argv[1])) if entry.name == sys.argv[2])
runtime = runtimes.load(entry.folder, entry.variant, 1)
import numpy as np
runtime.infer({"input": np.zeros((1, 3, 4, 4), np.float32)})
runtime.close()
modules = [name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module]
print(json.dumps({"modules": modules, "opened": opened, "reached": reached}))
"""


@pytest.mark.parametrize("variant", ["fp32-onnxruntime", "fp32-openvino"])
def test_serving_loads_no_telemetry_writes_no_file_and_reaches_for_no_network(
    variant: str, repository: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-B", "-c", TELEMETRY, str(repository), variant],
        cwd=ROOT,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"modules": [], "opened": [], "reached": []}
    assert list(home.rglob("*")) == []
