"""One repository, and one real server process for each door, for all tests that leave them as they were."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
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
def servers(repository: Path) -> Iterator[Callable[[str], ServerProcess]]:
    """The server of each door, started when a test first needs it."""
    with ExitStack() as running:

        @cache
        def of(front: str) -> ServerProcess:
            flags = ("--front", front, "--max-rows", "4", "--max-message-bytes", str(128 * 1024))
            return running.enter_context(serving(repository, *flags))

        yield of


@pytest.fixture
def server(servers: Callable[[str], ServerProcess], front: str) -> ServerProcess:
    """A server of `repository` that takes at most 4 rows and messages of at most 128 KiB, through each door in turn."""
    return servers(front)


@pytest.fixture
def stub(server: ServerProcess) -> Iterator[GRPCInferenceServiceStub]:
    with server.stub() as stub:
        yield stub
