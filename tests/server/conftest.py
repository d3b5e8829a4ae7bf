"""One repository and one real server process for all tests that leave both as they were."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.support import toy
from tests.support.serving import ServerProcess, serving


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`toy` in two runtimes, `fp32-onnxruntime` the default. Not to be altered."""
    return toy.repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[ServerProcess]:
    """A server of `repository` that takes at most 4 rows and messages of at most 128 KiB."""
    with serving(repository, "--max-rows", "4", "--max-message-bytes", str(128 * 1024)) as server:
        yield server


@pytest.fixture
def stub(server: ServerProcess) -> Iterator[GRPCInferenceServiceStub]:
    with server.stub() as stub:
        yield stub
