"""Variants that cannot be served: each a FAILED row with its reason, on a real server that serves the others."""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.manifest import from_json, to_json
from protos.packing import pack
from protos.repository import Entry, describe_files, promote, scan
from protos.support.machine import available_cores, instruction_sets
from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from server.execution.batcher import make_limits
from server.execution.threads import Slots
from server.hosting.loading import Loaded, Loader
from tests.support import toy
from tests.support.server.standins import running
from tests.support.serving import ServerProcess, connect, eventually, refusal, serving

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
HEALTHY = "fp32-onnxruntime"
BROKEN = "fp32-openvino"


def flip_a_byte(root: Path) -> None:
    path = root / "toy" / BROKEN / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(root: Path) -> None:
    path = root / "toy" / BROKEN / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])


def remove_artifact(root: Path) -> None:
    (root / "toy" / BROKEN / "model.onnx").unlink()


def remove_manifest(root: Path) -> None:
    (root / "toy" / BROKEN / "manifest.json").unlink()


def make_manifest_unreadable(root: Path) -> None:
    path = root / "toy" / BROKEN / "manifest.json"
    path.unlink()
    path.mkdir()


def answer_wrongly(root: Path) -> None:
    toy.publish_variant(root, "openvino", factor=2.5)


def seal_noise(root: Path, packed: bool = False) -> None:
    """An artifact that is whole by its hash, and that no library can read."""
    folder = root / "toy" / BROKEN
    variant = from_json((folder / "manifest.json").read_text())
    (folder / "manifest.json").unlink()
    (folder / "model.onnx").write_bytes(b"noise")
    if packed:
        pack(folder)
    (folder / "manifest.json").write_text(to_json(replace(variant, files=describe_files(folder))))


def health(server: ServerProcess, service: str) -> int:
    with connect(server.grpc_address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        status: int = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status
        return status


def state(server: ServerProcess, variant: str) -> list[str]:
    """The states whose series are 1."""
    return [
        dict(labels)["state"]
        for (name, labels), value in server.metrics().items()
        if name == "pareto_variant_state" and ("variant", variant) in labels and value == 1
    ]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_a_byte, "file 'model.onnx' was altered: sha256 "),
        (cut, "file 'model.onnx' has 196 bytes, expected 197"),
        (remove_artifact, "file 'model.onnx' is missing"),
        (remove_manifest, "'manifest.json' is missing"),
        (make_manifest_unreadable, "'manifest.json' cannot be read: "),
        (answer_wrongly, "expected at most 0.001"),
    ],
)
def test_a_broken_variant_is_failed_everywhere_with_its_reason_and_the_other_serves(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    damage(toy.repository(tmp_path))
    with serving(tmp_path) as server, server.stub() as stub:
        assert f"variant toy/{BROKEN} FAILED: " in server.log
        assert reason in server.log
        assert not stub.ModelReady(pb.ModelReadyRequest(name="toy", version=BROKEN), timeout=10).ready
        assert [health(server, f"toy/{BROKEN}"), state(server, BROKEN)] == [NOT_SERVING, ["FAILED"]]
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(encode_request("toy", BROKEN, {"input": toy.images(1)}), timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert f"variant 'toy/{BROKEN}' is FAILED: " in caught.value.details()
        assert reason in caught.value.details()
        assert str(tmp_path) not in caught.value.details()

        metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="toy", version=BROKEN), timeout=10)
        assert list(metadata.versions) == [HEALTHY, BROKEN]
        assert stub.ModelInfer(encode_request("toy", "", {"input": toy.images(1)}), timeout=10).model_version == HEALTHY
        assert [health(server, f"toy/{HEALTHY}"), state(server, HEALTHY)] == [SERVING, ["READY"]]
        assert [health(server, "toy"), health(server, ""), health(server, "inference.GRPCInferenceService")] == [
            SERVING
        ] * 3


def test_a_library_that_cannot_load_is_told_by_its_telling_line_and_quoted_in_the_log(tmp_path: Path) -> None:
    toy.repository(tmp_path)
    seal_noise(tmp_path)
    with serving(tmp_path) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(encode_request("toy", BROKEN, {"input": toy.images(1)}), timeout=10)
        told = f'its artifact could not be loaded: Unable to read the model: "toy/{BROKEN}/model.onnx" Please check'
        assert f"variant 'toy/fp32-openvino' is FAILED: {told}" in caught.value.details()
        assert "Exception from" not in caught.value.details()
        assert f'variant toy/{BROKEN} FAILED: Unable to read the model: "toy/{BROKEN}/model.onnx"' in server.log
        assert "Traceback" in server.log


def said_by(root: Path, **changes: object) -> None:
    """Changes what the manifest of one variant says."""
    path = root / "toy" / BROKEN / "manifest.json"
    path.write_text(to_json(replace(from_json(path.read_text()), **changes)))


@pytest.mark.usefixtures("front")
def test_a_variant_that_this_cpu_lacks_instructions_for_is_failed_with_that_reason(tmp_path: Path) -> None:
    said_by(toy.repository(tmp_path), requires=("steam", "quantum"))
    with serving(tmp_path) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(encode_request("toy", BROKEN, {"input": toy.images(1)}), timeout=10)
        reason = f"needs a CPU with one of steam, quantum, this one has {', '.join(instruction_sets())}"
        assert caught.value.details() == f"variant 'toy/{BROKEN}' is FAILED: {reason}"
        assert state(server, HEALTHY) == ["READY"]


def test_a_variant_that_was_measured_elsewhere_is_served_and_says_so(tmp_path: Path) -> None:
    said_by(toy.repository(tmp_path), machine=replace(toy.MACHINE, cpu="Other CPU", instruction_sets=("avx2", "fma")))
    with serving(tmp_path) as server, server.stub() as stub:
        assert stub.ModelReady(pb.ModelReadyRequest(name="toy", version=BROKEN), timeout=10).ready
        told = (
            f"variant toy/{BROKEN} was measured on Other CPU (avx2 fma), not on this CPU: its latency will be another"
        )
        assert told in server.log
        assert f"variant toy/{HEALTHY} was measured" not in server.log
        asked = pb.ModelConfigRequest(name="toy", version=BROKEN)
        parameters = stub.ModelConfig(asked, timeout=10).config.parameters
        assert [parameters[name].string_value for name in ("measured", "measured_on")] == [
            "elsewhere",
            "Other CPU (avx2 fma)",
        ]
        infos = {dict(labels)["variant"]: dict(labels) for name, labels in server.metrics() if "variant_info" in name}
        assert [infos[name]["measured"] for name in (HEALTHY, BROKEN)] == ["here", "elsewhere"]


def test_a_telling_line_with_a_path_of_this_machine_is_in_the_log_only(tmp_path: Path) -> None:
    """A packed artifact is loaded from a folder of its own, elsewhere."""
    toy.repository(tmp_path)
    seal_noise(tmp_path, packed=True)
    with serving(tmp_path) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(encode_request("toy", BROKEN, {"input": toy.images(1)}), timeout=10)
        assert caught.value.details() == "variant 'toy/fp32-openvino' is FAILED: its artifact could not be loaded"
        assert f'variant toy/{BROKEN} FAILED: Unable to read the model: "{tempfile.gettempdir()}/pareto-' in server.log


def test_a_damaged_golden_set_fails_all_variants_of_its_model(tmp_path: Path) -> None:
    (toy.repository(tmp_path) / "toy" / "golden.npz").write_bytes(b"PK")
    with serving(tmp_path, ready=False) as server, server.stub() as stub:
        assert [state(server, HEALTHY), state(server, BROKEN)] == [["FAILED"], ["FAILED"]]
        assert stub.ServerLive(pb.ServerLiveRequest(), timeout=10).live
        assert not stub.ServerReady(pb.ServerReadyRequest(), timeout=10).ready
        assert [health(server, service) for service in ("", "inference.GRPCInferenceService", "toy")] == [
            NOT_SERVING
        ] * 3


def test_an_empty_repository_is_live_and_not_ready(tmp_path: Path) -> None:
    with serving(tmp_path, ready=False) as server, server.stub() as stub:
        assert stub.ServerLive(pb.ServerLiveRequest(), timeout=10).live
        assert not stub.ServerReady(pb.ServerReadyRequest(), timeout=10).ready


def test_the_promoted_variant_answers_a_request_without_version(tmp_path: Path) -> None:
    promote(toy.repository(tmp_path), "toy", "fp32-openvino")
    with serving(tmp_path) as server, server.stub() as stub:
        response = stub.ModelInfer(encode_request("toy", "", {"input": toy.images(1)}), timeout=10)
        assert response.model_version == "fp32-openvino"


@pytest.mark.usefixtures("front")
def test_a_default_that_does_not_exist_is_not_found_and_versions_still_answer(tmp_path: Path) -> None:
    promote(toy.repository(tmp_path), "toy", "fp32-openvino")
    shutil.rmtree(tmp_path / "toy" / "fp32-openvino")
    with serving(tmp_path) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(encode_request("toy", "", {"input": toy.images(1)}), timeout=10)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        assert "its default 'fp32-openvino' is missing" in caught.value.details()
        assert health(server, "toy") == NOT_SERVING
        request = encode_request("toy", HEALTHY, {"input": toy.images(1)})
        assert stub.ModelInfer(request, timeout=10).model_version == HEALTHY


def test_a_damaged_default_is_one_that_does_not_exist(tmp_path: Path) -> None:
    (toy.repository(tmp_path) / "toy" / "default").write_bytes(b"\xff\xfe")
    with serving(tmp_path) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(encode_request("toy", "", {"input": toy.images(1)}), timeout=10)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        assert "its default '\ufffd\ufffd' is missing" in caught.value.details()
        for variant in (HEALTHY, BROKEN):
            request = encode_request("toy", variant, {"input": toy.images(1)})
            assert stub.ModelInfer(request, timeout=10).model_version == variant


def test_what_only_leaves_out_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    root = toy.repository(tmp_path)
    with serving(root, "--only", f"toy/{BROKEN}") as server, server.stub() as stub:
        assert [row.version for row in stub.RepositoryIndex(pb.RepositoryIndexRequest()).models] == [BROKEN]
        with pytest.raises(grpc.RpcError, match=f"got variant '{HEALTHY}', expected one of") as caught:
            stub.ModelInfer(encode_request("toy", HEALTHY, {"input": toy.images(1)}), timeout=10)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_name_for_only_that_the_repository_lacks_is_refused(tmp_path: Path) -> None:
    root = toy.repository(tmp_path)
    said = refusal("--repository", str(root), "--only", f"toy/{HEALTHY},toy/nope")
    assert said == "pareto-serve: --only: got 'toy/nope', which the repository does not hold"


def test_a_golden_check_waits_for_a_slot_as_executions_do(repository: Path) -> None:
    async def run() -> None:
        async with running(repository, threads=available_cores()) as server:
            registry = server.registry
            with registry._slots:  # the only one
                opening = asyncio.create_task(registry._loader.load(registry.all()[0].entry))
                await eventually(registry._slots.waiting, 1)
            (await opening).runtime.close()

    asyncio.run(run())


def test_artifacts_are_loaded_one_at_a_time(repository: Path) -> None:
    class Noting(Loader):
        """Notes what it loads, and what while another is being loaded."""

        def open(self, entry: Entry) -> Loaded:
            loads.append(entry.name)
            overlaps.extend([entry.name] if loading.locked() else [])
            with loading:
                return super().open(entry)

    async def run() -> None:
        for loaded in await asyncio.gather(*map(loader.load, scan(repository))):
            loaded.runtime.close()

    loading, overlaps, loads = threading.Lock(), [], []
    loader = Noting(repository, 1, Slots(2), make_limits(0, 0.0, ()))
    asyncio.run(run())
    loader.close()
    assert (loads, overlaps) == ([HEALTHY, BROKEN], [])
