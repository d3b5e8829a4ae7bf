"""One server and one run for all tests that only look at what a run leaves behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import toy
from tests.support.loadtest.runs import Run, flags, loadtest
from tests.support.serving import ServerProcess, serving


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.repository(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[ServerProcess]:
    with serving(repository) as process:
        yield process


@pytest.fixture(scope="session")
def run(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "new" / "toy"
    with serving(repository) as server:  # of its own: its counters are compared
        done = loadtest(*flags(server, repository, out))
        return Run(out, done.stdout, done.stderr, done.returncode, server.metrics())
