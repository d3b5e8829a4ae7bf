"""`pareto-serve` with a repository that is kept elsewhere: whole programs, real stores, real sockets."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compressors.build.push import push
from protos.repository import describe_files, publish, read_entry, sha256
from protos.tensors import decode_response, encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.support import toy
from tests.support.processes import finished, python
from tests.support.server.worker_pool import to_each_worker
from tests.support.serving import ROOT, ServerProcess, eventually, serving
from tests.support.stores.servers import KEY, S3, SECRET, Registry, damage

FIRST, SECOND, NEW = "fp32-onnxruntime", "fp32-openvino", "other-onnxruntime"
IMAGES = toy.images(3)
PADDING = 64_000_000
OTHER_URL = "--repository: got another s3 URL, expected s3://BUCKET/FOLDER"


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (folder := tmp_path / "store").mkdir()
    return Registry(folder)


def answer(stub: GRPCInferenceServiceStub, variant: str = "") -> np.ndarray:
    return decode_response(stub.ModelInfer(encode_request("toy", variant, {"input": IMAGES}), timeout=30))["logits"]


def states(server: ServerProcess) -> dict[str, tuple[str, str]]:
    """State and reason of each variant."""
    with server.stub() as stub:
        rows = stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=30).models
    return {row.version: (row.state, row.reason) for row in rows}


def until(server: ServerProcess, wanted: dict[str, str]) -> None:
    asyncio.run(eventually(lambda: {name: state for name, (state, _) in states(server).items()}, wanted))


def start(url: str, cache: str, *flags: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Starts a server that cannot serve; returns its exit code and what it wrote."""
    command = [sys.executable, "-m", "server", "--repository", url, "--repository-cache", cache, *flags]
    given = {**os.environ, "AWS_MAX_ATTEMPTS": "1", **(environment or {})}
    ended = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=100, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.long
def test_two_workers_answer_as_from_the_disk_and_fetch_each_file_once(s3: S3, root: Path, cache: str) -> None:
    push(root, s3.url, [], delete=False)
    before = s3.requests("GET")
    flags = ("--repository-cache", cache, "--workers", "2", "--watch", "0.2")
    with serving(s3.url, *flags) as server, to_each_worker(server, 2) as connections:
        stubs = [GRPCInferenceServiceStub(channel) for _, channel in connections]
        for stub in stubs:
            np.testing.assert_allclose(answer(stub), toy.answer(IMAGES), rtol=1e-5)
        assert s3.requests("GET") - before == 5  # two manifests, one network, the golden set, the default


def test_what_is_pushed_while_a_server_watches_is_served_and_what_is_deleted_is_not(
    registry: Registry, root: Path, cache: str
) -> None:
    with registry.running():
        push(root, registry.url, [], delete=False)
        with serving(registry.url, "--repository-cache", cache, "--watch", "0.1") as server:
            toy.publish_variant(root, "onnxruntime", "other")
            shutil.rmtree(root / "toy" / SECOND)
            push(root, registry.url, [], delete=True)
            until(server, {FIRST: "READY", NEW: "READY"})
            with server.stub() as stub:
                np.testing.assert_allclose(answer(stub, NEW), toy.answer(IMAGES), rtol=1e-5)


def test_a_file_that_was_altered_at_the_store_fails_its_variant_and_the_others_are_served(
    registry: Registry, root: Path, cache: str
) -> None:
    artifact = toy.publish_variant(root, "onnxruntime", "other", factor=[2.0, 2.0, 2.0]) / "model.onnx"
    with registry.running():
        push(root, registry.url, [], delete=False)
        content = bytearray(artifact.read_bytes())
        content[len(content) // 2] ^= 1
        registry.blob(sha256(artifact)).write_bytes(content)
        with serving(registry.url, "--repository-cache", cache) as server:
            found = states(server)
    assert {name: state for name, (state, _) in found.items()} == {FIRST: "READY", SECOND: "READY", NEW: "UNAVAILABLE"}
    assert found[NEW][1].startswith("file 'model.onnx' was altered: sha256 ")


def test_what_was_published_damaged_is_served_once_the_store_has_it_whole(
    registry: Registry, root: Path, cache: str
) -> None:
    toy.publish_variant(root, "onnxruntime", "other", factor=[2.0, 2.0, 2.0])
    pixels = toy.publish_pixels(root)
    with registry.running():
        push(root, registry.url, [], delete=False)
        damage(registry.url, f"toy/{NEW}/model.onnx", f"toy/{pixels}/golden.npz")
        with serving(registry.url, "--repository-cache", cache, "--watch", "0.1") as server:
            until(server, {FIRST: "READY", SECOND: "READY", NEW: "UNAVAILABLE", pixels: "UNAVAILABLE"})
            push(root, registry.url, [], delete=False)
            until(server, {FIRST: "READY", SECOND: "READY", NEW: "READY", pixels: "READY"})


@pytest.mark.long
def test_a_server_that_is_killed_while_it_fetches_leaves_nothing_half_and_the_next_one_serves(
    registry: Registry, root: Path, cache: str
) -> None:
    _pad(root)
    with registry.running() as process:
        push(root, registry.url, [], delete=False)
        flags = ("--repository-cache", cache, "--port", "0", "--metrics-port", "0", "--repository", registry.url)
        server = ServerProcess([*flags])
        asyncio.run(eventually(lambda: _is_partly_fetched(cache)))
        process.send_signal(signal.SIGSTOP)
        server.signal(signal.SIGKILL)
        server.stop()
        process.send_signal(signal.SIGCONT)
        assert _is_partly_fetched(cache)
        assert not [*Path(cache).glob("*/toy/*/manifest.json")]
        with serving(registry.url, "--repository-cache", cache) as server, server.stub() as stub:
            np.testing.assert_allclose(answer(stub), toy.answer(IMAGES), rtol=1e-5)
    assert not [*Path(cache).glob("*/.incoming/*")]


@pytest.mark.long
def test_a_server_that_is_told_to_stop_does_not_wait_for_what_it_fetches(
    registry: Registry, root: Path, cache: str
) -> None:
    with registry.running() as process:
        push(root, registry.url, [], delete=False)
        with serving(registry.url, "--repository-cache", cache, "--watch", "0.1") as server:
            _pad(root)
            push(root, registry.url, [], delete=False)
            asyncio.run(eventually(lambda: _is_partly_fetched(cache)))
            process.send_signal(signal.SIGSTOP)
            server.signal()
            assert server.wait(20) == 0
            assert _is_partly_fetched(cache)
        process.send_signal(signal.SIGCONT)


@pytest.mark.long
def test_a_store_that_goes_away_is_asked_again_and_what_is_served_stays_served(
    registry: Registry, root: Path, cache: str
) -> None:
    with registry.running():
        push(root, registry.url, [], delete=False)
        server = ServerProcess(
            [
                *("--repository", registry.url, "--repository-cache", cache, "--watch", "0.1"),
                *("--port", "0", "--metrics-port", "0", "--drain-notice", "0"),
            ]
        )
        server.wait_until_loaded()
    try:
        server.wait_for_log(rf"WARNING server.hosting.mirror {registry.url}: .*; what is served stays served")
        with server.stub() as stub:
            np.testing.assert_allclose(answer(stub), toy.answer(IMAGES), rtol=1e-5)
        toy.publish_variant(root, "onnxruntime", "other")
        with registry.running():
            push(root, registry.url, [], delete=False)
            until(server, {FIRST: "READY", SECOND: "READY", NEW: "READY"})
        assert server.log.count("what is served stays served") < 5
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("oci://127.0.0.1:9/team/models", "oci://127.0.0.1:9/team/models: HTTPConnectionPool(host='127.0.0.1'"),
        ("s3://user:hidden@bucket/models", f"{OTHER_URL}, without credentials"),
        ("ftp://user:hidden@host/models", "--repository: got a URL of another scheme, expected a folder or one of"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line_and_exit_code_2(url: str, said: str, cache: str) -> None:
    code, text = start(url, cache)
    assert (code, text.startswith(f"pareto-serve: {said}"), text.count("\n")) == (2, True, 1)
    assert "hidden" not in text


@pytest.mark.long
@pytest.mark.parametrize(
    ("url", "environment", "said"),
    [
        ("{s3}/none", {}, "{s3}/none: got nothing there, expected MODEL/VARIANT/manifest.json"),
        ("s3://nowhere/models", {}, "s3://nowhere/models: The specified bucket does not exist"),
        ("{s3}", {"AWS_SECRET_ACCESS_KEY": "hidden"}, "{s3}: The request signature we calculated does not match"),
        ("{s3}", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "{s3}: Could not connect to the endpoint URL"),
    ],
)
def test_s3_that_cannot_be_read_is_one_line_without_secrets_and_exit_code_2(
    s3: S3, cache: str, url: str, environment: dict[str, str], said: str
) -> None:
    code, text = start(url.format(s3=s3.url), cache, "--log-level", "debug", environment=environment)
    (line,) = [line for line in text.splitlines() if " DEBUG " not in line]
    assert (code, line[: len("pareto-serve: ")]) == (2, "pareto-serve: ")
    assert line.removeprefix("pareto-serve: ").startswith(said.format(s3=s3.url))
    assert not [secret for secret in (KEY, SECRET, "hidden", "Authorization") if secret in text]


@pytest.mark.long
def test_debug_logs_hold_no_credentials(s3: S3, root: Path, cache: str) -> None:
    push(root, s3.url, [], delete=False)
    with serving(s3.url, "--repository-cache", cache, "--log-level", "debug") as server:
        pass
    assert "files fetched" in server.log
    assert not [secret for secret in (KEY, SECRET, "AWS4-HMAC", "Authorization") if secret in server.log]


MISSING = "import sys; sys.modules[sys.argv.pop(1)] = None; from server.__main__ import main; sys.exit(main())"
LIBRARIES = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub", "oci": "oras"}


@pytest.mark.parametrize(("scheme", "library"), LIBRARIES.items())
def test_a_library_that_is_missing_is_named_by_its_extra(scheme: str, library: str, cache: str) -> None:
    flags = ("--repository", f"{scheme}://host/models", "--repository-cache", cache)
    ended = finished(python(MISSING, library, *flags))
    said = f"pareto-serve: {scheme}:// needs a library: pip install 'paretoserve[{scheme}]'\n"
    assert (ended.returncode, ended.stderr) == (2, said)


def test_a_name_for_only_that_the_store_lacks_is_refused_as_that_of_a_folder_and_nothing_is_fetched(
    registry: Registry, root: Path, cache: str
) -> None:
    with registry.running():
        push(root, registry.url, [], delete=False)
        code, text = start(registry.url, cache, "--only", "toy/nope")
    refused = "pareto-serve: --only: got 'toy/nope', which the repository does not hold"
    assert (code, text.splitlines()[-1]) == (2, refused)
    assert not [*Path(cache).glob("files/*")]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (file := tmp_path / "file").touch()
    code, text = start("oci://127.0.0.1:9/team/models", str(file))
    assert (code, text) == (2, f"pareto-serve: --repository-cache: '{file}' cannot be used: Not a directory\n")


def _pad(root: Path) -> None:
    """Publishes the first variant once more, with a file of `PADDING` random bytes."""
    variant = read_entry(root / "toy" / FIRST).variant
    assert variant is not None
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(root / "toy" / FIRST / "model.onnx", folder)
        (Path(folder) / "padding").write_bytes(os.urandom(PADDING))
        publish(root, replace(variant, files=describe_files(Path(folder))), Path(folder))


def _is_partly_fetched(cache: str) -> bool:
    """Returns whether some of the padding is there, and not all."""
    files = Path(cache).glob("*/.incoming/*")
    return any(1_000_000 < file.stat().st_size < PADDING for file in files if file.exists())
